"""Lines of the access log and the application log, written beside the requests.

A reader that stops reading must neither stop the API nor fill its memory: what cannot be kept is
dropped and counted.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

MOST_LINES = 10_000  # that wait to be written
EVERY_SECONDS = 0.5  # lines are written together: a write each would cost as much as a prediction
CLOSE_SECONDS = 2.0  # in which what waits must be written at the end


class LineWriter:
    """Writes lines to an open file in a thread of its own.

    The thread may block for ever in a write, so nothing waits for it without a limit, and it
    writes to the file descriptor: a stream of Python has a lock that the end of the process needs.
    """

    def __init__(self, descriptor: int, most_lines: int = MOST_LINES) -> None:
        """Prepare to write to a file descriptor; ``start`` begins."""
        self.dropped = 0  # lines since the start
        self._descriptor = descriptor
        self._most_lines = most_lines
        self._lines: deque[bytes] = deque()
        self._wake = threading.Event()
        self._is_ending = False
        self._thread = threading.Thread(target=self._run, name="log-lines", daemon=True)

    def append(self, facts: dict[str, Any]) -> None:
        """Keep facts to be written as a line of JSON, or drop them if too many wait."""
        if len(self._lines) >= self._most_lines:
            self.dropped += 1
            return
        line = orjson.dumps(facts, default=str, option=orjson.OPT_APPEND_NEWLINE)
        self._lines.append(line)

    def start(self) -> None:
        """Start writing."""
        self._thread.start()

    def close(self) -> None:
        """Write what waits and stop; give up after ``CLOSE_SECONDS``."""
        self._is_ending = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        """Write until closed."""
        while not self._is_ending:
            self._wake.wait(EVERY_SECONDS)
            self._write_waiting()
        self._write_waiting()

    def _write_waiting(self) -> None:
        """Write the lines that wait; those of a write that fails are dropped."""
        count = len(self._lines)  # others may append meanwhile
        if not count:
            return
        data = b"".join(self._lines.popleft() for _ in range(count))
        try:
            while data:
                written = os.write(self._descriptor, data)
                data = data[written:]
        except OSError:  # a full disk, or a reader that went away: there is nowhere to say so
            self.dropped += count


class LinesHandler(logging.Handler):
    """Hands records of the application log to a ``LineWriter``."""

    def __init__(self, writer: LineWriter) -> None:
        """Hand records to ``writer``."""
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Keep time, level, logger, message and trace of a record."""
        facts = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            facts["trace"] = logging.Formatter().formatException(record.exc_info)
        self._writer.append(facts)


def log_to_standard_error() -> Callable[[], None]:
    """Send the application log to standard error: as JSON lines, or as text on a terminal.

    Returns:
        Function that writes what waits, to be called at the end.
    """
    if sys.stderr.isatty():
        text = "%(asctime)s %(levelname)s %(name)s: %(message)s"
        logging.basicConfig(level=logging.INFO, format=text)
        return lambda: None
    writer = LineWriter(sys.stderr.fileno())
    logging.basicConfig(level=logging.INFO, handlers=[LinesHandler(writer)])
    writer.start()
    return writer.close
