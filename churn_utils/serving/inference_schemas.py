"""Bodies and answers of the Open Inference Protocol v2.

The models hold the form of a body alone. The customers in it are validated afterwards, as those of
``request_schemas.ScoreRequest``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    FailFast,
    Field,
)

from churn_utils import settings
from churn_utils.data.columns import BY_NAME, CUSTOMER_COLUMNS, DECIMAL, TEXT, WHOLE, ColumnType
from churn_utils.serving import examples
from churn_utils.serving.examples import show_example
from churn_utils.serving.request_schemas import Strict
from churn_utils.serving.schemas import Problem

MOST_TENSORS = 50
LONGEST_TEXT = 200  # of an id or a name that a caller gives

Datatype = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BYTES",
]
WHOLE_DATATYPES = (
    *("INT8", "INT16", "INT32", "INT64"),
    *("UINT8", "UINT16", "UINT32", "UINT64"),
)
# The first is the one that the model's metadata names.
DATATYPES: dict[ColumnType, tuple[str, ...]] = {
    TEXT: ("BYTES",),
    WHOLE: ("INT64", *WHOLE_DATATYPES),
    DECIMAL: ("FP64", "FP32", "FP16", *WHOLE_DATATYPES),
}
# What v2 answers with: fields of ``Prediction``.
OutputName = Literal[
    "churn_probability",
    "decision",
    "threshold",
    "expected_value_usd",
    "prediction_id",
    "customer_id",
    "model_version",
    "arm",
]
OUTPUTS: dict[OutputName, Datatype] = {
    "churn_probability": "FP64",
    "decision": "BYTES",
    "threshold": "FP64",
    "expected_value_usd": "FP64",
    "prediction_id": "BYTES",
    "customer_id": "BYTES",
    "model_version": "INT64",
    "arm": "BYTES",
}


class Tensor(Strict):
    """One column of the customers of a request."""

    name: str = Field(max_length=LONGEST_TEXT)
    datatype: Datatype
    shape: list[int] = Field(
        min_length=1, max_length=2, description="[customers] or [customers, 1]."
    )
    data: list[Any] = Field(description="Values, flat or nested as the shape says.")
    parameters: dict[str, Any] | None = Field(default=None, description="Not used.")


class WantedOutput(Strict):
    """An output that the answer is to hold."""

    name: OutputName
    parameters: dict[str, Any] | None = Field(default=None, description="Not used.")


def _show_tensors(values: dict[str, Any], datatypes: Mapping[Any, str]) -> list[dict[str, Any]]:
    """Return tensors that hold one value each."""
    return [
        {"name": name, "datatype": datatypes[name], "shape": [1], "data": [value]}
        for name, value in values.items()
    ]


DATATYPE_OF_COLUMN = {name: DATATYPES[BY_NAME[name].type][0] for name in CUSTOMER_COLUMNS}
_EXAMPLE_OUTPUTS: dict[str, Any] = {name: examples.EXAMPLE_PREDICTION[name] for name in OUTPUTS}


class InferenceRequest(Strict):
    """Customers as clients of the Open Inference Protocol send them: one tensor per column."""

    model_config = show_example(
        {
            "id": "1",
            "inputs": _show_tensors(examples.EXAMPLE_CUSTOMER, DATATYPE_OF_COLUMN),
            "outputs": [{"name": "churn_probability"}, {"name": "prediction_id"}],
            "parameters": {},
        }
    )
    inputs: Annotated[list[Tensor], FailFast()] = Field(min_length=1, max_length=MOST_TENSORS)
    id: str | None = Field(default=None, max_length=LONGEST_TEXT, description="Is returned.")
    outputs: Annotated[list[WantedOutput], FailFast()] = Field(
        default=[], max_length=MOST_TENSORS, description="All, if none is named."
    )
    parameters: dict[str, Any] | None = Field(default=None, description="Not used.")


class OutputTensor(BaseModel):
    """One field of the predictions."""

    name: str
    datatype: Datatype
    shape: list[int]
    data: list[str | int | float]


class InferenceResponse(BaseModel):
    """Predictions in the order of the request; ``GET /v1/predictions/{prediction_id}`` shows each.

    ``model_version`` is that of the first. In an A/B test others may be of another version: the
    output of that name says which.
    """

    model_config = show_example(
        {
            "model_name": settings.MODEL_NAME,
            "model_version": "1",
            "id": "1",
            "outputs": _show_tensors(_EXAMPLE_OUTPUTS, OUTPUTS),
        }
    )
    model_name: str
    model_version: str
    id: str | None = Field(default=None, description="Of the request, if it had one.")
    outputs: list[OutputTensor]


class ServerLive(BaseModel):
    """The process lives."""

    model_config = show_example({"live": True})
    live: bool


class ServerReady(BaseModel):
    """Requests can be answered."""

    model_config = show_example({"ready": True})
    ready: bool


class ModelReady(BaseModel):
    """Requests to a model can be answered."""

    model_config = show_example({"name": settings.MODEL_NAME, "ready": True})
    name: str
    ready: bool


class ServerMetadata(BaseModel):
    """What answers."""

    model_config = show_example({"name": "Telco churn", "version": "1.0.0", "extensions": []})
    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    """An input or output of the model; -1 stands for any number of customers."""

    name: str
    datatype: Datatype
    shape: list[int]


class ModelMetadata(BaseModel):
    """Versions that answer, inputs and outputs of the model."""

    model_config = show_example(
        {
            "name": settings.MODEL_NAME,
            "versions": ["1"],
            "platform": "churn_utils",
            "inputs": [{"name": "tenure", "datatype": "INT64", "shape": [-1]}],
            "outputs": [{"name": "churn_probability", "datatype": "FP64", "shape": [-1]}],
        }
    )
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class InferenceProblem(Problem):
    """An error as ``Problem``, with ``error``, which the Open Inference Protocol asks for."""

    model_config = show_example(examples.EXAMPLE_INFERENCE_PROBLEM)
    error: str
