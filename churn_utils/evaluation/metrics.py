"""Metrics of a churn model: ranking, probabilities, decisions, calibration."""

from __future__ import annotations

import numpy as np
import pandas as pd

from churn_utils.errors import DataError
from churn_utils.evaluation.economics import Economics, decision_value_usd

METRICS = [
    "roc_auc",
    "pr_auc",
    "log_loss",
    "brier",
    "calibration_error",
    "precision",
    "recall",
    "value_usd",
]
BINS = 10
SMALLEST_PROBABILITY = 1e-15  # keeps the log loss of a certain and wrong answer finite


def score_metrics(
    churned: np.ndarray,
    probability: np.ndarray,
    economics: Economics,
    weights: np.ndarray | None = None,
    threshold: float | None = None,
) -> pd.DataFrame:
    """Compute every metric for each of several weightings of the same rows.

    Args:
        churned: labels, shape (n,).
        probability: churn probabilities, shape (n,).
        economics: gives the threshold and the value of a decision.
        weights: shape (draws, n); one row of ones when not given.
        threshold: from which the model makes the offer; that of ``economics`` when not given.

    Returns:
        One row per weighting, one column per name in ``METRICS``; ``value_usd`` is USD per
        customer, ``calibration_error`` the mean gap between predicted and observed rate over ten
        equally filled bins.

    Raises:
        DataError: no rows, only one class, or probabilities that are not numbers in [0, 1].
    """
    churned = np.asarray(churned, dtype=float)
    probability = np.asarray(probability, dtype=float)
    _check(churned, probability)
    if weights is None:
        weights = np.ones((1, len(churned)))
    if threshold is None:
        threshold = economics.threshold
    order = np.argsort(-probability, kind="stable")
    y = churned[order]
    p = probability[order]
    w = np.asarray(weights, dtype=float)[:, order]
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = {
            **_measure_ranking(y, p, w),
            **_measure_probabilities(y, p, w),
            **_measure_decisions(y, p >= threshold, w, economics),
        }
    return pd.DataFrame(columns)[METRICS]


def _measure_ranking(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> dict[str, np.ndarray]:
    """Return ``roc_auc`` and ``pr_auc`` (average precision).

    Args:
        y: labels, 0 or 1, shape (n,), sorted by falling probability.
        p: probabilities, shape (n,), falling.
        w: weights, shape (draws, n).
    """
    # Rows of equal probability count together: each group starts where the probability changes.
    starts = np.flatnonzero(np.r_[True, np.diff(p) != 0])
    positives = np.add.reduceat(w * y, starts, axis=1)
    negatives = np.add.reduceat(w * (1 - y), starts, axis=1)
    true_positives = positives.cumsum(axis=1)
    false_positives = negatives.cumsum(axis=1)
    all_positives = true_positives[:, -1]
    all_negatives = false_positives[:, -1]
    # A positive is misranked behind each negative of higher probability, by half behind its equals.
    ahead = false_positives - negatives / 2
    misranked = (positives * ahead).sum(axis=1)
    precision = np.nan_to_num(true_positives / (true_positives + false_positives))
    return {
        "roc_auc": 1 - misranked / (all_positives * all_negatives),
        "pr_auc": (positives * precision).sum(axis=1) / all_positives,
    }


def _measure_probabilities(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> dict[str, np.ndarray]:
    """Return ``log_loss``, ``brier`` and ``calibration_error``; arguments as above."""
    total = w.sum(axis=1)
    clipped = np.clip(p, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    surprise = -(y * np.log(clipped) + (1 - y) * np.log(1 - clipped))
    edges = np.linspace(0, len(p), BINS + 1).astype(int)
    starts = np.unique(edges[:-1])
    gaps = np.abs(np.add.reduceat(w * (y - p), starts, axis=1))
    return {
        "log_loss": w @ surprise / total,
        "brier": w @ (y - p) ** 2 / total,
        "calibration_error": gaps.sum(axis=1) / total,
    }


def _measure_decisions(
    y: np.ndarray, offered: np.ndarray, w: np.ndarray, economics: Economics
) -> dict[str, np.ndarray]:
    """Return ``precision``, ``recall`` and ``value_usd`` of the offers that were made."""
    found = w @ (offered * y)
    offers = w @ offered.astype(float)
    churners = w @ y
    value_usd = w @ decision_value_usd(y, offered, economics)
    return {
        "precision": found / offers,
        "recall": found / churners,
        "value_usd": value_usd / w.sum(axis=1),
    }


def _check(churned: np.ndarray, probability: np.ndarray) -> None:
    """Refuse rows from which no metric follows."""
    if len(churned) == 0:
        raise DataError("there are no rows to evaluate on.")
    if len(churned) != len(probability):
        raise DataError(f"{len(churned)} labels but {len(probability)} probabilities.")
    is_label = np.isin(churned, [0.0, 1.0])
    if not is_label.all():
        raise DataError(f"{(~is_label).sum()} of {len(churned)} labels are neither 0 nor 1.")
    if len(np.unique(churned)) < 2:
        raise DataError(f"all {len(churned)} rows have the same label; metrics need both.")
    is_probability = (probability >= 0) & (probability <= 1)
    if not is_probability.all():
        raise DataError(
            f"{(~is_probability).sum()} of {len(probability)} probabilities are not numbers from 0 "
            "to 1."
        )


def reliability(
    churned: pd.Series, probability: np.ndarray, weights: np.ndarray | None = None
) -> pd.DataFrame:
    """Compare predicted and observed rates in ten equally filled bins.

    Args:
        churned: labels, shape (n,).
        probability: churn probabilities, shape (n,).
        weights: what each row counts, shape (n,); 1 when not given.

    Returns:
        One row per bin: ``predicted, observed, rows``.
    """
    counts = np.ones(len(probability)) if weights is None else weights
    observed = churned.to_numpy(dtype=float)
    bins = pd.qcut(pd.Series(probability).rank(method="first"), BINS, labels=False)
    totals = pd.DataFrame({"predicted": probability * counts, "observed": observed * counts})
    summed = totals.assign(weight=counts, rows=1).groupby(bins).sum()
    rates = summed[["predicted", "observed"]].div(summed["weight"], axis=0)
    return rates.assign(rows=summed["rows"]).reset_index(drop=True)
