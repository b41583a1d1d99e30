"""What offers achieved: treated customers against the control group of the same months."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pandas as pd

from churn_utils.errors import DataError
from churn_utils.evaluation.bootstrap import clustered_error
from churn_utils.evaluation.economics import Economics
from churn_utils.features.offer_policy import CONTROL, TREATED

MONTHLY = [
    *("snapshot_date", "treated", "control", "churn_treated", "churn_control"),
    *("save_rate", "rate_lower", "rate_upper"),
    *("caused_usd", "usd_lower", "usd_upper", "forgone_usd"),
]
MIN_CONTROL_CHURNERS = 5  # fewer give no interval of a ratio


@dataclass(frozen=True)
class Estimate:
    """A measured figure and the bounds of its interval."""

    value: float
    lower: float
    upper: float

    def covers(self, truth: float) -> bool:
        """Tell whether a figure lies in the interval."""
        return self.lower <= truth <= self.upper

    def __str__(self) -> str:
        """Show the figure with its interval."""
        return f"{self.value:,.2f} [{self.lower:,.2f}, {self.upper:,.2f}]"


@dataclass(frozen=True)
class OfferEffects:
    """What the offers of some months achieved.

    Attributes:
        treated, control: number of customers, each month counted.
        churn_treated, churn_control: share of them who churned.
        save_rate: share of churners that the offer kept, 1 - churn_treated / churn_control;
            negative where contact drove customers away.
        caused_usd: USD that the offers caused: value of the churn avoided less cost of the offers.
        forgone_usd: USD that offers to the control group would have caused: its price.
    """

    treated: int
    control: int
    churn_treated: float
    churn_control: float
    save_rate: Estimate
    caused_usd: Estimate
    forgone_usd: Estimate


def measure_offers(
    rows: pd.DataFrame, economics: Economics, confidence: float = 0.95
) -> OfferEffects | None:
    """Compare treated and control customers.

    Selected customers are divided at random, so the control group's churn rate is what the treated
    ones' would have been. Intervals: of the save rate by the logarithm of the ratio (D. Katz et
    al., Obtaining confidence intervals for the risk ratio in cohort studies, 1978), with variances
    that add up a customer's months; of USD by the variance of the control group's rate, as whether
    treated customers churned is known.

    Args:
        rows: labelled rows: ``customer_id, group, churned``; those not selected do not count.
        economics: cost of an offer and value of a churner who stays; its save rate is not used.
        confidence: of the two-sided intervals.

    Returns:
        The effects; None while too few customers of either group churned or are labelled.

    Raises:
        DataError: a row without a label.
    """
    if rows["churned"].isna().any():
        raise DataError(f"{rows['churned'].isna().sum()} of {len(rows)} rows have no label.")
    treated = _summarize(rows[rows["group"] == TREATED])
    control = _summarize(rows[rows["group"] == CONTROL])
    if treated.rows == 0 or control.churners < MIN_CONTROL_CHURNERS:
        return None
    quantile = NormalDist().inv_cdf((1 + confidence) / 2)
    error = control.error * np.sqrt(1 + control.rows / treated.rows)
    avoided = control.rate - treated.rate
    caused = _value_usd(avoided, quantile * error, treated.rows, economics)
    forgone = _value_usd(avoided, quantile * error, control.rows, economics)
    return OfferEffects(
        treated=treated.rows,
        control=control.rows,
        churn_treated=treated.rate,
        churn_control=control.rate,
        save_rate=_estimate_save_rate(treated, control, confidence),
        caused_usd=caused,
        forgone_usd=forgone,
    )


def measure_by_month(
    rows: pd.DataFrame, economics: Economics, confidence: float = 0.95
) -> pd.DataFrame:
    """Compare treated and control customers of each month.

    Args:
        rows, economics, confidence: as for ``measure_offers``; the months are in
            ``snapshot_date``.

    Returns:
        One row per month that can be measured: ``snapshot_date, treated, control, churn_treated,
        churn_control, save_rate, rate_lower, rate_upper, caused_usd, usd_lower, usd_upper,
        forgone_usd`` (USD of all customers together).
    """
    table = []
    for month, of_month in rows.groupby("snapshot_date"):
        effects = measure_offers(of_month, economics, confidence)
        if effects is not None:
            rate, caused = effects.save_rate, effects.caused_usd
            table.append(
                {
                    "snapshot_date": month,
                    "treated": effects.treated,
                    "control": effects.control,
                    "churn_treated": effects.churn_treated,
                    "churn_control": effects.churn_control,
                    "save_rate": rate.value,
                    "rate_lower": rate.lower,
                    "rate_upper": rate.upper,
                    "caused_usd": caused.value,
                    "usd_lower": caused.lower,
                    "usd_upper": caused.upper,
                    "forgone_usd": effects.forgone_usd.value,
                }
            )
    return pd.DataFrame(table, columns=MONTHLY)


@dataclass(frozen=True)
class _Group:
    """Churn of a group."""

    rows: int
    churners: int
    rate: float
    error: float  # standard error of the rate


def _summarize(rows: pd.DataFrame) -> _Group:
    """Return the churn of a group; a customer's months are not independent."""
    if rows.empty:
        return _Group(0, 0, np.nan, np.nan)
    churned = rows["churned"].to_numpy(dtype=float)
    error = clustered_error(churned, rows["customer_id"])
    return _Group(len(rows), int(churned.sum()), float(churned.mean()), error)


def _estimate_save_rate(treated: _Group, control: _Group, confidence: float) -> Estimate:
    """Return 1 - treated rate / control rate, with the interval of the ratio's logarithm."""
    ratio = treated.rate / control.rate
    tail = (1 - confidence) / 2
    if treated.churners == 0:
        # The logarithm of 0 has no interval: of so many expected churners none comes by chance.
        expected = -np.log(tail)
        return Estimate(1.0, float(1 - expected / treated.rows / control.rate), 1.0)
    quantile = NormalDist().inv_cdf(1 - tail)
    error = np.hypot(treated.error / treated.rate, control.error / control.rate)
    spread = np.exp(quantile * error)
    return Estimate(1 - ratio, 1 - ratio * spread, 1 - ratio / spread)


def _value_usd(avoided: float, half: float, offers: int, economics: Economics) -> Estimate:
    """Return value of the churn avoided less cost, of so many offers."""
    value, lower, upper = (
        offers * (economics.churner_value_usd * share - economics.offer_cost_usd)
        for share in (avoided, avoided - half, avoided + half)
    )
    return Estimate(value, lower, upper)
