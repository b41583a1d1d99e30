"""The end of the API's process: requests drain first, and it ends whatever blocks."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

import uvicorn

FINISH_SECONDS = 10  # that requests under way have to end
END_SECONDS = 60.0  # from the end of the drain to that of the process, whatever blocks
log = logging.getLogger(__name__)


@dataclass
class Drain:
    """Whether the process is about to end; requests are still answered then."""

    is_draining: bool = False


class DrainingServer(uvicorn.Server):
    """A server that goes on for a time after SIGTERM, so that no caller sees a reset.

    Meanwhile ``/readyz`` says 503, so that load balancers send nothing more, and each response
    asks its caller to close the connection. Ctrl-C ends the server without a drain.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        drain: Drain,
        drain_seconds: float,
        close_log: Callable[[], None],
    ) -> None:
        """Serve as uvicorn does; ``drain`` is told when the drain begins."""
        super().__init__(config)
        self._drain = drain
        self._close_log = close_log
        self._drain_seconds = drain_seconds
        self._drained_at = 0.0  # on the monotonic clock; 0 before SIGTERM

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain with the first SIGTERM; end with any other signal."""
        if sig == signal.SIGTERM and not self.should_exit and self._drain_seconds:
            self._drain.is_draining = True
            self._drained_at = time.monotonic() + self._drain_seconds
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Do what uvicorn does every 0.1 s; return whether to end now."""
        is_over = await super().on_tick(counter)
        is_forced = self.force_exit
        return is_over and (is_forced or time.monotonic() >= self._drained_at)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept the connections that wait, then end as uvicorn does."""
        end_process_after(END_SECONDS)
        if self._drain.is_draining:
            for server, listening in zip(self.servers, sockets or [], strict=False):
                self._accept_waiting(listening)
                server.close()
        await super().shutdown(sockets)
        self._close_log()  # here, because uvicorn sends itself the signal again afterwards

    def _accept_waiting(self, listening: socket.socket) -> None:
        """Accept every connection that waits: each would be reset when listening ends."""
        loop = asyncio.get_running_loop()
        tasks: set[asyncio.Task] = self.server_state.tasks  # type: ignore[assignment]
        while True:
            try:
                accepted, _ = listening.accept()
            except OSError:  # none waits
                return
            accepted.setblocking(False)
            serving = loop.create_task(loop.connect_accepted_socket(self._build_protocol, accepted))
            tasks.add(serving)
            serving.add_done_callback(tasks.discard)

    def _build_protocol(self) -> asyncio.Protocol:
        """Build the protocol of a connection, as uvicorn does at its start."""
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )


def end_process_after(seconds: float) -> None:
    """End this process after a time, if it is still there: a thread that blocks would hold it."""

    def end() -> None:
        time.sleep(seconds)
        log.error("something blocks the end of the process for %.0f s: it ends now", seconds)
        time.sleep(1)  # for the log
        os._exit(1)

    threading.Thread(target=end, name="end-process", daemon=True).start()
