"""Bodies of MLflow's scoring protocol.

The models hold the form of a body alone. The customers in it are validated afterwards, as those of
``request_schemas.ScoreRequest``.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    model_validator,
)

from churn_utils.data.columns import CUSTOMER_COLUMNS
from churn_utils.serving import examples
from churn_utils.serving.examples import show_example
from churn_utils.serving.request_bodies import MOST_KEYS
from churn_utils.serving.request_schemas import MOST_CUSTOMERS, Customer, Strict

EXAMPLE_VALUES = [examples.EXAMPLE_CUSTOMER[name] for name in CUSTOMER_COLUMNS]


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
