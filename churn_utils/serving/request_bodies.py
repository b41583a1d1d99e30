"""Read a request's body and validate it, both within bounds."""

from __future__ import annotations

from typing import Any, TypeVar

import orjson
from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.types import Message, Receive, Scope

from churn_utils.data.columns import CUSTOMER_COLUMNS
from churn_utils.serving.error_responses import MOST_ERRORS, problem
from churn_utils.serving.request_checks import Headers
from churn_utils.serving.request_schemas import MOST_CUSTOMERS

Parsed = TypeVar("Parsed", bound=BaseModel)
JSON = b"application/json"
MOST_KEYS = 50  # of an object; the largest that is documented has about 20
# Of a body: what the largest batch has, one more value a customer (an index), and some to spare.
MOST_VALUES = MOST_CUSTOMERS * (len(CUSTOMER_COLUMNS) + 2)
MOST_CONTAINERS = MOST_CUSTOMERS + 200


def parse_body(request: Request, schema: type[Parsed]) -> Parsed:
    """Parse and validate the body that ``ApiMiddleware`` has read.

    Parsing builds each value, list and object of the body, and everybody waits meanwhile: a body
    that may hold more of them than the largest batch is refused before it is parsed. Validation
    builds an error for each field that is wrong or unknown. So that a small body cannot ask for
    many, objects with too many keys are refused before it, the lists of the schemas stop at the
    first item that is wrong, and the items after it are validated one by one until ``MOST_ERRORS``
    errors are found.

    Raises:
        HTTPException: 415 for a body of another kind, or an encoded one.
        RequestValidationError: the body is not JSON, or not as documented; the location of each
            error begins with ``body``, as FastAPI's own do.
    """
    state = request.scope["state"]
    _check_kind(state["header"])
    body = state["body"]
    _check_size(body)
    content = _parse_json(body)
    _check_keys(content, ("body",))
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        raise RequestValidationError(list_errors(schema, content, error)) from error


def _check_kind(headers: Headers) -> None:
    """Refuse a body that is not plain JSON.

    Raises:
        HTTPException: 415.
    """
    named = headers.get(b"content-type", b"")
    is_json = named == JSON or named.partition(b";")[0].strip().lower() == JSON
    encoding = headers.get(b"content-encoding", b"identity").lower()
    if not is_json or encoding != b"identity":
        detail = "The body must be JSON as it is: Content-Type application/json, no encoding."
        raise HTTPException(415, detail)


def _check_size(body: bytes) -> None:
    """Refuse a body that may hold more than the largest batch, by its brackets and commas.

    Those within texts count as well: no value that is documented has one, and ids few.

    Raises:
        RequestValidationError: says how much is allowed.
    """
    containers = body.count(b"{") + body.count(b"[")
    values = body.count(b",") + 1
    if containers > MOST_CONTAINERS:
        message = f"holds {containers} lists and objects; at most {MOST_CONTAINERS} are allowed"
    elif values > MOST_VALUES:
        message = f"holds {values} values; at most {MOST_VALUES} are allowed"
    else:
        return
    raise RequestValidationError([{"type": "too_long", "loc": ("body",), "msg": message}])


def _parse_json(body: bytes) -> Any:
    """Return what a JSON text holds.

    Raises:
        RequestValidationError: it is none.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass  # slower, but it takes NaN, so that validation can name the field that holds it
    try:
        return from_json(body)
    except ValueError as error:
        found = {"type": "json_invalid", "loc": ("body",), "msg": f"Invalid JSON: {error}"}
        raise RequestValidationError([found]) from error


def _check_keys(value: Any, location: tuple) -> None:
    """Refuse an object, or one in its lists, that has more than ``MOST_KEYS`` keys.

    Lists are looked at as far as they may be long.

    Raises:
        RequestValidationError: names the first one.
    """
    if not isinstance(value, dict):
        return
    if len(value) > MOST_KEYS:
        message = f"has {len(value)} keys; at most {MOST_KEYS} are allowed"
        raise RequestValidationError([{"type": "too_long", "loc": location, "msg": message}])
    for name, items in value.items():
        if isinstance(items, list):
            for position, item in enumerate(items[:MOST_CUSTOMERS]):
                if isinstance(item, dict):
                    _check_keys(item, (*location, name, position))


def list_errors(
    schema: type[BaseModel], content: Any, error: ValidationError
) -> list[dict[str, Any]]:
    """List about the first ``MOST_ERRORS`` errors of a body, given those that were found first."""
    found: list[dict[str, Any]] = []
    first_wrong: dict[str, int] = {}  # position in a list of the body
    for entry in error.errors(include_url=False, include_input=False):
        location = entry["loc"]
        if len(location) > 1 and isinstance(location[1], int):
            first_wrong.setdefault(str(location[0]), location[1])
        else:
            found.append({**entry, "loc": ("body", *location)})
    for name, first in first_wrong.items():
        items = content[name][:MOST_CUSTOMERS]
        for position in range(first, len(items)):
            if len(found) >= MOST_ERRORS:
                break
            found += _list_item_errors(schema, name, position, items[position])
    return found


def _list_item_errors(
    schema: type[BaseModel], name: str, position: int, item: Any
) -> list[dict[str, Any]]:
    """List the errors of one item of a list; other fields of the body are left out of them."""
    try:
        schema.model_validate({name: [item]})
    except ValidationError as error:
        entries = error.errors(include_url=False, include_input=False)
        return [
            {**entry, "loc": ("body", name, position, *entry["loc"][2:])}
            for entry in entries
            if entry["loc"][:2] == (name, 0)
        ]
    return []


async def read_body(
    scope: Scope, headers: Headers, receive: Receive, most_bytes: int
) -> tuple[Response | None, Receive]:
    """Read the body into ``scope["state"]["body"]``.

    A body that is announced to have more than ``most_bytes`` is not read.

    Returns:
        The refusal of a body that is too large (413) or did not arrive (408), else None; and the
        ``receive`` for the application, which replays what was read.
    """
    too_large = f"The body is larger than {most_bytes} bytes."
    announced = headers.get(b"content-length", b"0")
    if not announced.isdigit() or int(announced) > most_bytes:
        return problem(scope, 413, too_large), receive
    message = await receive()
    messages = [message]
    size = len(message.get("body", b""))
    while message.get("more_body") and size <= most_bytes:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
    if message["type"] == "http.disconnect":
        # No answer: what came would be taken for the whole body.
        return problem(scope, 408, "The body of the request did not arrive."), receive
    if size > most_bytes:
        return problem(scope, 413, too_large), receive
    scope["state"]["body"] = b"".join(message.get("body", b"") for message in messages)
    return None, _replay(messages, receive)


def _replay(messages: list[Message], receive: Receive) -> Receive:
    """Return a ``receive`` that gives the messages first and then what else arrives."""
    waiting = iter(messages)

    async def receive_again() -> Message:
        """Return the next message."""
        for message in waiting:
            return message
        return await receive()

    return receive_again
