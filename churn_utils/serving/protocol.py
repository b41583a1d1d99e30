"""uvicorn's HTTP protocol with gathered writes and a connection limit that the application answers.

uvicorn writes head and body of a response one after the other, and the event loop hands each to the
system at once. For a small response the second system call, and waking the caller a second time,
cost as much as reading its features.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from churn_utils.serving.middleware import SURPLUS


class GatheringTransport:
    """A transport that sends the writes of one turn of the event loop together.

    Everything else is the wrapped transport's own.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        """Wrap a transport; the next turn of ``loop`` sends what is written to it."""
        self._transport = transport
        self._loop = loop
        self._waiting: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the wrapped transport."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Keep data until the loop's next turn.

        The first piece asks the loop for that turn.
        """
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    def close(self) -> None:
        """Write what is kept, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        """Hand what is kept to the wrapped transport in one write."""
        data = b"".join(self._waiting)
        self._waiting.clear()
        if data and not self._transport.is_closing():
            self._transport.write(data)


class GatheringProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol over a ``GatheringTransport``, with a connection limit of its own.

    uvicorn's limit refuses the next request on any connection, health probes included, in plain
    text. Here connections within ``limit_concurrency`` are served as usual. Requests over further
    connections hold ``SURPLUS`` in their state, so that the application refuses them. From twice
    the limit on, connections are closed at once, which bounds memory. A connection that sends no
    request is closed after the keep-alive time.
    """

    def __init__(self, *args: Any, **keywords: Any) -> None:
        """Take the limit over from uvicorn."""
        super().__init__(*args, **keywords)
        self._most_connections = self.limit_concurrency
        self.limit_concurrency = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, mark it as surplus, or abort it."""
        # not a Transport by inheritance, but one in all that uvicorn calls
        gathering = cast(asyncio.Transport, GatheringTransport(transport, self.loop))
        super().connection_made(gathering)
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )
        if not self.is_surplus():
            return
        self.app_state = {**self.app_state, SURPLUS: self.is_surplus}
        if len(self.connections) > 2 * (self._most_connections or 0):
            self._unset_keepalive_if_required()
            transport.abort()

    def is_surplus(self) -> bool:
        """Tell whether more connections are open than the limit allows."""
        limit = self._most_connections
        return limit is not None and len(self.connections) > limit
