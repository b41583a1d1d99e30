"""The server side of ``isolation``: a warm process that runs each call in a fork of itself.

The server does the heavy imports once and then reads requests from a connection, one at a time.
Where fork is not safe (anywhere but Linux) it answers a single request itself and ends.
"""

from __future__ import annotations

import ctypes
import importlib
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import NoReturn

FORKS = sys.platform.startswith("linux")
# Options of prctl(2): the signal that this process gets when the thread that started it ends, and
# that orphans of this process's children become its own.
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
# A call may take so many times its CPU limit by the clock, on a machine that is busy or asleep.
WALL_PER_CPU = 10


@dataclass(frozen=True)
class Request:
    """A call that is to be run."""

    function: str  # ``module:name``
    arguments: tuple
    environment: dict[str, str]  # that the call sees, in place of the server's
    seconds: float  # limit of CPU time


@dataclass(frozen=True)
class Reply:
    """The result of a call, or the description of what went wrong."""

    succeeded: bool
    content: object


def kill_with_parent() -> None:
    """Have the system kill this process when its parent ends, whatever it is doing; Linux only."""
    if FORKS:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def serve(handle: int, forks: bool, preload: Sequence[str]) -> None:
    """Import modules, then serve until the caller is gone; the main function of a server process.

    ``handle`` is the file descriptor of the connection to the caller. Without ``forks`` one call is
    run and the server ends.
    """
    # An interrupt is meant for the caller; when it ends, the connection closes and so does this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in preload:
        importlib.import_module(name)
    _serve_connection(Connection(handle), forks)


def offer_servers(address: str) -> NoReturn:
    """Fork a server for each process that connects to a socket file.

    Runs in a fork of the pipeline's warm process, which has done the imports already.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the forks
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        while True:
            caller, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                kill_with_parent()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                connection = Connection(caller.detach())
                connection.send(os.getpid())
                _serve_connection(connection, forks=True)
                os._exit(0)
            caller.close()


def find_function(name: str, environment: dict[str, str]) -> Callable:
    """Take over the environment of a caller in another process and return its ``module:name``."""
    os.environ.clear()  # what this process started with may be gone by now
    os.environ.update(environment)
    module, attribute = name.split(":")
    return getattr(importlib.import_module(module), attribute)


def _serve_connection(connection: Connection, forks: bool) -> None:
    """Reply to requests until the caller is gone; to one request where fork is not safe."""
    if forks:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    while True:
        try:
            request: Request = connection.recv()
        except (EOFError, OSError):
            return
        if not forks:
            threading.Thread(target=_end_with_caller, args=(connection,), daemon=True).start()
            connection.send(_run(request))
            return
        connection.send(_run_in_fork(request, connection))


def _end_with_caller(connection: Connection) -> None:
    """End this process when its caller has ended, which sends nothing during a call."""
    wait([connection])
    os._exit(1)


def _run(request: Request) -> Reply:
    try:
        function = find_function(request.function, request.environment)
        return Reply(True, function(*request.arguments))
    except Exception as error:  # noqa: BLE001 - it is raised again where the call came from
        return Reply(False, f"{type(error).__name__}: {error}")


def _run_in_fork(request: Request, caller: Connection) -> Reply:
    """Run a request in a fork; kill the fork when its time is over or the caller has ended."""
    receiver, sender = Pipe(duplex=False)
    child = os.fork()
    if child == 0:
        import resource  # not on Windows, where calls are not forked

        kill_with_parent()
        # SIGXCPU ends this process once all its threads have used so many seconds of CPU.
        seconds = math.ceil(request.seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        sender.send(_run(request))
        os._exit(0)
    sender.close()
    longest = WALL_PER_CPU * request.seconds
    try:
        # The caller sends nothing during a call: its connection is ready when it has ended.
        if receiver not in wait([receiver, caller], longest):
            return Reply(False, f"{request.function} did not answer within {longest:.0f} s.")
        return receiver.recv()
    except EOFError:
        return Reply(False, _explain_death(child, request))
    finally:
        receiver.close()
        _end_children()


def _explain_death(child: int, request: Request) -> str:
    """Say why a fork ended without a reply."""
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        return f"{request.function} did not answer within {request.seconds:.0f} s of CPU."
    return f"{request.function} ended its process without an answer."


def _end_children() -> None:
    """Kill the process of a call and all that it started.

    A process that the call left behind has become a child of this one, as its subreaper.
    """
    listed = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    while children := [int(pid) for pid in listed.read_text().split()]:
        for child in children:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
