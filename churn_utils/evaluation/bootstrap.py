"""Bootstrap over customers: weights, metrics of several models on the same draws, intervals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from churn_utils.evaluation.economics import Economics
from churn_utils.evaluation.metrics import score_metrics

ROWS_AT_ONCE = 4_000_000  # resampling weights held in memory together (32 MB of float64)


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """Labelled rows with the churn probability that a model gave; each part of shape (n,)."""

    churned: pd.Series
    probability: np.ndarray
    customers: pd.Series  # whose row it is: all rows of a customer are drawn together
    weights: np.ndarray | None = None  # what each row counts; 1 when not given


def resample(customers: pd.Series, draws: int, seed: int) -> np.ndarray:
    """Draw bootstrap weights over customers: how often each row was drawn, shape (draws, rows)."""
    codes, names = pd.factorize(customers)
    number = len(names)
    generator = np.random.default_rng(seed)
    picked = generator.integers(0, number, (draws, number))
    # One count for all draws: each draw counts in a range of numbers of its own.
    offsets = number * np.arange(draws)
    picked += offsets[:, None]
    counts = np.bincount(picked.ravel(), minlength=draws * number)
    by_customer = counts.reshape(draws, number)
    return by_customer[:, codes]


def _resample_in_parts(customers: pd.Series, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Draw bootstrap weights in parts of at most ``ROWS_AT_ONCE`` values, as fit into memory."""
    rows = max(1, len(customers))
    size = max(1, ROWS_AT_ONCE // rows)
    for start in range(0, draws, size):
        count = min(size, draws - start)
        yield resample(customers, count, seed + start)


def bootstrap_metrics(
    churned: pd.Series,
    probabilities: dict[str, np.ndarray],
    customers: pd.Series,
    economics: Economics,
    draws: int = 1000,
    seed: int = 0,
    thresholds: dict[str, float] | None = None,
    row_weights: np.ndarray | None = None,
) -> dict[str, pd.DataFrame]:
    """Bootstrap the metrics of several models on the same rows and draws, for paired differences.

    Args:
        churned, customers: as in ``ScoredRows``.
        probabilities: churn probabilities of each model, shape (n,).
        economics: gives the threshold and the value of a decision.
        draws, seed: of the bootstrap.
        thresholds: those of models that decide by another than that of ``economics``.
        row_weights: as in ``ScoredRows``.

    Returns:
        For each model a frame of ``draws`` rows and ``METRICS`` columns.
    """
    thresholds = thresholds or {}
    labels = churned.to_numpy()
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in probabilities}
    for drawn in _resample_in_parts(customers, draws, seed):
        weights = weigh(drawn, row_weights)
        for name, probability in probabilities.items():
            part = score_metrics(labels, probability, economics, weights, thresholds.get(name))
            parts[name].append(part)
    return {name: pd.concat(frames, ignore_index=True) for name, frames in parts.items()}


def weigh(drawn: np.ndarray, row_weights: np.ndarray | None) -> np.ndarray:
    """Multiply bootstrap weights, shape (draws, rows), by what each row counts."""
    return drawn if row_weights is None else drawn * row_weights


def clustered_error(
    values: np.ndarray, customers: pd.Series, weights: np.ndarray | None = None
) -> float:
    """Return the standard error of a weighted mean; a customer's rows are not independent.

    It is the cluster-robust variance of a mean (linearised ratio of the customers' sums). A paired
    bootstrap over customers converges to it, but takes a thousand times as long and needs a seed
    that could tip a decision.
    """
    counts = np.ones(len(values)) if weights is None else weights
    mean = np.average(values, weights=counts)
    codes, _ = pd.factorize(customers)
    residual_sums = np.bincount(codes, counts * (values - mean))
    return float(np.linalg.norm(residual_sums) / counts.sum())


def interval_of_means(
    values: np.ndarray,
    customers: pd.Series,
    draws: int,
    seed: int,
    row_weights: np.ndarray | None = None,
) -> np.ndarray:
    """Return lower and upper 95 % bound of each column's mean, shape (2, columns)."""
    means = []
    for drawn in _resample_in_parts(customers, draws, seed):
        weights = weigh(drawn, row_weights)
        totals = weights.sum(axis=1, keepdims=True)
        means.append(weights @ values / totals)
    return percentile_bounds(np.vstack(means))


def _tails(level: float) -> list[float]:
    tail = (1 - level) / 2
    return [tail, 1 - tail]


def percentile_bounds(
    draws: np.ndarray,
    level: float = 0.95,
) -> np.ndarray:
    """Return lower and upper bound of the percentile interval, along the first axis."""
    return np.quantile(draws, _tails(level), axis=0)


def interval(draws: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Return the percentile interval of every column: index metric, columns ``lower, upper``."""
    bounds = draws.quantile(_tails(level)).T
    return bounds.set_axis(["lower", "upper"], axis=1)


def with_all_rows_first(weights: np.ndarray) -> np.ndarray:
    """Put a row of ones before bootstrap weights: it yields the value of the rows themselves."""
    ones = np.ones(weights.shape[1])
    return np.vstack([ones, weights])


def summarize_draws(table: pd.DataFrame) -> pd.DataFrame:
    """Summarise measures by weights of ``with_all_rows_first``, one row each and one column each.

    Returns:
        Index measure, columns ``value, lower, upper`` (95 %).
    """
    bounds = interval(table.iloc[1:])
    bounds.insert(0, "value", table.iloc[0])
    return bounds


def metrics_with_intervals(
    scored: ScoredRows,
    economics: Economics,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compute the metrics of one model: index metric, columns ``value, lower, upper`` (95 %)."""
    labels = scored.churned.to_numpy()
    row_weights = None if scored.weights is None else scored.weights[None, :]
    values = score_metrics(labels, scored.probability, economics, row_weights).iloc[0]
    sampled = bootstrap_metrics(
        scored.churned,
        {"model": scored.probability},
        scored.customers,
        economics,
        draws,
        seed,
        row_weights=scored.weights,
    )
    bounds = interval(sampled["model"])
    bounds.insert(0, "value", values)
    return bounds.rename_axis("metric")
