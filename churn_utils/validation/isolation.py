"""Call functions in a fresh process with a time limit: what a challenger raises, hangs on or kills stays in there.

A server process, started without anything of the caller's memory, does the heavy imports once; each call runs in a
fork of it (where fork is not safe, in a server of its own). The pipeline has a process that has done these imports, and
offers its kernels a server that is forked from it. Unlike ``multiprocessing`` this also works in kernels that are
daemons.
"""

from __future__ import annotations

import ctypes
import importlib
import math
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import NoReturn

from churn_utils.errors import IsolationError

FORKS = sys.platform.startswith("linux")
PRELOAD = [
    "mlflow.sklearn",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "lightgbm",
    "skops.io",
    "churn_utils.validation.behaviour_probes",
]
ADOPT_ORPHANS = 36  # PR_SET_CHILD_SUBREAPER of prctl(2)
START_SECONDS = 120  # for the imports, on a machine that has other things to do
WALL_PER_CPU = 10  # a call may take so many times its limit of CPU by the clock, on a machine that is busy, or asleep
OFFERED = (
    "CHURN_ISOLATION"  # environment variable: socket of a process that forks servers, see ``offer``
)
_server: tuple[subprocess.Popen | _Fork, Connection] | None = None
_turn = threading.RLock()  # one question at a time
_asking = ThreadPoolExecutor(1)


class _Fork:
    """A server that another process forked, with the part of ``subprocess.Popen`` that is used here."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> int | None:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return -1
        return None

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        """Whoever forked it waits for it."""


def start() -> None:
    """Start the server, if there is none; does not wait for its imports, but for a question that is being answered."""
    global _server
    with _turn:
        if _server is None or _server[0].poll() is not None:
            _server = _connect() or _launch()


def _connect() -> tuple[_Fork, Connection] | None:
    """Have a server forked by the process that is offered, if there is one and it answers."""
    address = os.environ.get(OFFERED)
    if not address or not FORKS:
        return None
    try:
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(address)
            connection = Connection(caller.detach())
        return (_Fork(connection.recv()), connection) if connection.poll(10) else None
    except (OSError, EOFError):  # it is gone, or not there yet
        return None


def _launch() -> tuple[subprocess.Popen, Connection]:
    ours, theirs = Pipe()
    handle = theirs.fileno()
    code = f"import sys; sys.path[:] = {sys.path!r}; from churn_utils.validation import isolation; "
    code += f"isolation.serve({handle}, {FORKS}, {PRELOAD})"
    process = subprocess.Popen([sys.executable, "-c", code], pass_fds=[handle])
    theirs.close()
    return process, ours


def submit(function: str, *arguments, seconds: float) -> Future:
    """``call`` in the background; what the environment is now counts."""
    return _asking.submit(call, function, *arguments, seconds=seconds, environment=dict(os.environ))


def call(
    function: str, *arguments, seconds: float, environment: dict[str, str] | None = None
) -> object:
    """Call ``module:name`` in a fresh process and return what it returns.

    Args:
        function: imported there.
        arguments: can be pickled, as can the result.
        seconds: limit of the call's CPU time, rounded up to whole seconds; imports do not count. By the clock it may
            take ``WALL_PER_CPU`` times as long, so that a busy machine does not decide.
        environment: variables that it sees; those of this process when not given.

    Raises:
        IsolationError: it raised (the message names the error), did not answer in time, or its process died.
    """
    with _turn:
        start()
        connection = _server[1]
        try:
            connection.send((function, arguments, environment or dict(os.environ), seconds))
            longest = START_SECONDS + WALL_PER_CPU * seconds
            if not connection.poll(longest):
                raise IsolationError(f"{function} did not answer within {longest:.0f} s.")
            kind, content = connection.recv()
        except (EOFError, OSError) as error:
            raise IsolationError(f"{function} ended its process without an answer.") from error
        except IsolationError:
            stop()
            raise
        if not FORKS:  # it answers once, and must not be taken for alive while it ends
            stop()
    if kind == "done":
        return content
    raise IsolationError(content)


def stop() -> None:
    """End the server, if there is one."""
    global _server
    with _turn:
        if _server is not None:
            _server[0].kill()
            _server[0].wait()
            _server[1].close()
            _server = None


def offer(address: str) -> NoReturn:
    """Fork a server for whoever connects to a socket; runs in a fork of the pipeline's warm process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen()
        while True:
            caller, _ = door.accept()
            if os.fork() == 0:
                door.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                connection = Connection(caller.detach())
                connection.send(os.getpid())
                _serve(connection, forks=True)
                os._exit(0)
            caller.close()


def serve(handle: int, forks: bool, preload: list[str]) -> None:
    """Import, then answer calls until the caller is gone; runs in the server process."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # meant for the caller, whose end closes the connection
    for name in preload:
        importlib.import_module(name)
    _serve(Connection(handle), forks)


def _serve(connection: Connection, forks: bool) -> None:
    """Answer calls until the caller is gone, or one where it may not fork."""
    if forks:
        ctypes.CDLL(None).prctl(ADOPT_ORPHANS, 1, 0, 0, 0)
    while True:
        try:
            request = connection.recv()
        except (EOFError, OSError):
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
        _limit_cpu(math.ceil(seconds))
        _run(function, arguments, environment, sender)
    sender.close()
    try:
        if not receiver.poll(WALL_PER_CPU * seconds):
            return "failed", f"{function} did not answer within {WALL_PER_CPU * seconds:.0f} s."
        return receiver.recv()
    except EOFError:
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
            return "failed", f"{function} did not answer within {seconds:.0f} s of CPU."
        return "failed", f"{function} ended its process without an answer."
    finally:
        receiver.close()
        _end_children()


def _limit_cpu(seconds: int) -> None:
    """Have this process ended by SIGXCPU once it has used so many seconds of CPU, in all of its threads."""
    import resource  # there is none on Windows, where calls are not forked

    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))


def _end_children() -> None:
    """Kill the process of a call and whatever it has started: a child that it left behind is this one's by then."""
    listed = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    while children := [int(pid) for pid in listed.read_text().split()]:
        for child in children:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


def _run(function: str, arguments: tuple, environment: dict, sender: Connection) -> NoReturn:
    sender.send(_answer(function, arguments, environment))
    os._exit(0)


def find_function(name: str, environment: dict[str, str]) -> Callable:
    """Take over the environment of whoever calls from another process, and find the ``module:name`` that it wants."""
    os.environ.clear()  # what this process started with may be gone by now
    os.environ.update(environment)
    module, name = name.split(":")
    return getattr(importlib.import_module(module), name)


def _answer(function: str, arguments: tuple, environment: dict) -> tuple[str, object]:
    try:
        return "done", find_function(function, environment)(*arguments)
    except Exception as error:  # noqa: BLE001 - it is reported where the call came from
        return "failed", f"{type(error).__name__}: {error}"
