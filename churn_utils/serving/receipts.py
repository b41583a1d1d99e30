"""Receipts: what the inference log holds of a prediction, and its probability computed again."""

from __future__ import annotations

from churn_utils.errors import ChurnError
from churn_utils.features import definitions
from churn_utils.inference.log import InferenceLog
from churn_utils.serving.ab_test import SHADOW
from churn_utils.serving.loaded_models import ModelCache


def find_receipt(log: InferenceLog, cache: ModelCache, prediction_id: str) -> dict | None:
    """Find the receipt of a prediction that was returned to a caller.

    Returns:
        The fields of ``schemas.Receipt``: the columns of the inference log, with the model inputs
        under ``features``, and ``reproduced_probability``. None if there is no such prediction, or
        it was a shadow's, which nobody was shown.
    """
    entry = log.find(prediction_id)
    if entry is None or entry["arm"] == SHADOW:
        return None
    inputs = {name: entry.pop(name) for name in definitions.MODEL_INPUTS}
    reproduced = _reproduce(cache, entry, tuple(inputs.values()))
    return {**entry, "features": inputs, "reproduced_probability": reproduced}


def _reproduce(cache: ModelCache, entry: dict, inputs: tuple) -> float | None:
    """Compute a logged probability again; None if the version no longer exists.

    A version that was registered after the prediction has only its number in common with the one
    that made it: the home is a new one.
    """
    try:
        model = cache.load(entry["model_version"])
    except ChurnError:
        return None
    if model.registered_at > entry["answered_at"]:
        return None
    return model.predict_probability(inputs)
