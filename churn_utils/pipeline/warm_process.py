"""The warm process: multiprocessing's fork server after the heavy imports of ``warm_up``.

Kernels (``kernels``), functions of the package and the gate's isolated calls run in forks of it,
which start in 0.1 s instead of 5 to 10 s. Fork is safe on Linux only.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import pickle
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from churn_utils.errors import ChurnError
from churn_utils.pipeline.plan import Report
from churn_utils.validation import isolation, isolation_server

CAN_FORK = sys.platform.startswith("linux")
PRELOAD = ["churn_utils.pipeline.end_with_run", "churn_utils.pipeline.warm_up"]


def start() -> None:
    """Start the warm process, if it does not run yet; its imports go on in the background."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    multiprocessing.resource_tracker.ensure_running()  # it unblocks what is blocked here
    # Ctrl-C at a terminal reaches this process's children too; it is this one that ends them.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    multiprocessing.forkserver.ensure_running()
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextmanager
def offer_isolation() -> Iterator[None]:
    """Let kernels run the gate's isolated calls in forks of the warm process: 4 s less a gate.

    See ``isolation``, which finds the offer in the environment.
    """
    # A folder of mkdtemp belongs to this user alone, so that no other user can connect.
    with tempfile.TemporaryDirectory(prefix="churn-") as folder:
        address = str(Path(folder) / "isolation")
        context = multiprocessing.get_context("forkserver")
        process = context.Process(target=_offer, args=(address,), daemon=True)
        # Starting waits for the warm process's imports, and there is other work meanwhile.
        starting = threading.Thread(target=process.start)
        starting.start()
        os.environ[isolation.SERVERS_SOCKET] = address
        try:
            yield
        finally:
            del os.environ[isolation.SERVERS_SOCKET]
            starting.join()
            if process.pid is not None:  # else the warm process could not be started
                process.kill()
                process.join()


def _offer(address: str) -> None:
    """Fork servers of isolated calls until the pipeline ends; runs in a fork."""
    end_with_parent()
    isolation_server.offer_servers(address)


def call_in_warm_process(function: str, *arguments: object, report: Report) -> Any:
    """Call a package function in a fork of the warm process and return its result.

    Where fork is not safe it is a new process. Arguments and result can be pickled.

    Args:
        function: ``module:name``; takes ``arguments`` and a keyword ``report``.
        report: called here with each line of text that the function reports there.

    Raises:
        Exception: what the function raised.
        ChurnError: the process ended without a result.
    """
    context: Any = multiprocessing.get_context("forkserver" if CAN_FORK else "spawn")
    receiver, sender = context.Pipe(duplex=False)
    call = (function, arguments, dict(os.environ), sender)
    process = context.Process(target=_call, args=call, daemon=True)
    process.start()
    sender.close()
    try:
        kind, content = receiver.recv()
        while kind == "line":
            report(content)
            kind, content = receiver.recv()
    except EOFError as error:
        process.join()
        raise ChurnError(
            f"{function} ended without an answer (exit code {process.exitcode})."
        ) from error
    process.join()
    if kind == "raised":
        raise content
    return content


def _call(function: str, arguments: tuple, environment: dict[str, str], sender: Connection) -> None:
    """Call a function and send its lines and its result; runs in a fork."""
    end_with_parent()
    try:
        call = isolation_server.find_function(function, environment)
        result = call(*arguments, report=lambda line: sender.send(("line", line)))
        sender.send(("done", result))
    except Exception as error:  # noqa: BLE001 - it is raised again where the call came from
        sender.send(("raised", _make_sendable(error)))


def _make_sendable(error: Exception) -> Exception:
    """Return the error with its traceback as a note.

    An error that cannot be pickled and read back, such as delta-rs's, becomes a ``ChurnError``
    with its name and text.
    """
    trace = traceback.format_exc()
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - pickling may raise anything
        error = ChurnError(f"{type(error).__name__}: {error}")
    error.add_note(trace)
    return error


def end_with_parent() -> None:
    """End this process when the pipeline is killed.

    Linux kills it with the fork server, which is its parent there and ends with the pipeline.
    Elsewhere a thread waits for the end of the pipeline.
    """
    isolation_server.kill_with_parent()
    threading.Thread(target=_exit_after_parent, daemon=True).start()


def _exit_after_parent() -> None:
    """Wait for the end of the process that asked for this fork, then end this one."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # this runs in children only
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
