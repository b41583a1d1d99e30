"""The API's predictions, written to the Delta table ``inference_log`` in the background.

The queue is bounded and nothing is dropped: when it is full, ``has_room`` says so, and the API
refuses the request with 503 instead of giving an answer that is on no record. A write that fails is
kept and tried again. What waits is in memory: an API that is told to end writes it first, one that
is killed (SIGKILL, no memory, no power) loses it, at most the predictions of the last
``CHURN_LOG_SECONDS``, or of as long as the table could not be written. A durable log
(``CHURN_LOG_DURABLE``) loses none: an answer leaves after its entry is in a journal on disk.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from churn_utils import settings
from churn_utils.data import table_writes
from churn_utils.errors import NotReadyError
from churn_utils.inference import log_retention
from churn_utils.inference.journal import Journal, Segment, iterate_orphans
from churn_utils.inference.log_reading import find_known, find_written, read_time_of_id
from churn_utils.inference.log_retention import TABLE
from churn_utils.inference.log_rows import SCHEMA, to_arrow

WRITES_TO_TIDY = 100  # each write is a small file; so many are put together into one
SECONDS_TO_TIDY = 86_400.0  # also without writes: answers grow too old
LONGEST_PAUSE_S = 30.0  # between two attempts to write
log = logging.getLogger(__name__)


class InferenceLog:
    """A bounded queue of predictions and the thread that writes them.

    Entries are tuples in ``SCHEMA`` order, dates as ISO texts. ``written`` counts those in the
    table, ``failures`` the writes that failed.
    """

    def __init__(
        self,
        capacity: int = 100_000,
        interval_s: float = 2.0,
        is_durable: bool = False,
        retention_months: int = settings.LOG_RETENTION_MONTHS,
    ) -> None:
        """Keep at most ``capacity`` entries, written every ``interval_s`` s or when half full.

        If it is durable, ``sync`` waits until entries are on disk, in a journal. In the table they
        stay for ``retention_months``.
        """
        self.capacity = capacity
        self.interval_s = interval_s
        self.written = 0
        self.failures = 0
        self.recovered = 0  # entries of killed processes
        self.retention_months = retention_months
        self._writes = 0  # since the table was tidied
        self._tidied_at = time.monotonic()
        self._waiting: list[tuple] = []
        self._writing: list[tuple] = []
        self._is_durable = is_durable
        self._journal: Journal | None = None
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="inference-log", daemon=True)

    def start(self) -> None:
        """Start writing."""
        if self._is_durable:
            self._journal = Journal(SCHEMA.names)
        self._thread.start()

    def __len__(self) -> int:
        """Return the number of entries that are not in the table yet."""
        return len(self._waiting) + len(self._writing)

    def has_room(self, count: int) -> bool:
        """Tell whether ``count`` more entries can be taken."""
        return len(self) + count <= self.capacity

    def append(self, entries: Sequence[tuple]) -> None:
        """Take entries; check ``has_room`` before.

        They are written at once when the queue is half full.

        Raises:
            NotReadyError: the journal cannot be written; the entries are not taken.
        """
        with self._lock:
            if self._journal is not None:
                try:
                    self._journal.append(entries)
                except OSError as error:
                    raise _refuse_unrecorded(error) from error
            self._waiting.extend(entries)
        if len(self._waiting) * 2 >= self.capacity:
            self._wake.set()

    async def sync(self) -> None:
        """Wait until the entries that were taken are on disk, if the log is durable.

        Raises:
            NotReadyError: the disk does not take them.
        """
        if self._journal is not None:
            try:
                await self._journal.sync()
            except OSError as error:
                raise _refuse_unrecorded(error) from error

    def find(self, prediction_id: str) -> dict | None:
        """Find a prediction by its id, first among those still waiting, then in the table.

        Returns:
            The columns of ``SCHEMA``; None if there is no such prediction.

        Raises:
            DataError: the table cannot be read, as while the home is cleared.
        """
        with self._lock:
            pending = [*self._waiting, *self._writing]
        for entry in pending:
            if entry[0] == prediction_id:
                return to_arrow([entry]).to_pylist()[0]
        return find_written(prediction_id)

    def close(self, timeout_s: float = 30.0) -> int:
        """Write what is waiting and stop.

        Returns:
            How many entries could not be written; they are logged as lost.
        """
        self._ending = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        lost = len(self)
        if self._journal is not None and not lost:
            self._journal.close()
        if lost:
            log.error("inference log closed with %d answer(s) that could not be written", lost)
        return lost

    def write_waiting(self) -> bool:
        """Write what is waiting and return whether that succeeded; keep it otherwise."""
        if not len(self):
            return True
        pauses_s = 0.0 if self._ending else self.interval_s / 2
        try:
            segments = self._take_waiting()
            table_writes.append(TABLE, to_arrow(self._writing, pauses_s))
        except Exception:  # a full disk must end neither the thread nor the entries that wait
            self.failures += 1
            count = len(self)
            log.exception("could not write %d answer(s) to %s; will try again", count, TABLE)
            return False
        self._writes += 1
        with self._lock:
            self.written += len(self._writing)
            self._writing = []
        if self._journal is not None:
            self._journal.delete(segments)
        return True

    def tidy_if_due(self) -> None:
        """Remove old entries from the table and join its files, every so many writes or seconds."""
        seconds = time.monotonic() - self._tidied_at
        if self._writes < WRITES_TO_TIDY and seconds < SECONDS_TO_TIDY:
            return
        self._writes = 0
        self._tidied_at = time.monotonic()
        try:
            log_retention.tidy(self.retention_months)
        except Exception:  # another API may do so at the same time; it is done next time
            log.exception("could not remove old entries or join files of %s", TABLE)

    def is_expired(self, prediction_id: str) -> bool:
        """Tell whether a prediction is older than the table keeps any, as its id says."""
        created = read_time_of_id(prediction_id)
        oldest = log_retention.oldest_kept(self.retention_months)
        return created is not None and created < oldest

    def _take_waiting(self) -> list[Segment]:
        """Move what waits to what is written; return the journal's segments that hold it."""
        segment = None if self._journal is None else self._journal.create_segment()
        with self._lock:
            self._writing += self._waiting
            self._waiting = []
            if self._journal is None or segment is None:
                return []
            return self._journal.switch_to(segment)

    def _run(self) -> None:
        """Write until the log is closed, after failures at longer and longer intervals."""
        self._recover()
        pause = self.interval_s
        while True:
            self._wake.wait(pause)
            self._wake.clear()
            ending = self._ending
            succeeded = self.write_waiting()
            if ending:
                return
            self.tidy_if_due()
            pause = self.interval_s if succeeded else min(2 * pause, LONGEST_PAUSE_S)

    def _recover(self) -> None:
        """Write what processes that were killed left in their journals."""
        try:
            self.recovered = recover_journals()
        except Exception:  # the answers of this process must be written all the same
            log.exception("journals of the inference log could not be written to %s", TABLE)
        if self.recovered:
            log.warning("%d answer(s) of killed processes were recovered", self.recovered)


def recover_journals() -> int:
    """Write the entries that killed processes left in journals; return their number.

    An entry that had reached the table before its process was killed is not written again.
    """
    count = 0
    for orphan in iterate_orphans():
        known = find_known(orphan.entries)
        new = [entry for entry in orphan.entries if entry["prediction_id"] not in known]
        if new:
            rows = [tuple(entry.get(name) for name in SCHEMA.names) for entry in new]
            table_writes.append(TABLE, to_arrow(rows))
        orphan.path.unlink(missing_ok=True)
        count += len(new)
    return count


def _refuse_unrecorded(error: OSError) -> NotReadyError:
    """Return the refusal of an answer that the disk does not record."""
    log.error("the journal of the inference log cannot be written: %s", error)
    return NotReadyError("The answer cannot be recorded, so none is given; try again.")
