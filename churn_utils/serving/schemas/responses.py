"""What the prediction routes answer with status 200: predictions."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import BaseModel, Field

from churn_utils.serving.schemas.examples import (
    EXAMPLE_PREDICTION,
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
