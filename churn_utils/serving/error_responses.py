"""Error responses: every refusal is a problem document (RFC 9457) without path and trace."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from churn_utils.errors import ChurnError, NotReadyError

MOST_ERRORS = 20  # that one response names
INFERENCE_PROTOCOL = "/v2"  # whose clients look for the member ``error``
log = logging.getLogger(__name__)


def problem(
    scope: Scope,
    status: int,
    detail: str,
    errors: list[dict[str, str]] | None = None,
    retry_after: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Build the response with a ``Problem`` document.

    The state of ``scope`` holds the id of the request; ``errors`` have a ``field`` and a
    ``message`` each; ``retry_after`` is in seconds.
    """
    request_id = scope["state"].get("request_id", "")
    has_error_member = scope["path"].startswith(INFERENCE_PROTOCOL)
    document = describe_problem(status, detail, request_id, errors, has_error_member)
    all_headers = dict(headers or {})
    if retry_after:
        all_headers["Retry-After"] = str(retry_after)
    return Response(document, status, all_headers, media_type="application/problem+json")


def describe_problem(
    status: int,
    detail: str,
    request_id: str = "",
    errors: list[dict[str, str]] | None = None,
    has_error_member: bool = False,
) -> bytes:
    """Return a ``Problem`` document as JSON; with ``error`` it is an ``InferenceProblem``."""
    content: dict[str, Any] = {
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "request_id": request_id,
        "errors": errors or [],
    }
    if has_error_member:
        named = [f"{error['field']}: {error['message']}" for error in errors or []]
        content["error"] = " ".join([detail, "; ".join(named)]).strip()
    return orjson.dumps(content)


def add_error_handlers(app: FastAPI) -> None:
    """Answer foreseen errors with a problem document.

    Any other error is a 500 of ``ApiMiddleware``.
    """
    app.exception_handler(RequestValidationError)(_handle_invalid)
    app.exception_handler(HTTPException)(_handle_http)
    app.exception_handler(NotReadyError)(_handle_not_ready)
    app.exception_handler(ChurnError)(_handle_unavailable)


async def _handle_invalid(request: Request, error: RequestValidationError) -> Response:
    """Return 422 that names the first fields that are wrong."""
    found = error.errors()
    count = f"{MOST_ERRORS} or more" if len(found) >= MOST_ERRORS else str(len(found))
    errors = []
    for entry in found[:MOST_ERRORS]:
        message = entry["msg"].removeprefix("Value error, ")  # pydantic's, before our own words
        errors.append({"field": _name_field(entry), "message": message})
    return problem(request.scope, 422, f"{count} field(s) are not as documented.", errors)


async def _handle_http(request: Request, error: HTTPException) -> Response:
    """Return the framework's own refusals, such as 404 and 405."""
    if error.status_code == 400:  # the framework's status for a body that is not text
        not_json = {"field": "body", "message": "is not JSON"}
        return problem(request.scope, 422, "The body is not JSON.", [not_json])
    return problem(request.scope, error.status_code, str(error.detail), headers=error.headers)


async def _handle_not_ready(request: Request, error: NotReadyError) -> Response:
    """Return 503 with the reason, which is worded for callers and holds no path."""
    return problem(request.scope, 503, str(error), retry_after=1)


async def _handle_unavailable(request: Request, error: ChurnError) -> Response:
    """Return 503 without the reason, which may hold paths and goes to the log."""
    log.error("request %s: %s", request.state.request_id, error)
    detail = "Something that the answer needs is away; try again."
    return problem(request.scope, 503, detail, retry_after=1)


def _name_field(error: dict[str, Any]) -> str:
    """Return the path of a field below the body; ``body`` where it is not JSON."""
    if error["type"] == "json_invalid":
        return "body"
    below_body = [str(part) for part in error["loc"][1:]]
    return ".".join(below_body) or "body"
