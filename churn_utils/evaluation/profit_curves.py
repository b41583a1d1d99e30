"""What the decision earns under other thresholds and other costs, with intervals over customers."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd

from churn_utils.evaluation import bootstrap
from churn_utils.evaluation.bootstrap import ScoredRows
from churn_utils.evaluation.economics import Economics, decision_value_usd

FACTORS = (0.5, 0.75, 1.0, 1.25, 1.5)


def value_curve(
    scored: ScoredRows,
    economics: Economics,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compute what each threshold from 0 to 1 would have earned, in USD per customer.

    Returns:
        ``threshold, value_usd`` and its 95 % bootstrap interval ``lower, upper``.
    """
    thresholds = np.linspace(0, 1, 101)
    churned = scored.churned.to_numpy(dtype=float)
    treated = [scored.probability >= threshold for threshold in thresholds]
    gains = np.column_stack([decision_value_usd(churned, each, economics) for each in treated])
    lower, upper = bootstrap.interval_of_means(gains, scored.customers, draws, seed, scored.weights)
    return pd.DataFrame(
        {
            "threshold": thresholds,
            "value_usd": np.average(gains, axis=0, weights=scored.weights),
            "lower": lower,
            "upper": upper,
        }
    )


def cost_sensitivity(
    scored: ScoredRows,
    economics: Economics,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compute what it costs to decide by the assumed costs, ``economics``, where others are true.

    Returns:
        One row per pair of true costs, each ``FACTORS`` times the assumed one: ``offer_cost_usd,
        churner_value_usd, right_threshold``, and in USD per customer ``value_usd`` of the decisions
        taken and ``lost_usd`` against those by the right threshold, with ``lost_lower, lost_upper``
        (95 %). Pairs under which no offer could pay are left out.
    """
    churned = scored.churned.to_numpy(dtype=float)
    treated = scored.probability >= economics.threshold
    rows = []
    for cost_factor, value_factor in product(FACTORS, FACTORS):
        cost = cost_factor * economics.offer_cost_usd
        value = value_factor * economics.churner_value_usd
        if cost >= value * economics.save_rate:
            continue
        true = Economics(cost, value, economics.save_rate)
        taken = decision_value_usd(churned, treated, true)
        best = decision_value_usd(churned, scored.probability >= true.threshold, true)
        lost = best - taken
        bounds = bootstrap.interval_of_means(
            lost[:, None], scored.customers, draws, seed, scored.weights
        )
        rows.append(
            {
                "offer_cost_usd": cost,
                "churner_value_usd": value,
                "right_threshold": true.threshold,
                "value_usd": np.average(taken, weights=scored.weights),
                "lost_usd": np.average(lost, weights=scored.weights),
                "lost_lower": bounds[0].item(),
                "lost_upper": bounds[1].item(),
            }
        )
    return pd.DataFrame(rows)
