"""Jupyter kernels that are forked from the warm process: 0.1 s instead of 5 to 10 s a notebook.

A kernel provisioner (https://jupyter-client.readthedocs.io/en/stable/provisioning.html), chosen for
this process only, so that JupyterLab is not touched. Where fork is not safe (macOS, Windows)
kernels are ordinary ones.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner
from traitlets.config import Config

from churn_utils import settings
from churn_utils.pipeline import warm_process

NAME = "churn-forked"


def use_forked_kernels() -> bool:
    """Start the warm process and have kernels forked from it; False where fork is not safe."""
    if not warm_process.CAN_FORK:
        return False
    # Set here because the factory reads its environment variable only once, at its first kernel.
    KernelProvisionerFactory.instance().default_provisioner_name = NAME
    warm_process.start()
    return True


def prepare_environment(reports: Path) -> None:
    """Set what kernels inherit: this run's folders, and libraries that stay quiet and offline."""
    os.environ.update(
        CHURN_HOME=str(settings.home()),
        CHURN_RUN_REPORTS=str(reports),
        **settings.TELEMETRY_OFF,
        PLOTLY_RENDERER="plotly_mimetype",
        PYDEVD_DISABLE_FILE_VALIDATION="1",
    )


@contextmanager
def open_channels() -> Iterator[Config]:
    """Configure one kernel, for papermill, to talk over socket files in a folder of its own.

    The usual TCP ports are found free, released, and bound by the kernel a second later; another
    process may take them meanwhile.
    """
    if os.name != "posix":
        yield Config()
        return
    with tempfile.TemporaryDirectory(prefix="churn-") as folder:
        yield Config(KernelManager={"transport": "ipc", "ip": str(Path(folder) / "kernel")})


def _run_kernel(arguments: list[str], environment: dict[str, str], folder: str) -> None:
    """Become an IPython kernel; runs in a fork of the warm process."""
    warm_process.end_with_parent()
    os.setsid()  # a process group of its own: an interrupt at the terminal reaches run_all alone
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(argv=[*arguments, "--quiet", "--log-level=ERROR"])


class _ForkedProcess:
    """A forked process with the part of ``subprocess.Popen`` that a provisioner uses."""

    stdin = stdout = stderr = None

    def __init__(self, arguments: list[str], environment: dict[str, str], folder: str) -> None:
        """Fork a kernel from the warm process."""
        context = multiprocessing.get_context("forkserver")
        launch = (arguments, environment, folder)
        self._process = context.Process(target=_run_kernel, args=launch, daemon=True)
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        return self._process.exitcode

    def wait(self) -> int | None:
        """Wait for the end of the process and return its exit code."""
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.pid is not None and self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class ForkedProvisioner(LocalProvisioner):
    """Launches IPython kernels by fork; everything else is as for local kernels."""

    async def launch_kernel(self, cmd: list[str], **kwargs) -> KernelConnectionInfo:
        """Fork a kernel and return its connection info, as ``LocalProvisioner`` does.

        ``cmd`` would start a kernel and names the connection file after ``-f``; without ``env`` and
        ``cwd`` those of this process count.
        """
        arguments = cmd[cmd.index("-f") :]
        environment = kwargs.get("env") or dict(os.environ)
        folder = kwargs.get("cwd") or str(Path.cwd())
        process = _ForkedProcess(arguments, environment, folder)
        self.process = cast(subprocess.Popen, process)  # it has what a provisioner uses of it
        self.pid = self.pgid = process.pid
        return self.connection_info
