"""What stands before the API's routes: keys, limits, request ids, metrics, access log; and how errors are worded.

A plain ASGI middleware: the framework's own base class for them costs as much as a prediction.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus

import orjson
import uuid_utils
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from starlette.exceptions import HTTPException

from churn_utils.errors import ChurnError, NotReadyError
from churn_utils.serving.metrics import ServingMetrics
from churn_utils.serving.settings import ServingSettings

PROTECTED = "/v1/"
MOST_CALLERS = 10_000  # remembered for the rate limit
COUNTED = {
    "/v1/predictions",
    "/v1/scores",
    "/v1/model",
}  # by their path also when refused before any route is found
SURPLUS = "is_surplus"  # in the state of requests over a connection beyond the limit: tells whether it still is
HEALTH_PATHS = (
    "/healthz",
    "/readyz",
    "/metrics",
)  # who asks these must see an overload, not be shut out by it
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_HEADER = b"x-request-id"
_access_lines: list[bytes] = []  # of the process, as its standard output is
_writing = threading.Lock()
log = logging.getLogger(__name__)


class ApiMiddleware:
    """Lets a request through to the routes, or answers it; counts and logs it in any case."""

    def __init__(self, app: Callable, settings: ServingSettings, metrics: ServingMetrics) -> None:
        """Stand before ``app``."""
        self._settings, self._metrics = settings, metrics
        self._app = self._let_browsers_read(app)
        self._keys = [hashlib.sha256(key).digest() for key in settings.keys]
        self._limiter, self._unauthenticated = (
            RateLimiter(settings.rate_limit),
            RateLimiter(settings.rate_limit),
        )
        self._note_line = _note_access if settings.access_log else None

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0
        headers = dict(scope["headers"])
        given = headers.get(_HEADER, b"")
        request_id = given if REQUEST_ID.fullmatch(given) else str(uuid_utils.uuid7()).encode()
        scope.setdefault("state", {})["request_id"] = request_id.decode()

        async def send_on(message: dict) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((_HEADER, request_id))
            await send(message)

        try:
            refusal = self._refuse(scope, headers)
            if refusal is None:
                refusal, receive = await self._read_body(scope, headers, receive)
            await (self._app if refusal is None else self._let_browsers_read(refusal))(
                scope, receive, send_on
            )
        except (
            Exception
        ):  # whatever was not foreseen is a 500 without detail; raised on, the log has the trace
            if not status:
                failed = problem(
                    scope, 500, "The request could not be handled; the log knows it by its id."
                )
                await self._let_browsers_read(failed)(scope, receive, send_on)
            raise
        finally:
            self._note(scope, status or 500, time.perf_counter() - started)

    def _let_browsers_read(self, app: Callable) -> Callable:
        """Let the origins of the settings read what an application, or a refusal, answers."""
        if not self._settings.origins:
            return app
        return CORSMiddleware(
            app,
            allow_origins=self._settings.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["X-API-Key", "X-Request-ID", "Content-Type"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )

    def _refuse(self, scope: dict, headers: dict[bytes, bytes]) -> Response | None:
        """Answer for a request beyond the limit of connections, without a valid key, or beyond the rate limit."""
        if (
            SURPLUS in scope["state"]
            and scope["path"] not in HEALTH_PATHS
            and scope["state"][SURPLUS]()
        ):
            most = self._settings.max_connections
            return problem(
                scope,
                503,
                f"More than {most} connections are open; see Retry-After.",
                retry_after=1,
            )
        if not scope["path"].startswith(PROTECTED) or self._is_preflight(scope, headers):
            return None
        caller, limiter = (scope.get("client") or ("",))[0].encode(), self._limiter
        refused = False
        if self._keys:
            key = hashlib.sha256(headers.get(b"x-api-key", b"")).digest()
            # hashes of one length, every one compared, in constant time: nothing of a valid key can be timed
            refused = not sum(hmac.compare_digest(key, valid) for valid in self._keys)
            # who has no valid key counts by address, apart from the keys, so that nobody uses up another's rate
            caller, limiter = (caller, self._unauthenticated) if refused else (key, limiter)
        wait = limiter.ask(caller)
        if wait:
            return problem(
                scope, 429, "Too many requests; see Retry-After.", retry_after=max(1, round(wait))
            )
        return (
            problem(scope, 401, "The header X-API-Key must hold a valid key.") if refused else None
        )

    def _is_preflight(self, scope: dict, headers: dict[bytes, bytes]) -> bool:
        """Tell whether a browser asks if it may ask; it cannot send a key with that."""
        asks = scope["method"] == "OPTIONS" and headers.keys() >= {
            b"origin",
            b"access-control-request-method",
        }
        return asks and bool(self._settings.origins)

    async def _read_body(
        self, scope: dict, headers: dict, receive: Callable
    ) -> tuple[Response | None, Callable]:
        """Read the body up to its limit; return the refusal of a larger one, and how the routes are to read it."""
        most = self._settings.max_body_bytes
        announced = headers.get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > most:
            return problem(scope, 413, f"The body is larger than {most} bytes."), receive
        message = await receive()
        parts, size = [message], len(message.get("body", b""))
        while message.get("more_body") and size <= most:
            message = await receive()
            parts.append(message)
            size += len(message.get("body", b""))
        if size > most:
            return problem(scope, 413, f"The body is larger than {most} bytes."), receive
        scope["state"]["body"] = b"".join(
            part.get("body", b"") for part in parts
        )  # so that routes need not ask again
        waiting = iter(parts)

        async def replay() -> dict:
            part = next(waiting, None)
            return part if part is not None else await receive()

        return None, replay

    def _note(self, scope: dict, status: int, seconds: float) -> None:
        """Count the request and write its line; the route's pattern, so that ids do not multiply the series."""
        route = getattr(scope.get("route"), "path", None) or (
            scope["path"] if scope["path"] in COUNTED else "other"
        )
        method = scope["method"] if scope["method"] in ("GET", "POST", "HEAD") else "other"
        self._metrics.seconds_of(route, method, status).observe(seconds)
        if self._note_line is not None:
            self._note_line(
                {
                    "time": datetime.now(UTC),
                    "request_id": scope["state"]["request_id"],
                    "method": scope["method"],
                    "path": scope["path"][:200],
                    "status": status,
                    "milliseconds": round(1000 * seconds, 3),
                    "client": (scope.get("client") or ("",))[0],
                }
            )


