"""Requests and answers of the API (pydantic): strict types from the data contract, examples, error documents."""

from __future__ import annotations

import math
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, create_model, field_validator

from churn_utils.data.columns import (
    BY_NAME,
    CUSTOMER_COLUMNS,
    CUSTOMER_ID,
    ID_FORM,
    ID_PATTERN,
    LONGEST_ID,
    RULES,
    TEXT,
    Column,
)
from churn_utils.features import definitions

MOST_CUSTOMERS = 1_000
RULES_OF_FIELD = {
    name: [rule for rule in RULES if rule.column == name]
    for name in CUSTOMER_COLUMNS
    if any(rule.column == name for rule in RULES)
}
CustomerId = Annotated[
    str,
    Field(
        max_length=LONGEST_ID,
        pattern=ID_PATTERN,
        description=f"{ID_FORM}.",
        examples=["7590-VHVEG"],
    ),
]
EXAMPLE_CUSTOMER = {
    "customer_id": "7590-VHVEG",
    "gender": "Female",
    "senior_citizen": 0,
    "partner": "Yes",
    "dependents": "No",
    "tenure": 1,
    "phone_service": "No",
    "multiple_lines": "No phone service",
    "internet_service": "DSL",
    "online_security": "No",
    "online_backup": "Yes",
    "device_protection": "No",
    "tech_support": "No",
    "streaming_tv": "No",
    "streaming_movies": "No",
    "contract": "Month-to-month",
    "paperless_billing": "Yes",
    "payment_method": "Electronic check",
    "monthly_charges": 29.85,
    "total_charges": 29.85,
}
EXAMPLE_PREDICTION = {
    "prediction_id": "01946dc1-6f3a-7c2e-9a51-3c5f2b9d8e10",
    "customer_id": "7590-VHVEG",
    "churn_probability": 0.6289,
    "decision": "offer",
    "threshold": 0.25,
    "expected_value_usd": 757.8,
    "model_version": 1,
    "arm": "champion",
    "features_as_of": "2025-01-01",
    "features_stale": False,
}
EXAMPLE_RECEIPT = {
    **{
        name: EXAMPLE_PREDICTION[name]
        for name in (
            "prediction_id",
            "customer_id",
            "churn_probability",
            "decision",
            "threshold",
            "expected_value_usd",
            "model_version",
            "arm",
            "features_as_of",
        )
    },
    "answered_at": "2025-02-01T09:30:00.123456+00:00",
    "as_of_date": "2025-02-01",
    "route": "predictions",
    "request_id": "01946dc1-6f3a-7c2e-9a51-3c5f2b9d8e0f",
    "reproduced_probability": 0.6289,
    "features": dict(
        zip(
            definitions.MODEL_INPUTS,
            definitions.complete_inputs(definitions.features_of_customer(EXAMPLE_CUSTOMER)),
            strict=True,
        )
    ),
}
EXAMPLE_MODEL = {
    "model_version": 1,
    "approved_by": "Ada Lovelace",
    "threshold": 0.25,
    "offer_cost_usd": 500.0,
    "churner_value_usd": 2000.0,
    "trained_as_of": "2025-02-01",
    "family": "logistic_regression",
    "trial": {"version": 2, "mode": "split", "share": 0.1, "started": "2025-02-01"},
    "refused_version": None,
    "features_published": "2025-01-01",
}
EXAMPLE_FIELD_ERROR = {"field": "customers.0.tenure", "message": "Input should be a valid integer"}
EXAMPLE_PROBLEM = {
    "title": "Unprocessable Entity",
    "status": 422,
    "detail": "1 field(s) are not as documented.",
    "request_id": "01946dc1-6f3a-7c2e-9a51-3c5f2b9d8e0f",
    "errors": [EXAMPLE_FIELD_ERROR],
}


def _example(example: dict) -> ConfigDict:
    return ConfigDict(protected_namespaces=(), json_schema_extra={"examples": [example]})


