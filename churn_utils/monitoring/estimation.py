"""Estimated performance before labels: confidence-based performance estimation (CBPE).

The method, as NannyML's documentation describes it under that name, takes calibrated probabilities
at their word: a customer with probability p counts as p of a churner and as 1 - p of one who stays.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from churn_utils.evaluation import bootstrap
from churn_utils.evaluation.economics import Economics
from churn_utils.monitoring import performance

PREFIX = "estimated_"


def estimate_performance(
    scored: pd.DataFrame,
    as_of: pd.Timestamp,
    window: str,
    economics: Economics,
    draws: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Estimate a window's performance from the calibrated probabilities alone.

    The interval holds 95 % of the outcomes that labels drawn from these probabilities would have.
    It is right as long as the model is calibrated. A change of the concept is what it cannot see,
    so compare it with the labels when they arrive.

    Args:
        scored: ``model_version, churn_probability``; labels are ignored.
        as_of, window, economics: as for ``performance.measure_performance``.
        draws: of labels.
        seed: of the draws.

    Returns:
        Rows with ``performance.COLUMNS``: metrics named ``estimated_roc_auc``,
        ``estimated_value_usd`` and so on, without calibration error, which the method assumes to be
        0. ``rows_labelled`` is 0, because no label is used.
    """
    parts = []
    for version, rows in scored.groupby("model_version"):
        probability = rows["churn_probability"].to_numpy()
        table = _estimate_metrics(probability, economics, draws, seed).assign(rows_labelled=0)
        parts.append(performance.stamp(table, as_of, window, version, len(rows)))
    if not parts:
        return pd.DataFrame(columns=performance.COLUMNS)
    return pd.concat(parts, ignore_index=True)


def _estimate_metrics(
    probability: np.ndarray, economics: Economics, draws: int, seed: int
) -> pd.DataFrame:
    """Return ``metric, lower, upper, value`` by CBPE.

    Every row stands twice, as a churner and as a customer who stays. The first weighting of the two
    is the probability, which gives the expected metrics; each other one is a draw of the labels.
    """
    generator = np.random.default_rng(seed)
    drawn_labels = generator.random((draws, len(probability))) < probability
    churner_weights = np.vstack([probability, drawn_labels])
    weights = np.hstack([churner_weights, 1 - churner_weights])
    labels = np.repeat([1.0, 0.0], len(probability))
    twice = np.tile(probability, 2)
    figures = performance.score_with_loss(labels, twice, economics, weights)
    # Calibration is assumed; a draw without any churner has no ROC AUC.
    known = figures.drop(columns="calibration_error").dropna()
    return (
        bootstrap.summarize_draws(known)
        .add_prefix(PREFIX, axis=0)
        .rename_axis("metric")
        .reset_index()
    )


def compare_estimate(measured: pd.DataFrame) -> pd.DataFrame:
    """Compare the estimates made before labels with what the labels showed.

    Args:
        measured: rows of ``monitoring_metrics``.

    Returns:
        ``window, model_version, metric, estimated, lower, upper, realised, inside`` (whether the
        realised value lies in the estimate's interval), for windows that have both.
    """
    key = ["window", "model_version", "metric"]
    total = measured[measured["slice"] == performance.ALL].sort_values("as_of_date")
    is_estimate = total["metric"].str.startswith(PREFIX)
    estimates = total[is_estimate]
    estimates = estimates.assign(metric=estimates["metric"].str.removeprefix(PREFIX))
    first = estimates.drop_duplicates(key)[[*key, "value", "lower", "upper"]]  # the forecast
    realised = total[~is_estimate & total["value"].notna()]
    newest = realised.drop_duplicates(key, keep="last")[[*key, "value"]]
    both = first.rename(columns={"value": "estimated"}).merge(
        newest.rename(columns={"value": "realised"}), on=key
    )
    return both.assign(inside=both["realised"].between(both["lower"], both["upper"]))
