"""Requests and answers of the API (pydantic): strict types from the data contract, examples, error documents."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, create_model, field_validator

from churn_utils.data import contract
from churn_utils.features import definitions

MOST_CUSTOMERS = 1_000
CustomerId = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="Letters, digits, dot, dash, underscore; at most 64.",
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


def _check_option(value: str, info: ValidationInfo, service: str, without: str) -> str:
    """Check that an option says ``without`` exactly where its service is not there."""
    booked = info.data.get(service)
    if booked is not None and (value == without) != (booked == "No"):
        raise ValueError(f"contradicts {service} {booked!r}")
    return value


class _CustomerRules(Strict):
    """Rules between the fields of a customer, the contract's, blamed on the field that contradicts."""

    @field_validator("multiple_lines", check_fields=False)
    @classmethod
    def _lines_need_a_phone(cls, value: str, info: ValidationInfo) -> str:
        return _check_option(value, info, "phone_service", "No phone service")

    @field_validator(*contract.INTERNET_OPTIONS, check_fields=False)
    @classmethod
    def _options_need_internet(cls, value: str, info: ValidationInfo) -> str:
        return _check_option(value, info, "internet_service", "No internet service")

    @field_validator("total_charges", check_fields=False)
    @classmethod
    def _bills_add_up(cls, value: float | None, info: ValidationInfo) -> float | None:
        tenure, monthly = info.data.get("tenure"), info.data.get("monthly_charges")
        if tenure is None or monthly is None or tenure == 0:
            return value
        if value is None:
            raise ValueError("may be null only when tenure is 0")
        least, most = contract.TOTAL_TO_EXPECTED
        if not least <= value / (tenure * monthly) <= most:
            raise ValueError(f"is not {least} to {most} times tenure x monthly charges")
        return value


def _customer_fields() -> dict[str, Any]:
    """Fields of a customer in an order in which every rule finds what it compares with."""
    numbers = {
        "senior_citizen": (int, Field(ge=0, le=1)),
        "tenure": (
            int,
            Field(ge=contract.TENURE_MONTHS[0], le=contract.TENURE_MONTHS[1], description="months"),
        ),
        "monthly_charges": (
            float,
            Field(
                ge=contract.MONTHLY_CHARGES_USD[0],
                le=contract.MONTHLY_CHARGES_USD[1],
                description="USD per month",
            ),
        ),
        "total_charges": (
            float | None,
            Field(
                ge=0,
                le=contract.MOST_TOTAL_CHARGES_USD,
                description="USD billed so far; null only at tenure 0",
            ),
        ),
    }
    named = [
        "customer_id",
        *(name for name in definitions.STORED if name != "num_optional_services"),
    ]
    categories = {
        name: (Literal[tuple(known)], Field()) for name, known in definitions.CATEGORICAL.items()
    }
    return {
        name: (CustomerId, Field()) if name == "customer_id" else (categories | numbers)[name]
        for name in named
    }


Customer = create_model(
    "Customer",
    __base__=_CustomerRules,
    __doc__="A customer given whole, in the names and units of the data contract (data/README.md).",
    **_customer_fields(),
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
