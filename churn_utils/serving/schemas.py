"""Requests, responses and errors of the API as pydantic models, with an example of each.

A customer's fields are typed as in ``data.columns``.
"""

from __future__ import annotations

import math
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    ValidationInfo,
    create_model,
    field_validator,
)

from churn_utils.data.column_rules import RULES, ColumnRule
from churn_utils.data.columns import BY_NAME, CUSTOMER_COLUMNS, CUSTOMER_ID, TEXT, Column
from churn_utils.data.customer_ids import (
    DOCUMENTED_ID_PATTERN,
    ID_FORM,
    ID_PATTERN,
    LONGEST_ID,
)
from churn_utils.serving import examples
from churn_utils.serving.examples import show_example

MOST_CUSTOMERS = 1_000
RULES_OF_FIELD: dict[str, list[ColumnRule]] = {}
for _rule in RULES:
    RULES_OF_FIELD.setdefault(_rule.column, []).append(_rule)
CustomerId = Annotated[
    str,
    Field(
        max_length=LONGEST_ID,
        pattern=ID_PATTERN,
        description=f"{ID_FORM}.",
        examples=["7590-VHVEG"],
        json_schema_extra={"minLength": 1, "pattern": DOCUMENTED_ID_PATTERN},
    ),
]


class Strict(BaseModel):
    """No type is converted and no unknown field accepted."""

    model_config = ConfigDict(strict=True, extra="forbid", protected_namespaces=())


class PredictionRequest(Strict):
    """Customers to answer for, from their online features."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"customer_ids": ["7590-VHVEG", "5575-GNVDE"]}]}
    )
    customer_ids: Annotated[list[CustomerId], FailFast()] = Field(
        min_length=1, max_length=MOST_CUSTOMERS
    )


class _CustomerRules(Strict):
    """Rules between the fields of a customer, those of ``column_rules.RULES``."""

    @field_validator(*RULES_OF_FIELD, check_fields=False)
    @classmethod
    def _check_rules(cls, value: str | float | None, info: ValidationInfo) -> str | float | None:
        """Check a field against those before it.

        A missing number is NaN, as the rules expect it. A field before it that is wrong in itself
        is not in ``info.data`` and has an error of its own.
        """
        given = math.nan if value is None else value
        valid_so_far = info.data
        field = str(info.field_name)
        for rule in RULES_OF_FIELD[field]:
            try:
                compared = [valid_so_far[name] for name in rule.compared_with]
            except KeyError:
                continue
            if rule.is_broken(given, *compared):
                raise ValueError(rule.reason)
        return value


def _build_field(column: Column) -> tuple[Any, Any]:
    """Return type and bounds of a customer's field as pydantic's ``create_model`` takes them."""
    if column.name == CUSTOMER_ID:
        return CustomerId, Field()
    if column.type is TEXT:
        return Literal[column.categories], Field(description=column.description)
    kind: Any = column.type.python
    if column.nullable:
        kind = kind | None
    description = f"{column.description}, in {column.unit}"
    return kind, Field(ge=column.minimum, le=column.maximum, description=description)


# in the order of the contract, in which each rule finds what it compares with
_FIELDS: dict[str, Any] = {name: _build_field(BY_NAME[name]) for name in CUSTOMER_COLUMNS}
Customer = create_model(
    "Customer",
    __base__=_CustomerRules,
    __doc__="A customer given whole, in the names and units of the data contract (data/README.md).",
    **_FIELDS,
)


class ScoreRequest(Strict):
    """Customers given whole, for callers who know more than the store does."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"customers": [examples.EXAMPLE_CUSTOMER]}]}
    )
    # built when the module is imported, which a type checker cannot follow
    customers: Annotated[list[Customer], FailFast()] = Field(  # type: ignore[valid-type]
        min_length=1, max_length=MOST_CUSTOMERS
    )


