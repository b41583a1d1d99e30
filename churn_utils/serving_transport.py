"""How answers leave the server: head and body of each in one piece.

uvicorn writes them one after the other, and the event loop hands each to the system at once. For a small answer the
second system call, and the caller's second waking up, cost as much as looking its features up.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


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
    """uvicorn's HTTP protocol over a ``GatheringTransport``."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection up."""
        super().connection_made(GatheringTransport(transport, self.loop))
