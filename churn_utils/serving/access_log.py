"""The access log: one JSON line per request on standard output."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from typing import Any

import orjson

log = logging.getLogger(__name__)


class AccessLog:
    """Lines that are written together: a write each would cost as much as a prediction."""

    def __init__(self) -> None:
        """Start without lines."""
        self._lines: list[bytes] = []
        self._writing = threading.Lock()

    def append(self, facts: dict[str, Any]) -> None:
        """Keep one line until the next ``write``.

        Args:
            facts: of a request; dates are written as ISO 8601.
        """
        line = orjson.dumps(facts, option=orjson.OPT_APPEND_NEWLINE)
        self._lines.append(line)

    async def keep_writing(self, every_seconds: float = 0.5) -> None:
        """Write the lines again and again, in a thread, and once more when cancelled."""
        try:
            while True:
                await asyncio.sleep(every_seconds)
                await asyncio.to_thread(self.write)
        finally:
            self.write()

    def write(self) -> None:
        """Write what is kept; if that fails, the lines are lost and the log says how many."""
        with self._writing:
            lines = self._lines[:]
            del self._lines[: len(lines)]  # others may append meanwhile
            try:
                # the binary stream, so that it is one piece however the text stream is buffered
                sys.stdout.buffer.write(b"".join(lines))
                sys.stdout.buffer.flush()
            except OSError as error:  # a full disk, or a reader that went away
                count = len(lines)
                log.error("%d line(s) of the access log could not be written: %s", count, error)
