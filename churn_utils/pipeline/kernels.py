"""Jupyter kernels forked from one process that has done the heavy imports: 0.1 s instead of 5 to 10 s a notebook.

A kernel provisioner (https://jupyter-client.readthedocs.io/en/stable/provisioning.html), registered in
pyproject.toml and chosen by ``use_forked_kernels`` for the pipeline's own process only; JupyterLab is not touched.
Where fork is not safe (macOS, Windows) the pipeline uses ordinary kernels.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner
from traitlets.config import Config

from churn_utils.errors import ChurnError
from churn_utils.validation import isolation

NAME = "churn-forked"
PRELOAD = ["churn_utils.pipeline.warm_up"]


def use_forked_kernels() -> bool:
    """Start the process that kernels are forked from; tell whether this platform can do so."""
    if not sys.platform.startswith("linux"):
        return False
    # not by its environment variable: that is read once, so a kernel started earlier would have settled it
    KernelProvisionerFactory.instance().default_provisioner_name = NAME
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    multiprocessing.forkserver.ensure_running()
    return True


@contextmanager
def open_channels() -> Iterator[Config]:
    """Configure one kernel to talk over sockets in a folder of its own, for ``papermill.execute_notebook(config=…)``.

    Ports are found free, let go and bound by the kernel a second later; by then another process may have taken them.
    """
    if os.name != "posix":
        yield Config()
        return
    with tempfile.TemporaryDirectory(prefix="churn-") as folder:
        yield Config(KernelManager={"transport": "ipc", "ip": str(Path(folder) / "kernel")})


@contextmanager
def offer_isolation() -> Iterator[None]:
    """Let kernels question challengers in forks of the warm process meanwhile (see ``isolation``): 4 s less."""
    with tempfile.TemporaryDirectory(prefix="churn-") as folder:  # nobody else may connect
        address = str(Path(folder) / "isolation")
        process = multiprocessing.get_context("forkserver").Process(
            target=_offer, args=(address,), daemon=True
        )
        starting = threading.Thread(
            target=process.start
        )  # it waits for the imports, and there is other work meanwhile
        starting.start()
        os.environ[isolation.OFFERED] = address
        try:
            yield
        finally:
            del os.environ[isolation.OFFERED]
            starting.join()
            process.kill()
            process.join()


def _offer(address: str) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    isolation.offer(address)


def call_in_warm_process(function: str, *arguments, report: Callable[[str], None]) -> object:
    """Call a package function in a fork of the warm process (elsewhere: in a new one) and return its result.

    Args:
        function: ``module:name``, imported there; called with ``arguments`` and a keyword ``report`` for lines of text.
        arguments: can be pickled, as can the result.
        report: called here with each line as it comes.

    Raises:
        Exception: whatever the function raised.
        ChurnError: the process died without an answer.
    """
    context = multiprocessing.get_context(
        "forkserver" if sys.platform.startswith("linux") else "spawn"
    )
    receiver, sender = context.Pipe(duplex=False)
    target = (function, arguments, dict(os.environ), sender)
    process = context.Process(target=_call, args=target, daemon=True)
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


def _call(function: str, arguments: tuple, environment: dict[str, str], sender) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        call = isolation.find_function(function, environment)
        sender.send(("done", call(*arguments, report=lambda line: sender.send(("line", line)))))
    except Exception as error:  # noqa: BLE001 - it is raised again where the call came from
        sender.send(("raised", _make_sendable(error)))


def _make_sendable(error: Exception) -> Exception:
    """The error itself, or its name and text where it would not survive the way (delta-rs's errors do not)."""
    trace = traceback.format_exc()
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - what cannot be sent is told in words
        error = ChurnError(f"{type(error).__name__}: {error}")
    error.add_note(trace)
    return error


def _end_with_parent() -> None:
    """Leave no kernel behind when the pipeline is killed: its own parent is the fork server, which waits for it."""
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _run_kernel(arguments: list[str], environment: dict[str, str], folder: str) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.setsid()  # a group of its own, so that an interrupt at the terminal reaches run_all alone
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(argv=[*arguments, "--quiet", "--log-level=ERROR"])


class _Process:
    """A forked process with the part of ``subprocess.Popen`` that a provisioner uses."""

    stdin = stdout = stderr = None

    def __init__(self, arguments: list[str], environment: dict[str, str], folder: str) -> None:
        context = multiprocessing.get_context("forkserver")
        self._process = context.Process(
            target=_run_kernel, args=(arguments, environment, folder), daemon=True
        )
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class ForkedProvisioner(LocalProvisioner):
    """Launches IPython kernels by fork; everything else is as for local kernels."""

    async def launch_kernel(self, cmd: list[str], **kwargs) -> dict:
        """Fork a kernel for ``cmd``, which names the connection file after ``-f``."""
        arguments = cmd[cmd.index("-f") :]
        self.process = _Process(
            arguments, kwargs.get("env") or dict(os.environ), kwargs.get("cwd") or str(Path.cwd())
        )
        self.pid = self.pgid = self.process.pid
        return self.connection_info