class RateLimiter:
    """A token bucket per caller: ``rate`` requests a second on average, twice that at once."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Allow ``rate`` requests a second; 0 allows any number."""
        self._rate, self._clock = rate, clock
        self._buckets: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def ask(self, caller: bytes) -> float:
        """Take one token of a caller: 0 if there was one, else the seconds until there is."""
        if not self._rate:
            return 0.0
        now, most = self._clock(), max(1.0, 2 * self._rate)
        tokens, last = self._buckets.pop(caller, (most, now))
        tokens = min(most, tokens + (now - last) * self._rate)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._rate
        self._buckets[caller] = (tokens - (wait == 0.0), now)
        if len(self._buckets) > MOST_CALLERS:
            self._buckets.popitem(last=False)  # longest unheard of: its bucket is full again
        return wait


def _note_access(facts: dict) -> None:
    """Keep one JSON line until ``flush_access_log`` writes it: a write for each would cost as much as a prediction."""
    _access_lines.append(orjson.dumps(facts, option=orjson.OPT_APPEND_NEWLINE))


async def flush_access_log(every_seconds: float = 0.5) -> None:
    """Write the access log's lines again and again, beside the answers, and once more when cancelled."""
    try:
        while True:
            await asyncio.sleep(every_seconds)
            await asyncio.to_thread(_write_access_lines)
    finally:
        _write_access_lines()


def _write_access_lines() -> None:
    """Write to standard output what was kept, in one piece whether or not the stream has a buffer of its own."""
    with _writing:
        lines = _access_lines[:]
        del _access_lines[: len(lines)]
        try:
            sys.stdout.buffer.write(b"".join(lines))
            sys.stdout.buffer.flush()
        except (
            OSError
        ) as error:  # a full disk or a reader that went away ends neither the log nor the answers
            log.error("%d line(s) of the access log could not be written: %s", len(lines), error)


def problem(
    scope: dict,
    status: int,
    detail: str,
    errors: list[dict] | None = None,
    retry_after: int | None = None,
    headers: dict | None = None,
) -> Response:
    """Word an error as the ``Problem`` document (RFC 9457); it holds no path and no trace."""
    content = {
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "request_id": scope["state"].get("request_id", ""),
        "errors": errors or [],
    }
    extra = {**(headers or {}), **({"Retry-After": str(retry_after)} if retry_after else {})}
    return Response(orjson.dumps(content), status, extra, media_type="application/problem+json")


def add_error_handlers(app: FastAPI) -> None:
    """Give every error that was foreseen the one form; ``ApiMiddleware`` does for all others."""

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        errors = [
            {"field": _name_field(e), "message": e["msg"].removeprefix("Value error, ")}
            for e in error.errors()[:20]
        ]
        return problem(
            request.scope, 422, f"{len(error.errors())} field(s) are not as documented.", errors
        )

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 400:  # the framework's word for a body that is no text
            return problem(
                request.scope,
                422,
                "The body is not JSON.",
                [{"field": "body", "message": "is not JSON"}],
            )
        return problem(request.scope, error.status_code, str(error.detail), headers=error.headers)

    @app.exception_handler(NotReadyError)
    async def _not_ready(request: Request, error: NotReadyError) -> Response:
        return problem(request.scope, 503, str(error), retry_after=1)

    @app.exception_handler(ChurnError)
    async def _unavailable(request: Request, error: ChurnError) -> Response:
        log.error("request %s: %s", request.state.request_id, error)
        return problem(
            request.scope, 503, "Something that the answer needs is away; try again.", retry_after=1
        )


def _name_field(error: dict) -> str:
    """Path of the field below the body, or the body itself where it is no JSON."""
    return (
        "body"
        if error["type"] == "json_invalid"
        else ".".join(map(str, error["loc"][1:])) or "body"
    )
