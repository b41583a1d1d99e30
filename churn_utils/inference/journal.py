"""Journal of the inference log: entries on disk before an answer leaves (``CHURN_LOG_DURABLE``).

A write-ahead file: entries are lines of JSON in segments, a segment is deleted once its entries are
in the Delta table. A process that is killed leaves segments, which the next one puts into the
table.
"""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from churn_utils import settings

FOLDER = "online/journal"  # in a home


class Segment:
    """A file of the journal, locked as long as its process lives."""

    def __init__(self, folder: Path, columns: Sequence[str]) -> None:
        """Create a file of its own, whose first line names the columns of its entries."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{uuid.uuid4().hex}.jsonl"
        self.descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND)
        _try_to_lock(self.descriptor)
        self.write(orjson.dumps(list(columns), option=orjson.OPT_APPEND_NEWLINE))
        _sync_folder(folder)

    def write(self, data: bytes) -> None:
        """Write bytes; they are on disk after a sync."""
        while data:
            written = os.write(self.descriptor, data)
            data = data[written:]

    def delete(self) -> None:
        """Delete the file: its entries are in the table."""
        self.path.unlink(missing_ok=True)
        os.close(self.descriptor)


class Journal:
    """The segments of one process; the last one takes entries."""

    def __init__(self, columns: Sequence[str]) -> None:
        """Start with one empty segment in this home.

        Args:
            columns: names of the values of an entry; the first two are the id of the prediction
                and the time of its answer.
        """
        self._folder = settings.home() / FOLDER
        self._columns = columns
        self._lock = threading.Lock()  # requests append while the log's thread deletes
        self._segments = [Segment(self._folder, columns)]
        self._next_sync: asyncio.Task | None = None
        self._syncing = asyncio.Lock()

    def append(self, entries: Sequence[tuple]) -> None:
        """Write entries; they are on disk after the next ``sync``.

        Raises:
            OSError: the disk does not take them.
        """
        lines = [orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE) for entry in entries]
        with self._lock:
            self._segments[-1].write(b"".join(lines))

    async def sync(self) -> None:
        """Wait until all entries that were appended are on disk.

        Callers that wait at the same time share one write of the disk.

        Raises:
            OSError: the disk does not take them.
        """
        if self._next_sync is None:
            self._next_sync = asyncio.create_task(self._sync_all())
        await asyncio.shield(self._next_sync)

    async def _sync_all(self) -> None:
        """Sync after the one under way, with all that was appended meanwhile."""
        async with self._syncing:
            self._next_sync = None
            with self._lock:  # a segment may be deleted, and its descriptor used again
                descriptors = [os.dup(segment.descriptor) for segment in self._segments]
            try:
                for descriptor in descriptors:
                    await asyncio.to_thread(os.fsync, descriptor)
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)

    def create_segment(self) -> Segment:
        """Create an empty segment for ``switch_to``: the disk takes some milliseconds."""
        return Segment(self._folder, self._columns)

    def switch_to(self, segment: Segment) -> list[Segment]:
        """Let another segment take the entries from now on; return those before it."""
        with self._lock:
            before = list(self._segments)
            self._segments.append(segment)
        return before

    def delete(self, segments: list[Segment]) -> None:
        """Delete segments whose entries are in the table."""
        with self._lock:
            for segment in segments:
                self._segments.remove(segment)
                segment.delete()

    def close(self) -> None:
        """Delete all segments: every entry is in the table."""
        self.delete(list(self._segments))


@dataclass(frozen=True)
class Orphan:
    """A segment that a process left which has ended; its entries by column."""

    path: Path
    entries: list[dict[str, Any]]


def iterate_orphans() -> Iterator[Orphan]:
    """Read the segments of processes that have ended; each is locked while it is worked on.

    A line that is not whole belongs to no answer: it is left out.
    """
    for path in sorted((settings.home() / FOLDER).glob("*.jsonl")):
        with path.open("rb") as file:
            if _try_to_lock(file.fileno()):  # otherwise its process lives
                yield Orphan(path, _parse_lines(file.read()))


def _try_to_lock(descriptor: int) -> bool:
    """Lock a file until it is closed; return False if another process has locked it."""
    import fcntl  # not on Windows

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _parse_lines(data: bytes) -> list[dict[str, Any]]:
    """Return the entries of a segment."""
    lines = [orjson.loads(line) for line in data.split(b"\n")[:-1]]
    if not lines:
        return []
    columns, *rows = lines
    entries = [dict(zip(columns, row, strict=True)) for row in rows]
    for entry in entries:
        entry["answered_at"] = datetime.fromisoformat(entry["answered_at"])
    return entries


def _sync_folder(folder: Path) -> None:
    """Make the names of new files in a folder survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
