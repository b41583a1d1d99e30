"""One customer's prediction: the document for the caller and the entry for the log."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import uuid_utils

from churn_utils.features.offline import MAX_AGE_DAYS
from churn_utils.serving.feature_clock import FeatureClock
from churn_utils.serving.loaded_models import LoadedModel, LoadedModels

# A customer to be scored: its id, the date of its features (``YYYY-MM-DD``; None if the caller sent
# them), model inputs in the order of ``MODEL_INPUTS``. A plain tuple: this is the hot path.
Customer = tuple[str, str | None, tuple]


class Call(NamedTuple):
    """What the predictions of one request have in common."""

    request_id: str
    caller: str  # name of the API key; empty without
    route: str  # predictions, scores, or the protocol of an adapter
    answered_at: datetime  # in UTC
    clock: FeatureClock


def predict_customer(
    customer: Customer, model: LoadedModel, arm: str, call: Call, models: LoadedModels
) -> tuple[dict, tuple]:
    """Return the document for the caller and the entry for the log, in the order of its schema."""
    customer_id, features_as_of, inputs = customer
    request_id, caller, route, answered_at, clock = call
    prediction_id = str(uuid_utils.uuid7())  # ordered by time, so the log finds it quickly
    probability, threshold, selection, expected_value_usd = model.score(inputs)
    decision, offer_group = models.assign_group(customer_id, selection, arm)
    is_stale = features_as_of is not None and clock.age_of(features_as_of) > MAX_AGE_DAYS
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
        "features_stale": is_stale,
    }
    entry = (
        prediction_id,
        answered_at,
        clock.today,
        request_id,
        caller,
        route,
        customer_id,
        features_as_of,
        model.version,
        arm,
        probability,
        threshold,
        decision,
        expected_value_usd,
        offer_group,
        *inputs,
    )
    return document, entry
