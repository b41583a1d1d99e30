"""How connections are limited, and how answers leave the server: head and body of each in one piece.

uvicorn writes them one after the other, and the event loop hands each to the system at once. For a small answer the
second system call, and the caller's second waking up, cost as much as looking its features up.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from churn_utils.serving.middleware import SURPLUS


class GatheringTransport:
    """A transport whose writes of one turn of the event loop leave together; all else is the transport's own."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        """Stand before ``transport``."""
        self._transport, self._loop = transport, loop
        self._waiting: list[bytes] = []

    def __getattr__(self, name: str):
        """Pass everything else on."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Keep data until the loop's next turn."""
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    def close(self) -> None:
        """Write what is kept, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        data = b"".join(self._waiting)
        self._waiting.clear()
        if data and not self._transport.is_closing():
            self._transport.write(data)


class GatheringProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol over a ``GatheringTransport``, with a limit of connections that leaves answers to us.

    uvicorn's own limit refuses whoever asks next, on whichever connection, health probes too, in plain text. Here those
    who came within ``limit_concurrency`` go on; requests over connections beyond hold ``SURPLUS`` in their state, for
    the application to refuse. From twice the limit on connections are closed at once, so that memory is bounded, and
    one that asks nothing is closed as one that asks nothing more is.
    """

    def __init__(self, *args: Any, **keywords: Any) -> None:
        """Take the limit over from uvicorn."""
        super().__init__(*args, **keywords)
        self._most, self.limit_concurrency = self.limit_concurrency, None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection up."""
        super().connection_made(GatheringTransport(transport, self.loop))
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )
        if self._most is None or len(self.connections) <= self._most:
            return
        self.app_state = {**self.app_state, SURPLUS: self.is_surplus}
        if len(self.connections) > 2 * self._most:
            self._unset_keepalive_if_required()
            transport.abort()

    def is_surplus(self) -> bool:
        """Tell whether there are still too many connections for one that came beyond the limit."""
        return len(self.connections) > self._most
