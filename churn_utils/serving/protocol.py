"""uvicorn's HTTP protocol with gathered writes, and with limits for requests and connections."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from churn_utils.serving.connections import OpenConnections
from churn_utils.serving.error_responses import describe_problem
from churn_utils.serving.gathering_transport import GatheringTransport
from churn_utils.serving.middleware import SURPLUS

LINGER_SECONDS = 1.0  # that an idle connection is kept while the server ends


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
