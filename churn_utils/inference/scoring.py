"""Score rows with a registered version: the one path that batch, gate and monitoring share."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd

from churn_utils import settings
from churn_utils.evaluation.economics import decide
from churn_utils.features import model_inputs
from churn_utils.registry import artifacts
from churn_utils.registry.versions import ModelVersion

BACKGROUND_ROWS = 20  # whose values replace a feature when its effect is measured
SMALLEST_REASON = 0.005  # effect on the probability below which a feature is no reason


@lru_cache(maxsize=4)
def _load(home: str, version: int, run_id: str):
    """Load a version's model; home and run only tell its versions apart."""
    return artifacts.load_model(version)


def load_model(version: ModelVersion):
    """Load a version's model once per process, home and run: a new home counts from 1 again."""
    return _load(str(settings.home()), version.version, version.run_id)


def predict_probability(model, rows: pd.DataFrame) -> np.ndarray:
    """Predict the churn probability of each row from the inputs of this model, shape (n,).

    Raises:
        FeatureError: rows that cannot be turned into the model's inputs, or lack one of them.
    """
    inputs = model_inputs.select_model_inputs(rows, model_inputs.inputs_of(model))
    return model.predict_proba(inputs)[:, 1]


def score_rows(version: ModelVersion, rows: pd.DataFrame) -> pd.DataFrame:
    """Score rows of model inputs.

    Returns:
        Same index: ``churn_probability, threshold, decision`` (``offer`` or ``no_offer``) and
        ``expected_value_usd`` of making the offer, whatever the decision.

    Raises:
        FeatureError: rows that cannot be turned into model inputs.
    """
    economics = version.economics
    probability = predict_probability(load_model(version), rows)
    decision, expected_value_usd = decide(probability, economics)
    return pd.DataFrame(
        {
            "churn_probability": probability,
            "threshold": economics.threshold,
            "decision": decision,
            "expected_value_usd": expected_value_usd,
        },
        index=rows.index,
    )


def explain_rows(
    model, rows: pd.DataFrame, background: pd.DataFrame, top: int = 3, seed: int = 0
) -> pd.DataFrame:
    """Name the features that raise each row's churn probability most.

    Args:
        model: any model; effects need not add up.
        rows: model inputs to explain.
        background: model inputs from which replacement values are drawn.
        top: number of reasons for each row.
        seed: of the draw.

    Returns:
        Same index, columns ``reason_1`` … ``reason_top``: ``feature = value (+0.12)``; empty where
        nothing raises the probability.
    """
    names = model_inputs.inputs_of(model)
    inputs = model_inputs.select_model_inputs(rows, names)
    replacements = model_inputs.select_model_inputs(background, names).sample(
        min(BACKGROUND_ROWS, len(background)), random_state=seed
    )
    effects = measure_effects(model, inputs, replacements)
    order = np.argsort(-effects.to_numpy(), axis=1)[:, :top]  # positions of the largest effects
    reasons = []
    for position, largest in enumerate(order):
        effect = effects.iloc[position]
        values = inputs.iloc[position]
        names = effects.columns[largest]
        reasons.append([_name_reason(name, values[name], effect[name]) for name in names])
    columns = [f"reason_{number}" for number in range(1, top + 1)]
    return pd.DataFrame(reasons, index=rows.index, columns=columns)


def measure_effects(model, inputs: pd.DataFrame, replacements: pd.DataFrame) -> pd.DataFrame:
    """Measure by how much each feature raises each row's churn probability.

    The effect of a feature is the row's probability minus its mean probability when that feature
    alone is replaced by the values of other rows.

    Args:
        model: any model.
        inputs: model inputs, n rows.
        replacements: model inputs of the other rows.

    Returns:
        Effects on the probability: index and columns of ``inputs``.
    """
    own = predict_probability(model, inputs)
    repeated = inputs.loc[inputs.index.repeat(len(replacements))].reset_index(drop=True)
    effects = {}
    for name in inputs.columns:
        values = np.tile(replacements[name].to_numpy(), len(inputs))
        replaced = predict_probability(model, repeated.assign(**{name: values}))
        means = replaced.reshape(len(inputs), len(replacements)).mean(axis=1)
        effects[name] = own - means
    return pd.DataFrame(effects, index=inputs.index)


def _name_reason(feature: str, value, effect: float) -> str:
    """Return ``feature = value (+0.12)``, or nothing if the effect is too small for a reason."""
    if effect < SMALLEST_REASON:
        return ""
    if isinstance(value, float):
        rounded = f"{value:.2f}"
        value = rounded.rstrip("0").rstrip(".")
    return f"{feature} = {value} ({effect:+.2f})"
