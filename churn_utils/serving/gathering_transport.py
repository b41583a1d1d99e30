"""A transport that gathers writes.

uvicorn writes head and body of a response one after the other, and the event loop hands each to the
system at once. For a small response the second system call, and waking the caller a second time,
cost as much as reading its features.
"""

from __future__ import annotations

import asyncio
from typing import Any


class GatheringTransport:
    """A transport that sends the writes of one turn of the event loop together.

    Everything else is the wrapped transport's own.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        """Wrap a transport; the next turn of ``loop`` sends what is written to it."""
        self._transport = transport
        self.is_closing = transport.is_closing  # asked for often: spares __getattr__
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
        if data and not self.is_closing():
            self._transport.write(data)
