"""Call functions in a fresh process with a time limit: what a challenger raises, hangs on or kills stays in there.

A server process, started without anything of the caller's memory, does the heavy imports once; each call runs in a
fork of it (where fork is not safe, in a server of its own). Unlike ``multiprocessing`` it also works in kernels that
are daemons.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection, Pipe
from typing import NoReturn

from churn_utils.settings import ChurnError

FORKS = sys.platform.startswith("linux")
PRELOAD = ["mlflow.sklearn", "lightgbm", "skops.io", "churn_utils.probing"]
START_SECONDS = 120  # for the imports, on a machine that has other things to do
_server: tuple[subprocess.Popen, Connection] | None = None


class IsolationError(ChurnError):
    """The function did not answer: it raised, took too long, or its process died."""


def start() -> None:
    """Start the server, if there is none; returns at once, while it imports."""
    global _server
    if _server is not None and _server[0].poll() is None:
        return
    ours, theirs = Pipe()
    handle = theirs.fileno()
    code = f"import sys; sys.path[:] = {sys.path!r}; from churn_utils import isolation; "
    code += f"isolation.serve({handle}, {FORKS}, {PRELOAD})"
    process = subprocess.Popen([sys.executable, "-c", code], pass_fds=[handle])
    theirs.close()
    _server = (process, ours)


def call(function: str, *arguments, seconds: float) -> object:
    """Call ``module:name`` in a fresh process and return what it returns.

    Args:
        function: imported there.
        arguments: can be pickled, as can the result.
        seconds: time limit for the call itself; imports do not count.

    Raises:
        IsolationError: it raised (the message names the error), did not answer in time, or its process died.
    """
    start()
    connection = _server[1]
    try:
        connection.send((function, arguments, dict(os.environ), seconds))
        if not connection.poll(START_SECONDS + seconds):
            raise IsolationError(f"{function} did not answer within {START_SECONDS + seconds:.0f} s.")
        kind, content = connection.recv()
    except (EOFError, OSError) as error:
        raise IsolationError(f"{function} ended its process without an answer.") from error
    except IsolationError:
        stop()
        raise
    if kind == "done":
        return content
    raise IsolationError(content)


def stop() -> None:
    """End the server, if there is one."""
    global _server
    if _server is not None:
        _server[0].kill()
        _server[0].wait()
        _server[1].close()
        _server = None


def serve(handle: int, forks: bool, preload: list[str]) -> None:
    """Answer calls until the caller is gone, or one where it may not fork; runs in the server process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for the caller, whose end closes the connection
    connection = Connection(handle)
    for name in preload:
        importlib.import_module(name)
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        if forks:
            connection.send(_fork(*request))
        else:
            connection.send(_answer(*request[:3]))
            return


def _fork(function: str, arguments: tuple, environment: dict, seconds: float) -> tuple[str, object]:
    """Answer in a fork of this process; kill it when its time is over."""
    receiver, sender = Pipe(duplex=False)
    child = os.fork()
    if child == 0:
        _run(function, arguments, environment, sender)
    sender.close()
    deadline = time.monotonic() + seconds
    try:
        if not receiver.poll(max(0.0, deadline - time.monotonic())):
            return "failed", f"{function} did not answer within {seconds:.0f} s."
        return receiver.recv()
    except EOFError:
        return "failed", f"{function} ended its process without an answer."
    finally:
        receiver.close()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _run(function: str, arguments: tuple, environment: dict, sender: Connection) -> NoReturn:
    sender.send(_answer(function, arguments, environment))
    os._exit(0)


def _answer(function: str, arguments: tuple, environment: dict) -> tuple[str, object]:
    os.environ.update(environment)
    module, name = function.split(":")
    try:
        return "done", getattr(importlib.import_module(module), name)(*arguments)
    except Exception as error:  # noqa: BLE001 - it is reported where the call came from
        return "failed", f"{type(error).__name__}: {error}"
