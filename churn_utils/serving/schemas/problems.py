"""What the API answers when it refuses a request: problem documents (RFC 9457)."""

from __future__ import annotations

from pydantic import BaseModel

from churn_utils.serving.schemas.examples import EXAMPLE_FIELD_ERROR, EXAMPLE_PROBLEM, show_example


class FieldError(BaseModel):
    """What is wrong with one field."""

    model_config = show_example(EXAMPLE_FIELD_ERROR)
    field: str
    message: str


class Problem(BaseModel):
    """An error (RFC 9457), with the request id that the log knows it by."""

    model_config = show_example(EXAMPLE_PROBLEM)
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[FieldError] = []
