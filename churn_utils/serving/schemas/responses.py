"""What the API answers with status 200."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from pydantic import BaseModel, Field

from churn_utils.serving.schemas.examples import (
    EXAMPLE_MODEL,
    EXAMPLE_PREDICTION,
    EXAMPLE_RECEIPT,
    EXAMPLE_SCORES,
    show_example,
)


class Prediction(BaseModel):
    """One prediction; ``GET /v1/predictions/{prediction_id}`` is its receipt."""

    model_config = show_example(EXAMPLE_PREDICTION)
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
        {"predictions": [EXAMPLE_PREDICTION], "unknown_customers": ["0000-NONE"]}
    )
    predictions: list[Prediction]
    unknown_customers: list[str]


class ScoreResponse(BaseModel):
    """Predictions in the order of the request."""

    model_config = show_example(EXAMPLE_SCORES)
    predictions: list[Prediction]


class Receipt(BaseModel):
    """What was known, what answered, and the probability recomputed from both."""

    model_config = show_example(EXAMPLE_RECEIPT)
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
        description="From the logged features and version, computed just now; "
        "null if that version is gone."
    )


class ModelInfo(BaseModel):
    """What answers now."""

    model_config = show_example(EXAMPLE_MODEL)
    model_version: int
    approved_by: str
    threshold: float
    offer_cost_usd: float
    churner_value_usd: float
    trained_as_of: str
    family: str
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
    status: str
    detail: str = ""
