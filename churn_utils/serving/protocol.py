"""uvicorn's HTTP protocol with gathered writes, and with limits for what arrives and who connects.

uvicorn writes head and body of a response one after the other, and the event loop hands each to the
system at once. For a small response the second system call, and waking the caller a second time,
cost as much as reading its features.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from churn_utils.serving.error_responses import describe_problem
from churn_utils.serving.middleware import SURPLUS

LINGER_SECONDS = 1.0  # that an idle connection is kept while the server ends


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


@dataclass(frozen=True)
class ConnectionLimits:
    """What callers may use up before the application sees a request."""

    connections: int = 1_000
    per_address: int = 250
    head_bytes: int = 65_536
    seconds: float = 10.0  # for a request's head, for its body, and for taking an answer
    unlimited_addresses: frozenset[str] = frozenset()  # proxies, behind which are many callers


class OpenConnections:
    """The connections of one server that count against its limits."""

    def __init__(self, limits: ConnectionLimits, count_refusal: Callable[[int], None]) -> None:
        """Start without connections; ``count_refusal`` is called with each status of a refusal."""
        self.limits = limits
        self.count_refusal = count_refusal
        self._all: set[ChurnProtocol] = set()
        self._of_address: Counter[str] = Counter()
        self._surplus: dict[ChurnProtocol, None] = {}  # those beyond a limit, oldest first

    def add(self, connection: ChurnProtocol) -> bool:
        """Count a connection; return whether it is beyond a limit."""
        self._all.add(connection)
        self._of_address[connection.address] += 1
        is_surplus = self.is_full_for(connection.address)
        if is_surplus:
            self._surplus[connection] = None
            if len(self._surplus) > self.limits.connections:
                self._abort_one()
        return is_surplus

    def remove(self, connection: ChurnProtocol) -> None:
        """Stop counting a connection."""
        self._all.discard(connection)
        self._surplus.pop(connection, None)
        self._of_address[connection.address] -= 1
        if not self._of_address[connection.address]:
            del self._of_address[connection.address]

    def is_full_for(self, address: str) -> bool:
        """Tell whether more connections are open than allowed, in all or of an address."""
        if len(self._all) > self.limits.connections:
            return True
        if address in self.limits.unlimited_addresses:
            return False
        return self._of_address[address] > self.limits.per_address

    def _abort_one(self) -> None:
        """Abort the oldest surplus connection without a request, else the newest one.

        So connections that only wait cannot keep a health probe out.
        """
        newest = next(reversed(self._surplus))
        idle = (found for found in self._surplus if found is not newest and found.is_idle)
        aborted = next(idle, newest)
        self._surplus.pop(aborted)
        aborted.abort()


class ChurnProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol over a ``GatheringTransport``, with ``ConnectionLimits``.

    uvicorn's own connection limit refuses health probes as well, in plain text, and it has no
    limits for a request that arrives slowly or with a head that does not end. Here a connection
    beyond a limit holds ``SURPLUS`` in the state of its requests, so that the application refuses
    all but probes. A head that is too large or malformed, and a request that arrives too slowly,
    are refused with a problem document, and the connection is closed.
    """

    def __init__(self, *args: Any, open_connections: OpenConnections, **keywords: Any) -> None:
        """Take the connections that this one counts among."""
        super().__init__(*args, **keywords)
        self._open_connections = open_connections
        self._limits = open_connections.limits
        self.address = ""
        self._chunk_bytes = 0  # of what arrived last
        self._holds_other_message = False  # and whether the end of a message is among it
        self._head_bytes = 0  # of the head under way, in the chunks before
        self._is_head_complete = True
        self._is_message_complete = True
        self._deadline: asyncio.TimerHandle | None = None
        self._taking_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection and mark it if it is beyond a limit.

        A connection that sends no request is closed after the keep-alive time.
        """
        # not a Transport by inheritance, but one in all that uvicorn calls
        gathering = cast(asyncio.Transport, GatheringTransport(transport, self.loop))
        super().connection_made(gathering)
        self.address = self.client[0] if self.client else ""
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )
        if self._open_connections.add(self):
            self.app_state = {**self.app_state, SURPLUS: self._is_surplus}

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop counting the connection."""
        self._open_connections.remove(self)
        self._clear_deadline()
        if self._taking_deadline is not None:
            self._taking_deadline.cancel()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def _is_surplus(self) -> bool:
        return self._open_connections.is_full_for(self.address)

    @property
    def _is_with_application(self) -> bool:
        """Whether the application was given the request that is arriving."""
        return self.cycle is not None and self.cycle.scope is self.scope

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def abort(self) -> None:
        """Close the connection at once."""
        self.transport.abort()

    def shutdown(self) -> None:
        """End the connection (called by uvicorn): after the answer under way, or the next one.

        A request may be on its way over a connection that is idle here; closing at once would
        reset it.
        """
        if self.is_idle:
            self.loop.call_later(LINGER_SECONDS, super().shutdown)
        else:
            super().shutdown()

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, and bound what has not ended with it."""
        self._chunk_bytes = len(data)
        self._holds_other_message = False
        super().data_received(data)
        if self._is_message_complete or self.transport.is_closing():
            return
        if not self._is_head_complete and not self._holds_other_message:
            self._head_bytes += len(data)
            if self._head_bytes > self._limits.head_bytes:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, self._say_too_large())
                return
        if self._deadline is None:
            self._deadline = self.loop.call_later(self._limits.seconds, self._end_late_request)

    def _say_too_large(self) -> str:
        return f"The head of the request is larger than {self._limits.head_bytes} bytes."

    def on_message_begin(self) -> None:
        """Note that a request has begun."""
        super().on_message_begin()
        self._head_bytes = 0
        self._is_head_complete = False
        self._is_message_complete = False

    def on_headers_complete(self) -> None:
        """Start the application, unless the head is too large.

        The time for the body starts now.
        """
        self._is_head_complete = True
        self._clear_deadline()
        if self.transport.is_closing():
            return
        # Most heads are smaller for certain, as no more than this has arrived.
        arrived = self._head_bytes + self._chunk_bytes
        if arrived > self._limits.head_bytes and self._measure_head() > self._limits.head_bytes:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, self._say_too_large())
            return
        super().on_headers_complete()

    def _measure_head(self) -> int:
        """Return the bytes of the URL and the header fields."""
        fields = sum(len(name) + len(value) for name, value in self.headers)
        return len(self.url) + fields

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body, unless the request was refused."""
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request is complete, unless it was refused."""
        self._is_message_complete = True
        self._holds_other_message = True  # the chunk, whatever follows in it
        self._clear_deadline()
        if not self.transport.is_closing():
            super().on_message_complete()

    def pause_writing(self) -> None:
        """Stop writing to a caller that does not take its answer; close it after a time."""
        super().pause_writing()
        self._taking_deadline = self.loop.call_later(self._limits.seconds, self.abort)

    def resume_writing(self) -> None:
        """Go on writing."""
        super().resume_writing()
        if self._taking_deadline is not None:
            self._taking_deadline.cancel()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP (called by uvicorn)."""
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end_late_request(self) -> None:
        """Refuse a request whose head or body did not arrive in time."""
        is_answered = self._is_with_application and self.cycle.response_started
        if is_answered or self.transport.is_closing():
            self.abort()
            return
        part = "head"
        if self._is_with_application:
            part = "body"
            # Ends the application's wait for the body; what it sends then is dropped.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        detail = f"The {part} of the request did not arrive within {self._limits.seconds:g} s."
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, detail)

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer with a problem document without the application, and close."""
        if not self._is_with_application:  # which counts its own
            self._open_connections.count_refusal(status)
        self._clear_deadline()
        document = describe_problem(status, detail)
        lines = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            "content-type: application/problem+json",
            f"content-length: {len(document)}",
            "connection: close",
        ]
        head = "\r\n".join(lines) + "\r\n\r\n"
        self.transport.write(head.encode() + document)
        self.transport.close()
