"""ASGI middleware: API keys, rate and body limits, request ids, metrics, access log.

It is written against ASGI itself: the framework's base class for middleware costs as much as a
prediction.
"""

from __future__ import annotations

import re
import time

import uuid_utils
from fastapi import Response
from fastapi.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from churn_utils.serving.error_responses import problem
from churn_utils.serving.log_lines import LineWriter
from churn_utils.serving.metrics import ServingMetrics
from churn_utils.serving.request_bodies import read_body
from churn_utils.serving.request_checks import (
    PROTECTED,
    CallerCheck,
    Headers,
    HostCheck,
    is_probe,
)
from churn_utils.serving.request_records import record_request
from churn_utils.serving.settings import ServingSettings
from churn_utils.serving.shutdown import Drain
from churn_utils.serving.trace_context import NO_TRACE, TRACEPARENT, continue_trace

# in the state of requests over a connection beyond the limit: a function that says if it still is
SURPLUS = "is_surplus"
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
REQUEST_ID_HEADER = b"x-request-id"
# that a page of another origin may send
ALLOWED_HEADERS = ("X-API-Key", "Authorization", "X-Request-ID", "Content-Type", "traceparent")
PREFLIGHT_HEADERS = {b"origin", b"access-control-request-method"}


class ApiMiddleware:
    """Pass a request on to the application, or refuse it; count and log it in any case."""

    def __init__(
        self,
        app: ASGIApp,
        settings: ServingSettings,
        metrics: ServingMetrics,
        access_log: LineWriter | None = None,
        drain: Drain | None = None,
    ) -> None:
        """Wrap ``app``; without ``access_log`` no lines are kept."""
        self._drain = drain or Drain()
        self._settings = settings
        self._metrics = metrics
        self._access_log = access_log
        self._in_progress = 0
        metrics.in_progress.set_function(lambda: self._in_progress)
        self._most_bytes = settings.max_body_bytes
        self._app = self._allow_origins(app)
        self._host_check = HostCheck(settings.hosts)
        self._caller_check = CallerCheck(settings.read_keys(), settings.rate_limit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        self._in_progress += 1
        status = 0
        headers = dict(scope["headers"])
        request_id = _choose_request_id(headers)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id.decode()
        state["header"] = headers
        state["caller"] = ""  # the name of its key, once that is known
        is_head = scope["method"] == "HEAD"
        trace = continue_trace(scope["headers"]) if TRACEPARENT in headers else NO_TRACE
        added = ((REQUEST_ID_HEADER, request_id), *trace.headers)

        async def send_with_id(message: Message) -> None:
            """Send a message of the response, to its head the ids of request and trace."""
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].extend(added)
                if self._drain.is_draining:
                    message["headers"].append((b"connection", b"close"))
            elif is_head:
                message["body"] = b""
            await send(message)

        try:
            refusal = self._refuse(scope, headers)
            if refusal is None:
                refusal, receive = await read_body(scope, headers, receive, self._most_bytes)
            app = self._app if refusal is None else self._allow_origins(refusal)
            # a HEAD is answered as a GET, without its body
            routed = {**scope, "method": "GET"} if is_head else scope
            await app(routed, receive, send_with_id)
            if is_head:
                scope["route"] = routed.get("route")
        except Exception:  # not foreseen: 500 without detail; raised again, so that the log has it
            if not status:
                detail = "The request could not be handled; the log knows it by its id."
                app = self._allow_origins(problem(scope, 500, detail))
                await app(scope, receive, send_with_id)
            raise
        finally:
            self._in_progress -= 1
            seconds = time.perf_counter() - started
            record_request(scope, status or 500, seconds, trace, self._metrics, self._access_log)

    def _allow_origins(self, app: ASGIApp) -> ASGIApp:
        """Let the origins of the settings read the responses of an application, or a refusal."""
        if not self._settings.origins:
            return app
        return CORSMiddleware(
            app,
            allow_origins=self._settings.origins,
            allow_methods=["GET", "POST"],
            allow_headers=ALLOWED_HEADERS,
            expose_headers=["X-Request-ID", "Retry-After", "traceparent"],
        )

    def _refuse(self, scope: Scope, headers: Headers) -> Response | None:
        """Return a refusal for too many connections, a wrong key or too many requests."""
        path = scope["path"]
        if is_probe(path):  # it must see an overload, and names the address of the machine
            return None
        is_surplus = scope["state"].get(SURPLUS)
        if is_surplus is not None and is_surplus():
            limit = self._settings.max_connections
            detail = f"More than {limit} connections are open; see Retry-After."
            return problem(scope, 503, detail, retry_after=1)
        refusal = self._host_check.refuse(scope, headers)
        if refusal is not None or not path.startswith(PROTECTED):
            return refusal
        if self._is_preflight(scope, headers):
            return None
        return self._caller_check.refuse(scope, headers)

    def _is_preflight(self, scope: Scope, headers: Headers) -> bool:
        """Tell whether a browser asks for permission to call (CORS); it cannot send a key then."""
        if scope["method"] != "OPTIONS" or not self._settings.origins:
            return False
        return headers.keys() >= PREFLIGHT_HEADERS


def _choose_request_id(headers: Headers) -> bytes:
    """Return the caller's request id if it is well formed, else a new one."""
    given = headers.get(REQUEST_ID_HEADER, b"")
    if REQUEST_ID.fullmatch(given):
        return given
    created = uuid_utils.uuid7()
    return str(created).encode()
