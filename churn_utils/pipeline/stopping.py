"""SIGINT and SIGTERM end a run at once, with a line that says how to go on.

Nothing is waited for: a run goes on where it stopped, however it was ended. This module is imported
before all others and imports nothing that takes time.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field


@dataclass
class Ending:
    """What is said and done when this run is told to end."""

    next_call: str = ""  # the command that goes on
    cleanups: list[Callable[[], object]] = field(default_factory=list)


ending = Ending()  # of the run in this process


def stop_on_signals(next_call: str) -> None:
    """Have SIGINT and SIGTERM end this process with exit code 130 or 143."""
    ending.next_call = next_call
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)


def _stop(number: int, frame: object) -> None:
    """Say how to go on, clean up, and end without waiting for threads or children."""
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    with suppress(Exception):  # the signal may have come while something was written
        sys.stdout.flush()
    start_of_line = "\n" if sys.stderr.isatty() else ""  # after the progress bar
    name = signal.Signals(number).name
    line = f"{start_of_line}run_all.py: stopped by {name}; go on with:  {ending.next_call}\n"
    os.write(sys.stderr.fileno(), line.encode(errors="replace"))
    for clean_up in ending.cleanups:
        clean_up()
    os._exit(128 + number)
