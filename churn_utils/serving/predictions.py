"""One prediction: a customer scored by a model, as caller and inference log get it."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import uuid_utils

from churn_utils.features.offline import MAX_AGE_DAYS
from churn_utils.inference.log_rows import build_entry
from churn_utils.serving.feature_clock import FeatureClock
from churn_utils.serving.loaded_models import LoadedModel


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
        clock: simulated today.
    """

    request_id: str
    route: str
    answered_at: datetime
    clock: FeatureClock


def predict_customer(
    customer: Customer, model: LoadedModel, arm: str, call: Call
) -> tuple[dict, tuple]:
    """Score a customer with a model.

    Returns:
        The document for the caller, with the fields of ``schemas.Prediction``, and the entry for
        the inference log, in the order of ``log_rows.SCHEMA``.
    """
    customer_id, features_as_of, inputs = customer
    request_id, route, answered_at, clock = call
    prediction_id = str(uuid_utils.uuid7())  # ordered by time, so the log finds it quickly
    score = model.score(inputs)
    probability, threshold, decision, expected_value_usd = score
    document = {
        "prediction_id": prediction_id,
        "customer_id": customer_id,
        "churn_probability": probability,
        "decision": decision,
        "threshold": threshold,
        "expected_value_usd": expected_value_usd,
        "model_version": model.version,
        "arm": arm,
        "features_as_of": features_as_of,
        "features_stale": (
            features_as_of is not None and clock.age_of(features_as_of) > MAX_AGE_DAYS
        ),
    }
    entry = build_entry(
        prediction_id,
        answered_at,
        clock.today,
        request_id,
        route,
        customer_id,
        features_as_of,
        model.version,
        arm,
        score,
        inputs,
    )
    return document, entry
