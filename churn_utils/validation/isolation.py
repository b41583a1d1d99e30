"""Call functions in a process of their own with a time limit.

What a challenger raises, hangs on or kills stays in that process. A server process, started
without anything of the caller's memory, does the heavy imports once; each call runs in a fork of it
(where fork is not safe, in a server of its own). The pipeline has a process that has done these
imports and offers its kernels servers that are forked from it. Unlike ``multiprocessing`` this also
works in kernels that are daemons, and unlike pebble's pools it can be forked from a warm process.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe

from churn_utils.errors import IsolationError
from churn_utils.validation.isolation_server import FORKS, WALL_PER_CPU, Reply, Request

PRELOAD = (
    "mlflow.sklearn",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "lightgbm",
    "skops.io",
    "churn_utils.validation.behaviour_probes",
)
START_SECONDS = 120  # for the imports, on a machine that has other things to do
CONNECT_SECONDS = 10
# Environment variable: socket file of a process that forks servers, see ``offer_servers``.
SERVERS_SOCKET = "CHURN_ISOLATION"


class ForkedProcess:
    """A server that another process forked, with the part of ``subprocess.Popen`` used here."""

    def __init__(
        self,
        pid: int,
    ) -> None:
        """Refer to a running process."""
        self.pid = pid

    def poll(self) -> int | None:
        """Return None while the process runs."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return -1
        return None

    def kill(self) -> None:
        """End the process."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        """Do nothing: the process that forked it waits for it."""


class IsolationServer:
    """The server process as its caller sees it; it is started when needed."""

    def __init__(self, forks: bool = FORKS, preload: Sequence[str] = PRELOAD) -> None:
        """Prepare a server that imports ``preload``; without ``forks`` each call has its own."""
        self.process: subprocess.Popen | ForkedProcess | None = None
        self._connection: Connection | None = None
        self._forks = forks
        self._preload = list(preload)
        self._one_call = threading.RLock()
        self._background = ThreadPoolExecutor(1)

    def start(self) -> None:
        """Start the server if there is none, without waiting for its imports."""
        with self._one_call:
            if self.process is not None and self.process.poll() is None:
                return
            self.stop()
            if not self._connect_to_offered():
                self._launch()

    def submit(
        self,
        function: str,
        *arguments,
        seconds: float,
    ) -> Future:
        """Run ``call`` in the background, with the environment of this moment."""
        return self._background.submit(
            self.call, function, *arguments, seconds=seconds, environment=dict(os.environ)
        )

    def call(
        self,
        function: str,
        *arguments,
        seconds: float,
        environment: dict[str, str] | None = None,
    ) -> object:
        """Call ``module:name`` in a fresh process; arguments and result can be pickled.

        Args:
            seconds: limit of the call's CPU time, rounded up to whole seconds, without imports. By
                the clock it may take ``WALL_PER_CPU`` times as long: a busy machine must not
                decide.
            environment: variables that the call sees; those of this process if None.

        Raises:
            IsolationError: it raised (the message names the error), did not answer in time, or its
                process died.
        """
        request = Request(function, arguments, environment or dict(os.environ), seconds)
        with self._one_call:
            self.start()
            reply = self._exchange(request)
            if not self._forks:  # it has answered its one call and must not be taken for alive
                self.stop()
        if not reply.succeeded:
            raise IsolationError(reply.content)
        return reply.content

    def stop(self) -> None:
        """End the server, if there is one."""
        with self._one_call:
            if self.process is not None:
                self.process.kill()
                self.process.wait()
            if self._connection is not None:
                self._connection.close()
            self.process = None
            self._connection = None

    def _exchange(self, request: Request) -> Reply:
        """Send a request and wait for the reply."""
        connection = self._connection
        longest = START_SECONDS + WALL_PER_CPU * request.seconds
        try:
            if connection is None:
                raise EOFError
            connection.send(request)
            if connection.poll(longest):
                return connection.recv()
        except (EOFError, OSError) as error:
            raise IsolationError(
                f"{request.function} ended its process without an answer."
            ) from error
        self.stop()
        raise IsolationError(f"{request.function} did not answer within {longest:.0f} s.")

    def _connect_to_offered(self) -> bool:
        """Get a server from the process that offers them; return whether that succeeded."""
        address = os.environ.get(SERVERS_SOCKET)
        if not address or not self._forks:
            return False
        try:
            with socket.socket(socket.AF_UNIX) as caller:
                caller.connect(address)
                connection = Connection(caller.detach())
            if not connection.poll(CONNECT_SECONDS):
                return False
            self.process = ForkedProcess(connection.recv())
        except (OSError, EOFError):  # it is gone, or not there yet
            return False
        self._connection = connection
        return True

    def _launch(self) -> None:
        """Start a server as a new Python process."""
        ours, theirs = Pipe()
        handle = theirs.fileno()
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; "
            "from churn_utils.validation import isolation_server; "
            f"isolation_server.serve({handle}, {self._forks}, {self._preload})"
        )
        command = [sys.executable, "-c", code]
        self.process = subprocess.Popen(command, pass_fds=[handle])
        theirs.close()
        self._connection = ours


server = IsolationServer()  # the one of this process
