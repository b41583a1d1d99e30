"""What the decision earns under other thresholds and other costs, with intervals over customers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from churn_utils.evaluation import metrics
from churn_utils.evaluation.economics import Economics, decision_value_usd

FACTORS = (0.5, 0.75, 1.0, 1.25, 1.5)


def value_curve(
    churned: pd.Series,
    probability: np.ndarray,
    groups: pd.Series,
    economics: Economics,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """USD per customer that each threshold from 0 to 1 would have earned, with its 95 % bootstrap interval.

    Args:
        churned: labels, shape (n,).
        probability: churn probabilities, shape (n,).
        groups: customer of each row; all rows of a customer are drawn together.
        economics: value of an offer.
        draws: bootstrap draws, the same for all thresholds.
        seed: of the draws.

    Returns:
        ``threshold, value_usd, lower, upper``.
    """
    thresholds = np.linspace(0, 1, 101)
    y = churned.to_numpy(dtype=float)
    gains = np.stack(
        [decision_value_usd(y, probability >= t, economics) for t in thresholds], axis=1
    )
    lower, upper = np.quantile(_average(gains, groups, draws, seed), [0.025, 0.975], axis=0)
    return pd.DataFrame(
        {"threshold": thresholds, "value_usd": gains.mean(axis=0), "lower": lower, "upper": upper}
    )


def cost_sensitivity(
    churned: pd.Series,
    probability: np.ndarray,
    groups: pd.Series,
    economics: Economics,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """What it costs to have the two costs wrong: decisions by the assumed threshold where other costs are true.

    Args:
        churned: labels, shape (n,).
        probability: churn probabilities, shape (n,).
        groups: customer of each row.
        economics: the assumed costs, by which the decision is taken.
        draws: bootstrap draws.
        seed: of the draws.

    Returns:
        One row per pair of true costs, each ``FACTORS`` times the assumed one: ``offer_cost_usd, churner_value_usd,
        right_threshold``, and in USD per customer ``value_usd`` of the decisions taken, ``lost_usd`` against those by
        the right threshold with ``lost_lower, lost_upper``. Pairs under which no offer could pay are left out.
    """
    y, rows = churned.to_numpy(dtype=float), []
    for cost in (factor * economics.offer_cost_usd for factor in FACTORS):
        for worth in (factor * economics.churner_value_usd for factor in FACTORS):
            if cost >= worth:
                continue
            true = Economics(cost, worth)
            taken = decision_value_usd(y, probability >= economics.threshold, true)
            lost = decision_value_usd(y, probability >= true.threshold, true) - taken
            lower, upper = np.quantile(
                _average(lost[:, None], groups, draws, seed)[:, 0], [0.025, 0.975]
            )
            rows.append(
                {
                    "offer_cost_usd": cost,
                    "churner_value_usd": worth,
                    "right_threshold": true.threshold,
                    "value_usd": taken.mean(),
                    "lost_usd": lost.mean(),
                    "lost_lower": lower,
                    "lost_upper": upper,
                }
            )
    return pd.DataFrame(rows)


def _average(gains: np.ndarray, groups: pd.Series, draws: int, seed: int) -> np.ndarray:
    """Mean of each column of ``gains`` in each bootstrap draw, shape (draws, columns)."""
    size, parts = max(1, metrics.ROWS_AT_ONCE // len(gains)), []
    for start in range(0, draws, size):
        weights = metrics.resample(groups, min(size, draws - start), seed + start)
        parts.append(weights @ gains / weights.sum(axis=1, keepdims=True))
    return np.vstack(parts)
