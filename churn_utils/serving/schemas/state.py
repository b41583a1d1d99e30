"""What the routes on the service's state answer: the model in place, health."""

from __future__ import annotations

from pydantic import BaseModel, Field

from churn_utils.serving.schemas.examples import EXAMPLE_MODEL, show_example


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
