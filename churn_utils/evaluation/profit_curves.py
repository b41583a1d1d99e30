"""What the decision earns under other thresholds and other costs, with intervals over customers."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd

from churn_utils.evaluation import bootstrap
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
    """Compute what each threshold from 0 to 1 would have earned, in USD per customer.

    Args:
        churned: labels, shape (n,).
        probability: churn probabilities, shape (n,).
        groups: customer of each row; all rows of a customer are drawn together.
        economics: value of an offer.
        draws: bootstrap draws, the same for all thresholds.
        seed: of the draws.

    Returns:
        ``threshold, value_usd`` and its 95 % bootstrap interval ``lower, upper``.
    """
    thresholds = np.linspace(0, 1, 101)
    y = churned.to_numpy(dtype=float)
    columns = [decision_value_usd(y, probability >= t, economics) for t in thresholds]
    gains = np.stack(columns, axis=1)
    means = bootstrap.bootstrap_means(gains, groups, draws, seed)
    lower, upper = bootstrap.percentile_bounds(means)
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
    """Compute what it costs to decide by the assumed costs where others are true.

    Args:
        churned: labels, shape (n,).
        probability: churn probabilities, shape (n,).
        groups: customer of each row.
        economics: the assumed costs, by which the decision is taken.
        draws: bootstrap draws.
        seed: of the draws.

    Returns:
        One row per pair of true costs, each ``FACTORS`` times the assumed one: ``offer_cost_usd,
        churner_value_usd, right_threshold``, and in USD per customer ``value_usd`` of the decisions
        taken and ``lost_usd`` against those by the right threshold, with ``lost_lower, lost_upper``
        (95 %). Pairs under which no offer could pay are left out.
    """
    y = churned.to_numpy(dtype=float)
    rows = []
    for cost_factor, value_factor in product(FACTORS, FACTORS):
        cost = cost_factor * economics.offer_cost_usd
        value = value_factor * economics.churner_value_usd
        if cost >= value:
            continue
        true = Economics(cost, value)
        taken = decision_value_usd(y, probability >= economics.threshold, true)
        best = decision_value_usd(y, probability >= true.threshold, true)
        lost = best - taken
        means = bootstrap.bootstrap_means(lost[:, None], groups, draws, seed)
        lower, upper = bootstrap.percentile_bounds(means[:, 0])
        rows.append(
            {
                "offer_cost_usd": cost,
                "churner_value_usd": value,
                "right_threshold": true.threshold,
                "value_usd": taken.mean(),
                "lost_usd": lost.mean(),
                "lost_lower": lower,
                "lost_upper": upper,
            }
        )
    return pd.DataFrame(rows)
