"""Bootstrap over customers: weights, metrics of several models on the same draws, intervals."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from churn_utils.evaluation.economics import Economics
from churn_utils.evaluation.metrics import score_metrics

ROWS_AT_ONCE = 4_000_000  # resampling weights held in memory together (32 MB of float64)


def resample(groups: pd.Series, draws: int, seed: int) -> np.ndarray:
    """Draw bootstrap weights: all rows of a customer are drawn together.

    Returns:
        How often each row was drawn, shape (draws, rows).
    """
    codes, customers = pd.factorize(groups)
    generator = np.random.default_rng(seed)
    number = len(customers)
    picked = generator.integers(0, number, (draws, number))
    # One count for all draws: each draw counts in a range of numbers of its own.
    offsets = number * np.arange(draws)
    picked += offsets[:, None]
    counts = np.bincount(picked.ravel(), minlength=draws * number)
    by_customer = counts.reshape(draws, number)
    return by_customer[:, codes]


def resample_in_parts(groups: pd.Series, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Draw bootstrap weights in parts that fit into memory.

    Yields:
        Weights, shape (draws of the part, rows), at most ``ROWS_AT_ONCE`` values.
    """
    rows = max(1, len(groups))
    size = max(1, ROWS_AT_ONCE // rows)
    for start in range(0, draws, size):
        count = min(size, draws - start)
        yield resample(groups, count, seed + start)


def bootstrap_metrics(
    churned: pd.Series,
    probabilities: dict[str, np.ndarray],
    groups: pd.Series,
    economics: Economics,
    draws: int = 1000,
    seed: int = 0,
    thresholds: dict[str, float] | None = None,
) -> dict[str, pd.DataFrame]:
    """Bootstrap the metrics of several models on the same rows and draws, for paired differences.

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
    """Return the mean of each column in each draw, shape (draws, columns).

    Args:
        values: shape (rows, columns).
        groups: customer of each row.
        draws: bootstrap draws.
        seed: of the draws.
    """
    means = []
    for weights in resample_in_parts(groups, draws, seed):
        totals = weights.sum(axis=1, keepdims=True)
        means.append(weights @ values / totals)
    return np.vstack(means)


def percentile_bounds(draws: np.ndarray, level: float = 0.95) -> np.ndarray:
    """Return lower and upper bound of the percentile interval, along the first axis."""
    tail = (1 - level) / 2
    levels = [tail, 1 - tail]
    return np.quantile(draws, levels, axis=0)


def interval(draws: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Return the percentile interval of every column: index metric, columns ``lower, upper``."""
    tail = (1 - level) / 2
    levels = [tail, 1 - tail]
    bounds = draws.quantile(levels).T
    return bounds.set_axis(["lower", "upper"], axis=1)


def with_all_rows_first(weights: np.ndarray) -> np.ndarray:
    """Put a row of ones before bootstrap weights: it yields the value of the rows themselves."""
    ones = np.ones(weights.shape[1])
    return np.vstack([ones, weights])


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
