"""Every answer of the API, written to the Delta table ``inference_log`` in the background, in batches.

The queue is bounded and nothing is shed: when it is full, ``has_room`` says so, and the API refuses the request with
503 instead of giving an answer that nobody could account for. A write that fails is kept and tried again. What waits is
in memory: an API that is told to end writes it first, one that is killed (SIGKILL, no memory, no power) loses it, at
most the answers of the last ``CHURN_LOG_SECONDS``, or of as long as the table could not be written.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from datetime import date, datetime

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from churn_utils.data import tables
from churn_utils.features import definitions

TABLE = "inference_log"
FACTS = {
    "prediction_id": pa.string(),  # ordered by time, so files can be skipped when one id is looked for
    "answered_at": pa.timestamp("us", "UTC"),
    "as_of_date": pa.date32(),  # simulated today
    "request_id": pa.string(),
    "route": pa.string(),
    "customer_id": pa.string(),
    "features_as_of": pa.date32(),  # null where the caller gave the features
    "model_version": pa.int64(),
    "arm": pa.string(),  # champion, challenger or shadow; a shadow's answer was never shown
    "churn_probability": pa.float64(),
    "threshold": pa.float64(),
    "decision": pa.string(),
    "expected_value_usd": pa.float64(),
}
SCHEMA = pa.schema(
    list(FACTS.items())
    + [
        (name, pa.type_for_alias(feature.type.arrow))
        for name, feature in definitions.MODEL_INPUTS.items()
    ]
)
WRITES_TO_COMPACT = 100  # each write is a small file; so many are put together into one
ROWS_AT_ONCE = 250  # converted in one go, in 1 ms, during which the thread that answers has to share the interpreter
PAUSE_S = (
    0.005  # after each such part: a batch converted without a pause held every answer of 0.1 s up
)
_DATES = [SCHEMA.get_field_index(name) for name in ("as_of_date", "features_as_of")]
log = logging.getLogger(__name__)


class InferenceLog:
    """A bounded queue of answers and the thread that writes them; entries are tuples in ``SCHEMA`` order."""

    def __init__(self, capacity: int = 100_000, interval_s: float = 2.0) -> None:
        """Keep at most ``capacity`` answers in memory, written every ``interval_s`` seconds or at half of it."""
        self.capacity, self.interval_s = capacity, interval_s
        self.written = self.failures = self._writes = 0
        self._waiting: list[tuple] = []
        self._writing: list[tuple] = []
        self._lock, self._wake, self._ending = threading.Lock(), threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="inference-log", daemon=True)

    def start(self) -> None:
        """Start writing."""
        self._thread.start()

    def __len__(self) -> int:
        """Answers that are not in the table yet."""
        return len(self._waiting) + len(self._writing)

    def has_room(self, count: int) -> bool:
        """Tell whether ``count`` more answers can be taken."""
        return len(self) + count <= self.capacity

    def append(self, entries: Sequence[tuple]) -> None:
        """Take answers; ask ``has_room`` before."""
        with self._lock:
            self._waiting.extend(entries)
        if len(self._waiting) * 2 >= self.capacity:
            self._wake.set()

    def find(self, prediction_id: str) -> dict | None:
        """Find an answer by its id, first among those still waiting, then in the table; None when there is none."""
        with self._lock:
            entry = next(
                (e for e in (*self._waiting, *self._writing) if e[0] == prediction_id), None
            )
        if entry is not None:
            return _to_arrow([entry]).to_pylist()[0]
        if not tables.exists(TABLE):
            return None
        path = str(tables.path_of(TABLE))
        rows = DeltaTable(path).to_pyarrow_dataset(
            filesystem=SubTreeFileSystem(path, LocalFileSystem())
        )
        found = rows.to_table(filter=ds.field("prediction_id") == prediction_id).to_pylist()
        return found[0] if found else None

    def close(self, timeout_s: float = 30.0) -> int:
        """Write what is waiting and stop; return how many answers could not be written (they are logged as lost)."""
        self._ending = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        lost = len(self)
        if lost:
            log.error("inference log closed with %d answer(s) that could not be written", lost)
        return lost

    def _run(self) -> None:
        pause = self.interval_s
        while True:
            self._wake.wait(pause)
            self._wake.clear()
            ending = self._ending
            written = self._write()
            if ending:
                return
            pause = self.interval_s if written else min(2 * pause, 30.0)

    def _write(self) -> bool:
        """Write what is waiting; keep it when that fails."""
        with self._lock:
            self._writing += self._waiting
            self._waiting = []
        if not self._writing:
            return True
        try:
            tables.append(
                TABLE, _to_arrow(self._writing, 0.0 if self._ending else self.interval_s / 2)
            )
            self._writes += 1
        except Exception:  # a full disk must end neither the thread nor the answers that wait
            self.failures += 1
            log.exception(
                "could not write %d answer(s) to %s; will try again", len(self._writing), TABLE
            )
            return False
        with self._lock:
            self.written += len(self._writing)
            self._writing = []
        if self._writes % WRITES_TO_COMPACT == 0:
            self._compact()
        return True

    def _compact(self) -> None:
        try:
            DeltaTable(str(tables.path_of(TABLE))).optimize.compact()
        except (
            Exception
        ):  # another API may compact at the same time; the small files do until the next time
            log.exception("could not compact %s; will try again", TABLE)


def read_answers(since: datetime, months: Sequence[date], columns: list[str]) -> pd.DataFrame:
    """Read the answers shown since a moment about features of some months, oldest first; empty when there are none.

    Only these are read: the table grows with every request, and most are about a month that has no labels yet.
    """
    if not tables.exists(TABLE):
        return pd.DataFrame(columns=columns)
    path = str(tables.path_of(TABLE))
    rows = DeltaTable(path).to_pyarrow_dataset(
        filesystem=SubTreeFileSystem(path, LocalFileSystem())
    )
    wanted = (
        (ds.field("answered_at") >= pa.scalar(since, SCHEMA.field("answered_at").type))
        & ds.field("features_as_of").isin(pa.array(months, pa.date32()))
        & (ds.field("arm") != "shadow")
    )
    found = rows.to_table([*columns, "answered_at", "prediction_id"], wanted)
    found = found.sort_by([("answered_at", "ascending"), ("prediction_id", "ascending")])
    return found.select(columns).to_pandas(date_as_object=False)


def _to_arrow(entries: Sequence[tuple], pauses_s: float = 0.0) -> pa.Table:
    """Turn entries into a table, some at a time, with pauses of at most ``pauses_s`` seconds in all."""
    parts, pause = [], min(PAUSE_S, pauses_s * ROWS_AT_ONCE / len(entries))
    for start in range(0, len(entries), ROWS_AT_ONCE):
        if start:
            time.sleep(pause)
        columns = [
            list(column) for column in zip(*entries[start : start + ROWS_AT_ONCE], strict=True)
        ]
        for at in _DATES:
            columns[at] = [
                None if text is None else date.fromisoformat(text) for text in columns[at]
            ]
        parts.append(
            pa.Table.from_arrays(
                [pa.array(c, t) for c, t in zip(columns, SCHEMA.types, strict=True)], schema=SCHEMA
            )
        )
    return pa.concat_tables(parts)


def build_entry(
    prediction_id: str,
    answered_at: datetime,
    as_of_date: str,
    request_id: str,
    route: str,
    customer_id: str,
    features_as_of: str | None,
    model_version: int,
    arm: str,
    scores: tuple[float, float, str, float],
    inputs: tuple,
) -> tuple:
    """Lay an answer out in ``SCHEMA`` order; ``scores`` are probability, threshold, decision, expected value (USD)."""
    return (
        prediction_id,
        answered_at,
        as_of_date,
        request_id,
        route,
        customer_id,
        features_as_of,
        model_version,
        arm,
        *scores,
        *inputs,
    )
