"""Functions that the tests of isolation call in another process."""

import os
import time
from pathlib import Path


def double(number):
    return 2 * number, os.getpid()


def read_home():
    return os.environ["CHURN_HOME"]


def fail():
    raise ZeroDivisionError("boom")


def hang():
    time.sleep(600)


def spin():
    while True:
        pass


def die():
    os._exit(3)


def leave_behind(path, seconds):
    """Fork a process in a session of its own that would live on, as a challenger could."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            Path(path).write_text(str(os.getpid()))
            time.sleep(600)
        os._exit(0)
    while not Path(path).exists():
        time.sleep(0.01)
    time.sleep(seconds)
    return os.getpid()
