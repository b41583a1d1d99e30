"""The receipt of a prediction: what is on record of it."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from pydantic import BaseModel, Field

from churn_utils.serving.schemas.examples import EXAMPLE_RECEIPT, show_example


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
