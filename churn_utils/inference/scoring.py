"""Score rows with a registered version: the one path that batch (and later the API) share."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd

from churn_utils import settings
from churn_utils.evaluation.economics import NO_OFFER, OFFER
from churn_utils.features import definitions
from churn_utils.registry import artifacts
from churn_utils.registry.versions import ModelVersion


@lru_cache(maxsize=4)
def _load(home: str, version: int, run_id: str):
    return artifacts.load_model(version)


def load_model(version: ModelVersion):
    """Load a version's model once per process, home and run: a new home counts from 1 again."""
    return _load(str(settings.home()), version.version, version.run_id)


def predict_probability(model, rows: pd.DataFrame) -> np.ndarray:
    """Churn probability of each row of model inputs, shape (n,)."""
    return model.predict_proba(definitions.select_model_inputs(rows))[:, 1]


def score_rows(version: ModelVersion, rows: pd.DataFrame) -> pd.DataFrame:
    """Score rows of model inputs.

    Returns:
        Same index: ``churn_probability, threshold, decision`` (``offer`` or ``no_offer``) and
        ``expected_value_usd`` of making the offer, whatever the decision.
    """
    economics = version.economics
    probability = predict_probability(load_model(version), rows)
    return pd.DataFrame(
        {
            "churn_probability": probability,
            "threshold": economics.threshold,
            "decision": np.where(probability >= economics.threshold, OFFER, NO_OFFER),
            "expected_value_usd": economics.expected_value_usd(probability),
        },
        index=rows.index,
    )


def explain_rows(
    model, rows: pd.DataFrame, background: pd.DataFrame, top: int = 3, seed: int = 0
) -> pd.DataFrame:
    """Name the features that raise each row's churn probability most.

    The effect of a feature is the row's probability minus its mean probability when that feature alone is
    replaced by values of 20 rows drawn from ``background``. It works for any model; effects need not add up.

    Returns:
        Same index, columns ``reason_1`` … ``reason_top``: ``feature = value (+0.12)``; empty where nothing raises.
    """
    inputs = definitions.select_model_inputs(rows)
    others = definitions.select_model_inputs(background).sample(
        min(20, len(background)), random_state=seed
    )
    base = predict_probability(model, inputs)
    repeated = inputs.loc[inputs.index.repeat(len(others))].reset_index(drop=True)
    effects = {}
    for name in inputs.columns:
        changed = repeated.assign(**{name: np.tile(others[name].to_numpy(), len(inputs))})
        without = predict_probability(model, changed).reshape(len(inputs), len(others)).mean(axis=1)
        effects[name] = base - without
    table = pd.DataFrame(effects, index=inputs.index)
    order = np.argsort(-table.to_numpy(), axis=1)[:, :top]
    return pd.DataFrame(
        [
            [
                f"{table.columns[j]} = {_show(inputs.iat[i, j])} ({table.iat[i, j]:+.2f})"
                if table.iat[i, j] >= 0.005
                else ""
                for j in order[i]
            ]
            for i in range(len(table))
        ],
        index=rows.index,
        columns=[f"reason_{i + 1}" for i in range(top)],
    )


def _show(value) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
