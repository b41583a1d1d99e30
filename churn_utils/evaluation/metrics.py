"""Metrics of a churn model with bootstrap intervals over customers, alone or paired against another model."""

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
ROWS_AT_ONCE = 4_000_000  # resampling weights held in memory together (32 MB of float64)


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
        One row per weighting, one column per name in ``METRICS``; ``value_usd`` is USD per customer,
        ``calibration_error`` the mean gap between predicted and observed rate over ten equally filled bins.

    Raises:
        DataError: no rows, only one class, or probabilities that are not numbers in [0, 1].
    """
    churned, probability = np.asarray(churned, dtype=float), np.asarray(probability, dtype=float)
    _check(churned, probability)
    order = np.argsort(-probability, kind="stable")
    y, p = churned[order], probability[order]
    w = np.ones((1, len(y))) if weights is None else np.asarray(weights, dtype=float)[:, order]
    starts = np.flatnonzero(
        np.r_[True, np.diff(p) != 0]
    )  # rows of equal probability count together
    positive, negative = (np.add.reduceat(w * side, starts, axis=1) for side in (y, 1 - y))
    found, wrong = positive.cumsum(axis=1), negative.cumsum(axis=1)
    all_positive, all_negative, all_rows = found[:, -1], wrong[:, -1], w.sum(axis=1)
    treated = p >= (economics.threshold if threshold is None else threshold)
    clipped = np.clip(p, 1e-15, 1 - 1e-15)
    bins = np.unique(np.linspace(0, len(p), BINS + 1).astype(int)[:-1])
    gaps = np.abs(np.add.reduceat(w * (y - p), bins, axis=1)).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return pd.DataFrame(
            {
                "roc_auc": 1
                - (positive * (wrong - negative / 2)).sum(axis=1) / (all_positive * all_negative),
                "pr_auc": (positive * np.nan_to_num(found / (found + wrong))).sum(axis=1)
                / all_positive,
                "log_loss": w @ -(y * np.log(clipped) + (1 - y) * np.log(1 - clipped)) / all_rows,
                "brier": w @ (y - p) ** 2 / all_rows,
                "calibration_error": gaps / all_rows,
                "precision": (w @ (treated * y)) / (w @ treated.astype(float)),
                "recall": (w @ (treated * y)) / all_positive,
                "value_usd": w @ decision_value_usd(y, treated, economics) / all_rows,
            }
        )


def _check(churned: np.ndarray, probability: np.ndarray) -> None:
    if len(churned) == 0:
        raise DataError("there are no rows to evaluate on.")
    if len(churned) != len(probability):
        raise DataError(f"{len(churned)} labels but {len(probability)} probabilities.")
    strange = ~np.isin(churned, [0.0, 1.0])
    if strange.any():
        raise DataError(f"{strange.sum()} of {len(churned)} labels are neither 0 nor 1.")
    if len(np.unique(churned)) < 2:
        raise DataError(f"all {len(churned)} rows have the same label; metrics need both.")
    bad = ~((probability >= 0) & (probability <= 1))
    if bad.any():
        raise DataError(f"{bad.sum()} of {len(bad)} probabilities are not numbers from 0 to 1.")


def resample(groups: pd.Series, draws: int, seed: int) -> np.ndarray:
    """Draw bootstrap weights, shape (draws, rows): all rows of a customer are drawn together."""
    codes, customers = pd.factorize(groups)
    generator = np.random.default_rng(seed)
    picked = generator.integers(0, len(customers), (draws, len(customers)))
    picked += len(customers) * np.arange(draws)[:, None]
    counts = np.bincount(picked.ravel(), minlength=draws * len(customers)).reshape(draws, -1)
    return counts[:, codes]


def bootstrap_metrics(
    churned: pd.Series,
    probabilities: dict[str, np.ndarray],
    groups: pd.Series,
    economics: Economics,
    draws: int = 1000,
    seed: int = 0,
    thresholds: dict[str, float] | None = None,
) -> dict[str, pd.DataFrame]:
    """Bootstrap the metrics of several models on the same rows with the same draws, so that they can be paired.

    ``thresholds`` holds those of models that decide by another than that of ``economics``.

    Returns:
        For each model a frame of ``draws`` rows and ``METRICS`` columns.
    """
    size = max(1, ROWS_AT_ONCE // max(1, len(churned)))
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in probabilities}
    for start in range(0, draws, size):
        weights = resample(groups, min(size, draws - start), seed + start)
        for name, probability in probabilities.items():
            threshold = (thresholds or {}).get(name)
            parts[name].append(
                score_metrics(churned.to_numpy(), probability, economics, weights, threshold)
            )
    return {name: pd.concat(frames, ignore_index=True) for name, frames in parts.items()}


def interval(draws: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Percentile interval of every column: index metric, columns ``lower, upper``."""
    tail = (1 - level) / 2
    return draws.quantile([tail, 1 - tail]).T.set_axis(["lower", "upper"], axis=1)


def metrics_with_intervals(
    churned: pd.Series,
    probability: np.ndarray,
    groups: pd.Series,
    economics: Economics,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Metrics of one model with 95 % bootstrap intervals: index metric, columns ``value, lower, upper``."""
    point = score_metrics(churned.to_numpy(), probability, economics).iloc[0].rename("value")
    sampled = bootstrap_metrics(churned, {"model": probability}, groups, economics, draws, seed)[
        "model"
    ]
    return pd.concat([point, interval(sampled)], axis=1).rename_axis("metric")


def reliability(churned: pd.Series, probability: np.ndarray) -> pd.DataFrame:
    """Predicted against observed rate in ten equally filled bins: ``predicted, observed, rows``."""
    frame = pd.DataFrame({"predicted": probability, "observed": churned.to_numpy(dtype=float)})
    bins = pd.qcut(frame["predicted"].rank(method="first"), BINS, labels=False)
    means = frame.groupby(bins).mean()
    return means.assign(rows=frame.groupby(bins).size()).reset_index(drop=True)
