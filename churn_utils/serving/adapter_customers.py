"""Customers that came as a table or as tensors: put together and validated as ``/v1/scores`` does.

An error is named by where its value stood in the body, such as ``dataframe_split.data.3.tenure``
or ``inputs.tenure.data.3``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from churn_utils.data.columns import BY_NAME, CUSTOMER_COLUMNS
from churn_utils.serving.error_responses import MOST_ERRORS
from churn_utils.serving.inference_schemas import DATATYPES, InferenceRequest, Tensor
from churn_utils.serving.mlflow_schemas import Invocation, SplitFrame, without_nan
from churn_utils.serving.request_bodies import list_errors
from churn_utils.serving.request_schemas import MOST_CUSTOMERS, ScoreRequest

Location = tuple[str | int, ...]
# Position of a customer, and what follows in the location of its error: mostly a column.
Locate = Callable[[int, Location], Location]
RECORDS: Location = ("body", "dataframe_records")
SPLIT: Location = ("body", "dataframe_split")
INPUTS: Location = ("body", "inputs")


def read_invocation(body: Invocation) -> list[dict[str, Any]]:
    """Return the customers of a request to MLflow's protocol.

    Raises:
        RequestValidationError: they are not as documented.
    """
    if body.dataframe_split is not None:
        return _read_split(body.dataframe_split)
    return _validate(body.dataframe_records, lambda position, below: (*RECORDS, position, *below))


def _read_split(frame: SplitFrame) -> list[dict[str, Any]]:
    """Return the customers of a data frame whose columns are named once."""
    columns = frame.columns
    _check_columns(columns, (*SPLIT, "columns"))
    customers = []
    for position, row in enumerate(frame.data):
        if len(row) != len(columns):
            message = f"has {len(row)} values for {len(columns)} columns"
            raise _refuse((*SPLIT, "data", position), message)
        values = map(without_nan, row)
        customers.append(dict(zip(columns, values, strict=True)))
    return _validate(customers, lambda position, below: (*SPLIT, "data", position, *below))


def read_tensors(body: InferenceRequest) -> list[dict[str, Any]]:
    """Return the customers of a request to the Open Inference Protocol.

    Raises:
        RequestValidationError: they are not as documented.
    """
    tensors = body.inputs
    names = [tensor.name for tensor in tensors]
    _check_columns(names, INPUTS)
    count = tensors[0].shape[0]
    if not 1 <= count <= MOST_CUSTOMERS:
        message = f"is for {count} customers; it takes 1 to {MOST_CUSTOMERS}"
        raise _refuse((*INPUTS, names[0], "shape"), message)
    columns = [_read_tensor(tensor, count) for tensor in tensors]
    customers = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    def locate(position: int, below: Location) -> Location:
        name, *rest = below
        return (*INPUTS, name, "data", position, *rest)

    return _validate(customers, locate)


def _read_tensor(tensor: Tensor, count: int) -> list[Any]:
    """Return the values of a tensor, one for each of ``count`` customers."""
    location = (*INPUTS, tensor.name)
    allowed = DATATYPES[BY_NAME[tensor.name].type]
    if tensor.datatype not in allowed:
        message = f"is {tensor.datatype}; the column takes {', '.join(sorted(set(allowed)))}"
        raise _refuse((*location, "datatype"), message)
    if tensor.shape not in ([count], [count, 1]):
        message = f"is {tensor.shape}; with {count} customers it must be [{count}] or [{count}, 1]"
        raise _refuse((*location, "shape"), message)
    if len(tensor.data) != count:
        message = f"has {len(tensor.data)} values; the shape says {count}"
        raise _refuse((*location, "data"), message)
    return [without_nan(_unwrap(value, tensor.shape)) for value in tensor.data]


def _unwrap(value: Any, shape: list[int]) -> Any:
    """Return the value of a row; rows of shape ``[n, 1]`` may be lists of one value."""
    is_row = isinstance(value, list) and len(value) == 1 and len(shape) > 1
    return value[0] if is_row else value


def _check_columns(names: Sequence[str], location: Location) -> None:
    """Check that every column of a customer is there once, and no other.

    Raises:
        RequestValidationError: names the first ones that are not.
    """
    counts = Counter(names)
    messages = [f"lacks {name}" for name in CUSTOMER_COLUMNS if name not in counts]
    for name, count in counts.items():
        if name not in CUSTOMER_COLUMNS:
            messages.append(f"has {name!r}, which is no column of a customer")
        elif count > 1:
            messages.append(f"has {name} {count} times")
    if messages:
        errors = [_describe(location, message) for message in messages[:MOST_ERRORS]]
        raise RequestValidationError(errors)


def _validate(customers: list[dict[str, Any]], locate: Locate) -> list[dict[str, Any]]:
    """Validate customers; ``locate`` gives the location of an error in the body that was sent."""
    content = {"customers": customers}
    try:
        valid = ScoreRequest.model_validate(content)
    except ValidationError as error:
        found = list_errors(ScoreRequest, content, error)
        errors = [{**entry, "loc": locate(entry["loc"][2], entry["loc"][3:])} for entry in found]
        raise RequestValidationError(errors) from error
    return [dict(customer) for customer in valid.customers]


def _refuse(location: Location, message: str) -> RequestValidationError:
    """Return the error of one part of the body."""
    return RequestValidationError([_describe(location, message)])


def _describe(location: Location, message: str) -> dict[str, Any]:
    return {"type": "value_error", "loc": location, "msg": message}
