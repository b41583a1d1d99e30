"""Reading a request's body up to a limit, before the application does."""

from __future__ import annotations

from fastapi import Response
from starlette.types import Message, Receive, Scope

from churn_utils.serving.error_responses import problem


async def read_body(
    scope: Scope, headers: dict[bytes, bytes], receive: Receive, most_bytes: int
) -> tuple[Response | None, Receive]:
    """Read the body into ``scope["state"]["body"]``.

    Args:
        scope: ASGI scope of the request.
        headers: of the request, names in lower case.
        receive: from which the body arrives.
        most_bytes: of the body; one that is announced to be larger is not read.

    Returns:
        The refusal (413) of a body that is too large, else None; and the ``receive`` for the
        application, which replays what was read.
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
    if size > most_bytes:
        return problem(scope, 413, too_large), receive
    scope["state"]["body"] = b"".join(message.get("body", b"") for message in messages)
    return None, _replay(messages, receive)


def _replay(messages: list[Message], receive: Receive) -> Receive:
    """Return a ``receive`` that gives the messages first and then what else arrives."""
    waiting = iter(messages)

    async def receive_again() -> Message:
        message = next(waiting, None)
        return await receive() if message is None else message

    return receive_again