class Prediction(BaseModel):
    """One prediction; ``GET /v1/predictions/{prediction_id}`` is its receipt."""

    model_config = show_example(examples.EXAMPLE_PREDICTION)
    prediction_id: str
    customer_id: str
    churn_probability: float = Field(ge=0, le=1)
    decision: Literal["offer", "no_offer"]
    threshold: float = Field(description="Probability from which an offer pays: cost / value.")
    expected_value_usd: float = Field(description="USD that making the offer is expected to earn.")
    model_version: int
    arm: Literal["champion", "challenger"]
    features_as_of: date | None = Field(
        description="Month that the features describe; null if the caller gave them."
    )
    features_stale: bool = Field(description="The features are older than 62 days.")


class PredictionResponse(BaseModel):
    """Predictions in the order of the request; customers without features are named."""

    model_config = show_example(
        {
            "predictions": [examples.EXAMPLE_PREDICTION],
            "unknown_customers": ["0000-NONE"],
            "incomplete_customers": [],
            "unavailable_customers": [],
        }
    )
    predictions: list[Prediction]
    unknown_customers: list[str]
    incomplete_customers: list[str] = Field(
        description="Their stored row is older than a feature that the model needs; "
        "`/v1/scores` answers for them."
    )
    unavailable_customers: list[str] = Field(
        description="Their stored row cannot be read, or holds impossible values."
    )


class ScoreResponse(BaseModel):
    """Predictions in the order of the request."""

    model_config = show_example(examples.EXAMPLE_SCORES)
    predictions: list[Prediction]


class Receipt(BaseModel):
    """What was known, what answered, and the probability recomputed from both."""

    model_config = show_example(examples.EXAMPLE_RECEIPT)
    prediction_id: str
    answered_at: datetime  # in UTC
    as_of_date: date  # simulated today
    request_id: str
    caller: str | None = Field(description="Name of the API key that the answer was given to.")
    route: str = Field(description="predictions, scores, invocations (MLflow) or infer (v2).")
    customer_id: str
    features_as_of: date | None
    model_version: int
    arm: Literal["champion", "challenger"]
    churn_probability: float
    threshold: float
    decision: Literal["offer", "no_offer"]
    expected_value_usd: float
    offer_group: Literal["treated", "control", "not_selected"] | None = Field(
        description="Of a customer that the model selects: whether it gets the offer or is kept as "
        "control, whose decision is no_offer. Null where no offers are made."
    )
    features: dict[str, str | int | float]
    reproduced_probability: float | None = Field(
        description="From the logged features and version, computed just now; "
        "null if that version is gone."
    )


class ModelInfo(BaseModel):
    """What answers now."""

    model_config = show_example(examples.EXAMPLE_MODEL)
    model_version: int  # of the champion
    approved_by: str
    threshold: float  # probability from which an offer pays
    offer_cost_usd: float
    churner_value_usd: float
    save_rate: float = Field(description="Share of the churners whom an offer keeps.")
    trained_as_of: str  # simulated date, YYYY-MM-DD
    family: str  # such as lightgbm
    trial: dict[str, str | int | float] | None = Field(
        description="Challenger, mode and share of a running A/B test."
    )
    refused_version: int | None = Field(
        description="A version that was put in place but may not answer."
    )
    features_published: str = Field(description="Day of the newest features in the online store.")


class Health(BaseModel):
    """State of the service."""

    model_config = show_example({"status": "ready", "detail": ""})
    status: str  # alive or ready
    detail: str = ""  # names a version that was refused


class FieldError(BaseModel):
    """What is wrong with one field."""

    model_config = show_example(examples.EXAMPLE_FIELD_ERROR)
    field: str
    message: str


class Problem(BaseModel):
    """An error (RFC 9457), with the request id that the log knows it by."""

    model_config = show_example(examples.EXAMPLE_PROBLEM)
    title: str  # phrase of the status
    status: int  # of HTTP
    detail: str  # what is wrong, in a sentence
    request_id: str
    errors: list[FieldError] = []  # at most 20
