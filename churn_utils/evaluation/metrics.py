"""Metrics of a churn model with bootstrap intervals over customers, alone or paired with another model."""

from __future__ import annotations

from collections.abc import Iterator

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
        ``calibration_error`` the mean gap between predicted and observed rate over ten equally filled
        bins.

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
    """Return ``roc_auc`` and ``pr_auc`` (average precision) of rows sorted by falling probability."""
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
    """Return ``log_loss``, ``brier`` and ``calibration_error`` of rows sorted by probability."""
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
    return {
        "precision": found / (w @ offered.astype(float)),
        "recall": found / (w @ y),
        "value_usd": w @ decision_value_usd(y, offered, economics) / w.sum(axis=1),
    }


def _check(churned: np.ndarray, probability: np.ndarray) -> None:
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


def resample(groups: pd.Series, draws: int, seed: int) -> np.ndarray:
    """Draw bootstrap weights, shape (draws, rows): all rows of a customer are drawn together."""
    codes, customers = pd.factorize(groups)
    generator = np.random.default_rng(seed)
    picked = generator.integers(0, len(customers), (draws, len(customers)))
    # One count for all draws: each draw counts in a range of numbers of its own.
    picked += len(customers) * np.arange(draws)[:, None]
    counts = np.bincount(picked.ravel(), minlength=draws * len(customers))
    return counts.reshape(draws, -1)[:, codes]


def resample_in_parts(groups: pd.Series, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Draw bootstrap weights in parts of at most ``ROWS_AT_ONCE`` values, each with a seed of its own."""
    size = max(1, ROWS_AT_ONCE // max(1, len(groups)))
    for start in range(0, draws, size):
        yield resample(groups, min(size, draws - start), seed + start)


def bootstrap_metrics(
    churned: pd.Series,
    probabilities: dict[str, np.ndarray],
    groups: pd.Series,
    economics: Economics,
    draws: int = 1000,
    seed: int = 0,
    thresholds: dict[str, float] | None = None,
) -> dict[str, pd.DataFrame]:
    """Bootstrap the metrics of several models on the same rows and draws, so that they can be paired.

    Args:
        churned: labels, shape (n,).
        probabilities: churn probabilities of each model, shape (n,).
        groups: customer of each row; all rows of a customer are drawn together.
        economics: gives the threshold and the value of a decision.
        draws: bootstrap draws.
        seed: of the draws.
        thresholds: those of models that decide by another than that of ``economics``.

    Returns:
        For each model a frame of ``draws`` rows and ``METRICS`` columns.
    """
    thresholds = thresholds or {}
    labels = churned.to_numpy()
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in probabilities}
    for weights in resample_in_parts(groups, draws, seed):
        for name, probability in probabilities.items():
            part = score_metrics(labels, probability, economics, weights, thresholds.get(name))
            parts[name].append(part)
    return {name: pd.concat(frames, ignore_index=True) for name, frames in parts.items()}


def bootstrap_means(values: np.ndarray, groups: pd.Series, draws: int, seed: int) -> np.ndarray:
    """Return the mean of each column of ``values`` (rows, columns) in each draw: (draws, columns)."""
    means = []
    for weights in resample_in_parts(groups, draws, seed):
        means.append(weights @ values / weights.sum(axis=1, keepdims=True))
    return np.vstack(means)


def percentile_bounds(draws: np.ndarray, level: float = 0.95) -> np.ndarray:
    """Return lower and upper bound of the percentile interval, along the first axis."""
    tail = (1 - level) / 2
    return np.quantile(draws, [tail, 1 - tail], axis=0)


def interval(draws: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Return the percentile interval of every column: index metric, columns ``lower, upper``."""
    tail = (1 - level) / 2
    return draws.quantile([tail, 1 - tail]).T.set_axis(["lower", "upper"], axis=1)


def with_all_rows_first(weights: np.ndarray) -> np.ndarray:
    """Put a row of ones before bootstrap weights: what it yields is the value of the rows as they are."""
    return np.vstack([np.ones(weights.shape[1]), weights])


def summarize_draws(table: pd.DataFrame) -> pd.DataFrame:
    """Summarise measures of weights that ``with_all_rows_first`` made.

    Args:
        table: first row the value of all rows, then one row per draw; one column per measure.

    Returns:
        Index measure, columns ``value, lower, upper`` (95 %).
    """
    bounds = interval(table.iloc[1:])
    bounds.insert(0, "value", table.iloc[0])
    return bounds


def metrics_with_intervals(
    churned: pd.Series,
    probability: np.ndarray,
    groups: pd.Series,
    economics: Economics,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compute the metrics of one model: index metric, columns ``value, lower, upper`` (95 %).

    Args:
        churned: labels, shape (n,).
        probability: churn probabilities, shape (n,).
        groups: customer of each row; all rows of a customer are drawn together.
        economics: gives the threshold and the value of a decision.
        draws: bootstrap draws.
        seed: of the draws.
    """
    point = score_metrics(churned.to_numpy(), probability, economics).iloc[0].rename("value")
    sampled = bootstrap_metrics(churned, {"model": probability}, groups, economics, draws, seed)
    bounds = interval(sampled["model"])
    return pd.concat([point, bounds], axis=1).rename_axis("metric")


def reliability(churned: pd.Series, probability: np.ndarray) -> pd.DataFrame:
    """Compare predicted and observed rate in ten equally filled bins: ``predicted, observed, rows``."""
    observed = churned.to_numpy(dtype=float)
    frame = pd.DataFrame({"predicted": probability, "observed": observed})
    bins = pd.qcut(frame["predicted"].rank(method="first"), BINS, labels=False)
    by_bin = frame.groupby(bins)
    return by_bin.mean().assign(rows=by_bin.size()).reset_index(drop=True)
