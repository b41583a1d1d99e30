"""Responses and errors of the API as pydantic models, with an example of each."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from pydantic import (
    BaseModel,
    Field,
)

from churn_utils.serving import examples
from churn_utils.serving.examples import show_example


class Prediction(BaseModel):
    """One prediction; ``GET /v1/predictions/{prediction_id}`` is its receipt."""

    model_config = show_example(examples.EXAMPLE_PREDICTION)
    prediction_id: str
    customer_id: str
    churn_probability: float = Field(ge=0, le=1)
    decision: Literal["offer", "no_offer"]
    threshold: float = Field(
        description="Probability from which an offer pays: cost / (value × save rate)."
    )
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
    save_rate: float = Field(description="Share of churners that an offer keeps.")
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
