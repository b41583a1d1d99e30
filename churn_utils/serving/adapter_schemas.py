"""Bodies and answers of the protocols that tools expect: MLflow's scoring, Open Inference v2.

The models hold the form of a body alone. The customers in it are validated afterwards, as those of
``schemas.ScoreRequest``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    model_validator,
)

from churn_utils import settings
from churn_utils.data.columns import BY_NAME, CUSTOMER_COLUMNS, DECIMAL, TEXT, WHOLE, ColumnType
from churn_utils.serving import examples
from churn_utils.serving.examples import show_example
from churn_utils.serving.request_bodies import MOST_KEYS
from churn_utils.serving.schemas import MOST_CUSTOMERS, Customer, Problem, Strict

MOST_TENSORS = 50
LONGEST_TEXT = 200  # of an id or a name that a caller gives
EXAMPLE_VALUES = [examples.EXAMPLE_CUSTOMER[name] for name in CUSTOMER_COLUMNS]

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


def without_nan(value: Any) -> Any:
    """Return a value of a frame or tensor, whose only missing number is NaN."""
    is_missing = isinstance(value, float) and value != value
    return None if is_missing else value


def _blank_nan(record: Any) -> Any:
    """Return a record without NaN; what is none is left to the validation."""
    if not isinstance(record, dict):
        return record
    return {name: without_nan(value) for name, value in record.items()}


# documented as a customer; validated as one afterwards
CustomerRecord = Annotated[
    dict[str, Any], BeforeValidator(_blank_nan, json_schema_input_type=Customer)
]


class SplitFrame(Strict):
    """A data frame as ``DataFrame.to_dict(orient="split")`` gives it; the index is not used."""

    model_config = show_example(
        {"columns": list(CUSTOMER_COLUMNS), "index": [0], "data": [EXAMPLE_VALUES]}
    )
    columns: Annotated[list[str], FailFast()] = Field(max_length=MOST_KEYS)
    data: Annotated[list[list[Any]], FailFast()] = Field(min_length=1, max_length=MOST_CUSTOMERS)
    index: list[Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, given: Any) -> Any:
        """Refuse many keys before an error is built for each of them."""
        if isinstance(given, dict) and len(given) > MOST_KEYS:
            raise ValueError(f"has {len(given)} keys; at most {MOST_KEYS} are allowed")
        return given


class Invocation(Strict):
    """Customers as MLflow's clients send them; a missing number may be NaN."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"dataframe_records": [examples.EXAMPLE_CUSTOMER]}]}
    )
    dataframe_split: SplitFrame | None = None
    dataframe_records: Annotated[list[CustomerRecord], FailFast()] = Field(
        default=[], max_length=MOST_CUSTOMERS
    )
    params: dict[str, Any] = Field(default={}, max_length=0, description="The model takes none.")

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.dataframe_split is None) == (not self.dataframe_records):
            raise ValueError("must hold dataframe_split or dataframe_records, one of the two")
        return self


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
