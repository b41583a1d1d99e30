"""Try offers in memory: the simulation knows what each customer does with an offer and without.

No table is read or written, so that a home which makes no offers can show what they would do.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from churn_utils.evaluation.economics import Economics
from churn_utils.evaluation.offer_effects import measure_offers
from churn_utils.features import offers
from churn_utils.features.offer_policy import CONTROL, NOT_SELECTED, TREATED, OfferPolicy
from churn_utils.inference import scoring
from churn_utils.monitoring import drift_tests
from churn_utils.monitoring.champion import Champion
from churn_utils.monitoring.retraining_value import train_champion
from churn_utils.simulation import deliveries
from churn_utils.simulation.scenarios import Simulation


def train_first_champion(economics: Economics, seed: int) -> Champion:
    """Train a champion on the first month of the simulation, IBM's, in which no offer was made."""
    rows, _ = deliveries.ingest_in_memory(0, Simulation("none", seed))
    return train_champion(rows, 1, economics)


def make_offers(rows: pd.DataFrame, champion: Champion, policy: OfferPolicy) -> pd.DataFrame:
    """Carry out a champion's decisions about a month.

    Args:
        rows: of ``deliveries.ingest_in_memory``; ``champion_score`` where they were scored before.
        champion: decides who is selected.
        policy: says who of them is kept as control.

    Returns:
        The rows with ``champion_score``, ``group``, ``treatment_probability``, ``weight``
        (``offers.add_weights``), and with ``churned`` after the offers.
    """
    probability = champion.with_score(rows)[drift_tests.SCORE].to_numpy()
    is_selected = probability >= champion.economics.threshold
    groups = offers.assign_groups(rows["customer_id"], is_selected, policy)
    is_treated = groups["group"] == TREATED
    churned = rows["churns_with_offer"].where(is_treated, rows["churns_without_offer"])
    offered = rows.assign(**{drift_tests.SCORE: probability}, churned=churned, **groups)
    return offers.add_weights(offered, offered)


def try_months(
    simulation: Simulation, champion: Champion, policy: OfferPolicy, first: int, months: int
) -> pd.DataFrame:
    """Make offers in consecutive months; later months hold who was kept by those before.

    Returns:
        The rows of ``make_offers`` of all months, oldest first.
    """
    treated: dict[int, set[str]] = {}
    parts = []
    for month in range(first, first + months):
        rows, _ = deliveries.ingest_in_memory(month, simulation, treated=treated)
        offered = make_offers(rows, champion, policy)
        treated[month] = set(offered.loc[offered["group"] == TREATED, "customer_id"])
        parts.append(offered)
    return pd.concat(parts, ignore_index=True)


def compare_shares(
    rows: pd.DataFrame, champion: Champion, shares: list[float], salt: str
) -> pd.DataFrame:
    """Compare what control groups of several sizes cost and what can be measured with them.

    Args:
        rows: of one month, as ``deliveries.ingest_in_memory`` returns them.
        champion: decides who is selected.
        shares: of the control group.
        salt: of the draw.

    Returns:
        One row per share: ``control_share, forgone_usd`` (USD a customer that offers to the control
        group would have been expected to cause), ``save_rate`` with its 95 % bounds ``lower,
        upper`` (missing without control group) and the expected one, ``true_save_rate``.
    """
    table = []
    for share in shares:
        offered = make_offers(rows, champion, OfferPolicy(share, salt))
        selected = offered[offered["group"] != NOT_SELECTED]
        effects = measure_offers(selected, champion.economics)
        rate = (np.nan,) * 3
        if effects is not None:
            rate = effects.save_rate.value, effects.save_rate.lower, effects.save_rate.upper
        gains = expected_gain_usd(selected, champion.economics)
        is_control = selected["group"] == CONTROL
        with_offer, without = selected["probability_with_offer"], selected["churn_probability"]
        table.append(
            {
                "control_share": share,
                "forgone_usd": gains[is_control].sum() / len(offered),
                "save_rate": rate[0],
                "lower": rate[1],
                "upper": rate[2],
                "true_save_rate": 1 - with_offer.sum() / without.sum(),
            }
        )
    return pd.DataFrame(table)


def expected_gain_usd(rows: pd.DataFrame, economics: Economics) -> pd.Series:
    """Return what an offer to each customer is truly expected to cause, in USD."""
    avoided = rows["churn_probability"] - rows["probability_with_offer"]
    return avoided * economics.churner_value_usd - economics.offer_cost_usd


def compare_refits(learned: pd.DataFrame, unseen: pd.DataFrame, champion: Champion) -> pd.DataFrame:
    """Refit on labels after offers, with and without regard to who got one, and value the offers.

    Args:
        learned: rows of ``try_months``, whose labels are known.
        unseen: rows of a later month.
        champion: the model that made the offers.

    Returns:
        Index ``champion, refit on all labels, refit on weighted untreated labels``: ``selected``
        (share of the customers), ``mean_probability`` of those that the champion selects, and
        ``caused_usd`` (USD a customer that the offers are truly expected to cause).
    """
    as_if_untreated = learned.assign(**{offers.WEIGHT: 1.0})
    version = champion.version + 1
    compared = {
        "champion": champion,
        "refit on all labels": train_champion(as_if_untreated, version),
        "refit on weighted untreated labels": train_champion(learned, version),
    }
    gains = expected_gain_usd(unseen, champion.economics)
    threshold = champion.economics.threshold
    was_selected = scoring.predict_probability(champion.model, unseen) >= threshold
    table = {}
    for name, model in compared.items():
        probability = scoring.predict_probability(model.model, unseen)
        is_selected = probability >= threshold
        table[name] = {
            "selected": is_selected.mean(),
            "mean_probability": probability[was_selected].mean(),
            "caused_usd": gains[is_selected].sum() / len(unseen),
        }
    return pd.DataFrame(table).T
