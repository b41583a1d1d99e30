"""Check that no group of customers is worse off with the challenger than without it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binom

from churn_utils.evaluation.economics import decision_value_usd
from churn_utils.features.definitions import SLICES
from churn_utils.validation.challenger import Challenger
from churn_utils.validation.finding import Finding

MIN_SLICE_ROWS = 50
HARM_LEVEL = 0.025  # one-sided, of all groups together
PROTECTED = ["gender", "senior_citizen"]
SIMULATIONS = 20_000  # of a sum of weighted rows; p-values are exact to about 0.001


@dataclass(frozen=True)
class GroupComparison:
    """How the decisions about one group change."""

    group: str  # ``column = value``
    p_value: float  # of "the group is not worse off", exact and one-sided
    gain_usd: float  # mean gain of the challenger per customer


def check_slices(challenger: Challenger) -> Finding:
    """No group is clearly worse off than with no offers, or than under the champion (exact, Holm).

    Protects from a model that is good on the whole and costs money in one group of customers.
    """
    treated = challenger.treated
    if challenger.champion is None:
        rival = "no offers"
        treated_before = np.zeros_like(treated)
    else:
        rival = f"champion {challenger.champion}"
        treated_before = challenger.champion_probability >= challenger.champion_threshold
    groups = compare_groups(challenger, treated, treated_before)
    worse_off = find_worse_off(groups)
    weakest = min(groups, key=lambda group: group.gain_usd)
    if worse_off:
        detail = f"clearly worse than under {rival}: {', '.join(worse_off)}"
    else:
        detail = f"{len(groups)} groups against {rival}; "
        detail += f"lowest {weakest.group} ({weakest.gain_usd:+.0f} USD)"
    unequal = equal_opportunity_difference(challenger.rows, treated)
    gaps = ", ".join(f"{name} {gap:.2f}" for name, gap in unequal.items())
    detail += f"; equal opportunity gap {gaps}"
    return Finding.of(not worse_off, "no group clearly worse (Holm)", detail, weakest.gain_usd)


def compare_groups(
    challenger: Challenger, treated: np.ndarray, treated_before: np.ndarray
) -> list[GroupComparison]:
    """Compare the challenger's offers (bool, shape (n,)) with those before in groups of 50 or more.

    Returns:
        One comparison for each value of each column of ``SLICES``, the clearest harm first.
    """
    economics = challenger.economics
    churned = challenger.rows["churned"].to_numpy(dtype=bool)
    value = decision_value_usd(churned.astype(float), treated, economics)
    value_before = decision_value_usd(churned.astype(float), treated_before, economics)
    gain = value - value_before
    weights = challenger.row_weights
    groups = []
    for column in SLICES:
        for group, positions in challenger.rows.groupby(column).indices.items():
            if len(positions) < MIN_SLICE_ROWS:
                continue
            p_value = p_value_of_harm(
                churned[positions],
                treated[positions],
                treated_before[positions],
                economics.threshold,
                None if weights is None else weights[positions],
            )
            counts = None if weights is None else weights[positions]
            mean_gain = float(np.average(gain[positions], weights=counts))
            groups.append(GroupComparison(f"{column} = {group}", p_value, mean_gain))
    return sorted(groups, key=lambda group: (group.p_value, group.group))


def find_worse_off(groups: list[GroupComparison]) -> list[str]:
    """Return the groups that are clearly worse off, with Holm's correction for their number.

    Holm: A Simple Sequentially Rejective Multiple Test Procedure (1979).
    """
    from statsmodels.stats.multitest import multipletests

    p_values = [group.p_value for group in groups]
    rejected = multipletests(p_values, alpha=HARM_LEVEL, method="holm")[0]
    return [group.group for group, is_harmed in zip(groups, rejected, strict=True) if is_harmed]


def p_value_of_harm(
    churned: np.ndarray,
    treated: np.ndarray,
    treated_before: np.ndarray,
    threshold: float,
    weights: np.ndarray | None = None,
) -> float:
    """Return the probability of outcomes as bad as these if changed decisions were worth nothing.

    An offer earns what it costs where customers churn with the probability ``threshold``.
    If the changed decisions are worth nothing on average, then offers made to churners and offers
    spared on stayers are sums of Bernoulli variables, with probabilities ``threshold`` and
    1 - ``threshold``. The test is exact and one-sided. (A bootstrap is certain of a loss after six
    offers without a churner, which chance alone gives one time in six.) Where rows count by weight,
    the distribution of the weighted sum is simulated. Arrays are of shape (n,).
    """
    if weights is not None:
        return _simulate_p_value(churned, treated, treated_before, threshold, weights)
    new_offers = churned[treated & ~treated_before]
    dropped_offers = churned[~treated & treated_before]
    right = int(new_offers.sum() + (~dropped_offers).sum())
    hits = binom.pmf(np.arange(len(new_offers) + 1), len(new_offers), threshold)
    spared = binom.pmf(np.arange(len(dropped_offers) + 1), len(dropped_offers), 1 - threshold)
    distribution = np.convolve(hits, spared)  # of the number of right changes
    return float(distribution[: right + 1].sum())


def _simulate_p_value(
    churned: np.ndarray,
    treated: np.ndarray,
    treated_before: np.ndarray,
    threshold: float,
    weights: np.ndarray,
) -> float:
    """Return the p-value of ``p_value_of_harm`` where rows count by weight."""
    is_new = treated & ~treated_before
    is_dropped = ~treated & treated_before
    is_right = np.where(is_new, churned, ~churned)
    right = 0.0
    simulated = np.zeros(SIMULATIONS)
    draws = np.random.default_rng(0)
    for is_changed, chance in ((is_new, threshold), (is_dropped, 1 - threshold)):
        for weight in np.unique(weights[is_changed]):
            alike = is_changed & (weights == weight)
            right += weight * is_right[alike].sum()
            simulated += weight * draws.binomial(alike.sum(), chance, SIMULATIONS)
    # Weights such as 1 / 0.1 add up to sums that differ in the last bits.
    return float((simulated <= right + 1e-9).mean())


def equal_opportunity_difference(
    rows: pd.DataFrame,
    treated: np.ndarray,
) -> dict[str, float]:
    """Return the largest gap between groups in the share of churners who get the offer.

    Hardt, Price, Srebro: Equality of Opportunity in Supervised Learning (2016). Reported, not
    bounded: a bound on it is a decision of policy, and these groups hold some 50 churners each.

    Returns:
        Gap for each of ``gender`` and ``senior_citizen``.
    """
    is_churner = rows["churned"].to_numpy(dtype=bool)
    churners = rows[PROTECTED].assign(treated=treated)[is_churner]
    gaps = {}
    for column in PROTECTED:
        rates = churners.groupby(column)["treated"].mean()
        gaps[column] = float(rates.max() - rates.min())
    return gaps
