"""Whether offers keep the share of churners that the champion's decisions assume."""

from __future__ import annotations

import pandas as pd

from churn_utils.evaluation.offer_effects import measure_offers
from churn_utils.features import offers
from churn_utils.features.offer_policy import CONTROL, TREATED
from churn_utils.monitoring.champion import Champion
from churn_utils.monitoring.decision import ECONOMICS, Evidence, Limits, SaveRate


def measure(
    as_of: pd.Timestamp,
    labelled: pd.DataFrame,
    champion: Champion,
    history: pd.DataFrame | None,
    limits: Limits,
) -> SaveRate | None:
    """Measure the save rate on labelled months, and tell whether it is to be alerted.

    Args:
        as_of: the month that is decided.
        labelled: labelled rows: ``customer_id, churned`` and, where offers were made, ``group``.
        champion: the one in effect; its economics assume a rate.
        history: rows of ``decisions``; what was alerted under the same champion is not alerted
            again.
        limits: give the confidence of the interval.

    Returns:
        The rate; None where no offers were made, or too few to measure it.
    """
    if "group" not in labelled:
        return None
    offered = labelled[labelled["group"].isin([TREATED, CONTROL])]
    if offered.empty:
        return None
    effects = measure_offers(offered, champion.economics, limits.save_rate_confidence)
    if effects is None:
        return None
    return SaveRate(
        assumed=champion.economics.save_rate,
        value=round(effects.save_rate.value, 4),
        lower=round(effects.save_rate.lower, 4),
        upper=round(effects.save_rate.upper, 4),
        treated=effects.treated,
        control=effects.control,
        was_alerted=_was_alerted(history, as_of, champion.version),
    )


def _was_alerted(history: pd.DataFrame | None, as_of: pd.Timestamp, champion_version: int) -> bool:
    """Tell whether an earlier month of the same champion was alerted for its save rate."""
    if history is None:
        return False
    is_earlier = history["as_of_date"] < as_of
    alerts = history[is_earlier & (history["diagnosis"] == ECONOMICS)]
    versions = [Evidence.model_validate_json(text).champion_version for text in alerts["evidence"]]
    return champion_version in versions


def list_without_control(labelled: pd.DataFrame) -> tuple[str, ...]:
    """Return the labelled months, such as 2025-04, in which no customer was kept as control."""
    if "group" not in labelled:
        return ()
    months = offers.list_months_without_control(labelled, "event_date")
    return tuple(f"{month:%Y-%m}" for month in months)


def describe_without_control(evidence: Evidence) -> str:
    """Return the sentence with which a retraining is refused where there is no control group."""
    months = [pd.Timestamp(month) for month in evidence.without_control]
    return offers.describe_missing_control(months)