class Strict(BaseModel):
    """No type is converted and no unknown field accepted."""

    model_config = ConfigDict(strict=True, extra="forbid", protected_namespaces=())


class PredictionRequest(Strict):
    """Customers to answer for, from their online features."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"customer_ids": ["7590-VHVEG", "5575-GNVDE"]}]}
    )
    customer_ids: list[CustomerId] = Field(min_length=1, max_length=MOST_CUSTOMERS)


class _CustomerRules(Strict):
    """Rules between the fields of a customer, those of ``columns.RULES``."""

    @field_validator(*RULES_OF_FIELD, check_fields=False)
    @classmethod
    def _check_rules(cls, value: str | float | None, info: ValidationInfo) -> str | float | None:
        given = math.nan if value is None else value
        valid_so_far = info.data
        for rule in RULES_OF_FIELD[info.field_name]:
            try:
                compared = [valid_so_far[name] for name in rule.compared_with]
            except KeyError:  # a field that is wrong in itself has an error of its own
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
    kind = column.type.python | None if column.nullable else column.type.python
    description = f"{column.description}, in {column.unit}"
    return kind, Field(ge=column.minimum, le=column.maximum, description=description)


Customer = create_model(
    "Customer",
    __base__=_CustomerRules,
    __doc__="A customer given whole, in the names and units of the data contract (data/README.md).",
    # in the order of the contract, in which each rule finds what it compares with
    **{name: _build_field(BY_NAME[name]) for name in CUSTOMER_COLUMNS},
)


class ScoreRequest(Strict):
    """Customers given whole, for callers who know more than the store does."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"customers": [EXAMPLE_CUSTOMER]}]})
    customers: list[Customer] = Field(min_length=1, max_length=MOST_CUSTOMERS)


class Prediction(BaseModel):
    """One answer; ``GET /v1/predictions/{prediction_id}`` is its receipt."""

    model_config = _example(EXAMPLE_PREDICTION)
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
    """Answers in the order asked; customers without features are named, not skipped."""

    model_config = _example({"predictions": [EXAMPLE_PREDICTION], "unknown_customers": ["NOBODY"]})
    predictions: list[Prediction]
    unknown_customers: list[str]


class ScoreResponse(BaseModel):
    """Answers in the order asked."""

    model_config = _example({"predictions": [{**EXAMPLE_PREDICTION, "features_as_of": None}]})
    predictions: list[Prediction]


class Receipt(BaseModel):
    """What was known, what answered, and the same probability computed anew from both."""

    model_config = _example(EXAMPLE_RECEIPT)
    prediction_id: str
    answered_at: datetime
    as_of_date: date
    request_id: str
    route: str
    customer_id: str
    features_as_of: date | None
    model_version: int
    arm: Literal["champion", "challenger"]
    churn_probability: float
    threshold: float
    decision: Literal["offer", "no_offer"]
    expected_value_usd: float
    features: dict[str, str | int | float]
    reproduced_probability: float | None = Field(
        description="From the logged features and version, computed just now; null if that version is gone."
    )


class ModelInfo(BaseModel):
    """What answers now."""

    model_config = _example(EXAMPLE_MODEL)
    model_version: int
    approved_by: str
    threshold: float
    offer_cost_usd: float
    churner_value_usd: float
    trained_as_of: str
    family: str
    trial: dict[str, str | int | float] | None = Field(
        description="Challenger, mode and share of a running trial."
    )
    refused_version: int | None = Field(
        description="A version that was put in place but may not answer."
    )
    features_published: str = Field(description="Day of the newest features in the online store.")


class FieldError(BaseModel):
    """What is wrong with one field."""

    model_config = _example(EXAMPLE_FIELD_ERROR)
    field: str
    message: str


class Problem(BaseModel):
    """An error (RFC 9457), with the request id that the log knows it by."""

    model_config = _example(EXAMPLE_PROBLEM)
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[FieldError] = []


class Health(BaseModel):
    """State of the service."""

    model_config = _example({"status": "ready", "detail": ""})
    status: str
    detail: str = ""
