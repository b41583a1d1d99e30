"""One prediction: of whom, by which model, its entry in the inference log and its document."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import uuid_utils

from churn_utils.inference.log_rows import build_entry
from churn_utils.serving.loaded_models import LoadedModel, Score


class Customer(NamedTuple):
    """A customer to be scored.

    Attributes:
        customer_id: its id.
        features_as_of: date of its features, ``YYYY-MM-DD``; None if the caller sent them.
        inputs: model inputs in the order of ``MODEL_INPUTS``.
    """

    customer_id: str
    features_as_of: str | None
    inputs: tuple


class Call(NamedTuple):
    """What the predictions of one request have in common.

    Attributes:
        request_id: id of the request.
        route: ``predictions`` or ``scores``.
        answered_at: time of the predictions, in UTC.
        as_of_date: simulated today, ``YYYY-MM-DD``.
    """

    request_id: str
    route: str
    answered_at: datetime
    as_of_date: str


class Prediction(NamedTuple):
    """A customer scored by a model, in one arm."""

    prediction_id: str
    customer: Customer
    model_version: int
    arm: str
    score: Score

    def to_entry(self, call: Call) -> tuple:
        """Return the entry of the inference log, in the order of ``log_rows.SCHEMA``."""
        return build_entry(
            self.prediction_id,
            call.answered_at,
            call.as_of_date,
            call.request_id,
            call.route,
            self.customer.customer_id,
            self.customer.features_as_of,
            self.model_version,
            self.arm,
            self.score,
            self.customer.inputs,
        )

    def to_document(self, is_stale: bool) -> dict:
        """Return what the caller gets: the fields of ``schemas.Prediction``."""
        score = self.score
        return {
            "prediction_id": self.prediction_id,
            "customer_id": self.customer.customer_id,
            "churn_probability": score.churn_probability,
            "decision": score.decision,
            "threshold": score.threshold,
            "expected_value_usd": score.expected_value_usd,
            "model_version": self.model_version,
            "arm": self.arm,
            "features_as_of": self.customer.features_as_of,
            "features_stale": is_stale,
        }


def make_prediction(customer: Customer, model: LoadedModel, arm: str) -> Prediction:
    """Score a customer with a model; the id is ordered by time, so the log finds it quickly."""
    prediction_id = str(uuid_utils.uuid7())
    return Prediction(prediction_id, customer, model.version, arm, model.score(customer.inputs))
