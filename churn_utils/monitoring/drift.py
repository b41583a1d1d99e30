"""Decide what each as-of month calls for: ok, alert, quarantine or retrain.

A statistic that crosses a limit is a reason to look (alert), never to retrain. A retraining is
decided in USD: a quick refit on the newest labelled months against the champion on the same rows.
"""

from __future__ import annotations

import pandas as pd

from churn_utils import settings
from churn_utils.errors import DataError
from churn_utils.features import offers
from churn_utils.monitoring import decision, retraining_value, save_rates, shifts
from churn_utils.monitoring.champion import Champion
from churn_utils.monitoring.decision import Decision, Delivery, Evidence, Limits
from churn_utils.monitoring.retraining_value import WindowGain
from churn_utils.simulation import deliveries
from churn_utils.simulation.scenarios import START_MONTH, Simulation
from churn_utils.training import models


@models.one_thread
def decide(
    as_of: pd.Timestamp,
    delivery: Delivery,
    current: pd.DataFrame,
    labelled: pd.DataFrame,
    champion: Champion,
    history: pd.DataFrame | None = None,
    limits: Limits | None = None,
    seed: int = 0,
) -> Decision:
    """Gather the evidence of an as-of month and decide what it calls for.

    Rows in ``current`` and ``labelled`` may carry the champion's probability as ``champion_score``,
    which saves computing it and checking the inputs.

    Args:
        as_of: the month; its snapshot has been ingested.
        delivery: counts of that snapshot.
        current: its accepted rows with all model inputs; may be empty.
        labelled: labelled rows known at ``as_of``: ``customer_id, event_date, churned, split`` and
            the model inputs; where offers were made also ``group`` and ``weight``
            (``offers.add_weights``). What a retraining would be worth is measured on ``train`` rows
            without an offer; what the gate reads stays unseen. What offers achieve is measured on
            all rows.
        champion: the one in effect.
        history: rows of ``decisions``; only earlier ones are read, so deciding twice decides alike.
        limits: where evidence becomes a decision.
        seed: of the folds.

    Raises:
        DataError: nothing was delivered, or labels of a month that is not over.
    """
    limits = limits or Limits()
    _check(as_of, delivery, labelled)
    is_news = labelled["event_date"] > champion.trained_to
    delivered_since = labelled[(labelled["split"] == "train") & is_news]
    news = offers.keep_untreated(delivered_since)
    if is_broken(delivery, limits):
        current = current.head(0)  # what is left of a broken delivery says nothing about customers
    standing = shifts.read_standing(history, as_of, champion.version)
    observed = shifts.gather_shifts(current, champion, standing, limits)
    evidence = Evidence(
        champion_version=champion.version,
        delivered=delivery.delivered,
        quarantined=delivery.quarantined,
        faults=delivery.faults,
        shifts=observed.shifts,
        weighted_psi=observed.weighted_psi,
        new_shifts=observed.new_shifts,
        standing=observed.standing,
        gains=retraining_value.measure_gains(news, champion, limits.confidence, seed),
        save_rate=save_rates.measure(as_of, labelled, champion, history, limits),
        without_control=save_rates.list_without_control(labelled),
    )
    if evidence.shifts and _is_worth_it(evidence.best_window, limits):
        # Treated rows too: features do not depend on offers, and a part of them is no month.
        is_newest = delivered_since["event_date"] == delivered_since["event_date"].max()
        newest = delivered_since[is_newest]
        then = shifts.measure_relied_on(newest, champion, limits)
        passed = shifts.list_passed(then, evidence.shifts, limits)
        evidence = evidence.model_copy(update={"passed": passed})
    return decide_on_evidence(as_of, evidence, limits)


def is_broken(delivery: Delivery | Evidence, limits: Limits | None = None) -> bool:
    """Tell whether a delivery was held back, or too many of its rows to trust the rest."""
    if delivery.faults:
        return True
    share = (limits or Limits()).quarantined_share
    return delivery.quarantined > share * delivery.delivered


def _check(as_of: pd.Timestamp, delivery: Delivery, labelled: pd.DataFrame) -> None:
    if delivery.delivered < 1:
        raise DataError(
            f"no row of {as_of:%Y-%m-%d} was delivered; ask upstream for the snapshot, then decide."
        )
    early = (labelled["event_date"] >= as_of).sum()
    if early:
        raise DataError(
            f"{early} label(s) belong to {as_of:%Y-%m-%d} or later, which is not over; "
            "read labels as of the date on which you decide."
        )


def decide_on_evidence(as_of: pd.Timestamp, evidence: Evidence, limits: Limits) -> Decision:
    """Turn evidence into a decision: first the delivery, then the labels, then the features."""
    return Decision(as_of, *_choose(evidence, limits), evidence)


def _choose(evidence: Evidence, limits: Limits) -> tuple[str, str, str]:
    """Return ``(action, diagnosis, reason)``."""
    if evidence.faults:
        reason = (
            f"the delivery does not look like a month: {'; '.join(evidence.faults)}; have it "
            "corrected before it is scored"
        )
        return decision.QUARANTINE, decision.DATA_QUALITY, reason
    if is_broken(evidence, limits):
        share = evidence.quarantined / evidence.delivered
        reason = (
            f"{evidence.quarantined} of {evidence.delivered} delivered rows ({share:.1%}) break "
            "the contract; have the delivery corrected before it is scored"
        )
        return decision.QUARANTINE, decision.DATA_QUALITY, reason
    gain = evidence.best_window
    if gain is None and evidence.without_control:
        return _choose_by_shifts(evidence, save_rates.describe_without_control(evidence))
    if gain is None:
        return _choose_by_shifts(evidence, "no labels since the champion's training")
    worth = _describe_gain(gain)
    if not _is_worth_it(gain, limits):
        return _choose_by_shifts(evidence, worth)
    if gain.newest_gain_usd <= limits.gain_usd:
        return _choose_by_shifts(evidence, f"{worth}, but no longer in the newest labelled month")
    if evidence.passed:
        return _choose_by_shifts(
            evidence, f"{worth}, but {', '.join(evidence.passed)} is back by now"
        )
    intercept_is_enough = gain.prior_gain_usd >= limits.prior_share * gain.gain_usd
    diagnosis = decision.PRIOR if intercept_is_enough else decision.CONCEPT
    return decision.RETRAIN, diagnosis, worth


def _is_worth_it(gain: WindowGain | None, limits: Limits) -> bool:
    """Tell whether a refit would surely win more than a retraining must."""
    return gain is not None and gain.lower > limits.gain_usd


def _choose_by_shifts(evidence: Evidence, labels_say: str) -> tuple[str, str, str]:
    """Return ``(action, diagnosis, reason)`` where labels call for no retraining."""
    if evidence.new_shifts:
        psi = {name: evidence.shifts[name].psi for name in evidence.new_shifts}
        moved = ", ".join(f"{name} (PSI {value:.2f})" for name, value in psi.items())
        reason = f"moved since training: {moved}; {labels_say}"
        return decision.ALERT, decision.COVARIATE, reason
    if evidence.save_rate is not None and evidence.save_rate.is_news:
        reason = f"{evidence.save_rate}: enter the new rate with the next version; {labels_say}"
        return decision.ALERT, decision.ECONOMICS, reason
    if evidence.standing:
        standing = ", ".join(evidence.standing)
        reason = f"alerted and unchanged: {standing}; {labels_say}"
        return decision.OK, decision.COVARIATE, reason
    return decision.OK, decision.NONE, f"no used feature moved; {labels_say}"


def _describe_gain(gain: WindowGain) -> str:
    """Return the gain in words, with its months and its interval."""
    first = gain.labels_from[:7]
    last = gain.labels_to[:7]
    interval = f"[{gain.lower:+.1f}, {gain.upper:+.1f}]"
    worth = f"{gain.gain_usd:+.1f} USD a customer {interval}"
    return f"a refit on {first} to {last} would be worth {worth}"


def try_scenario(
    scenario: str,
    seed: int,
    champion: Champion,
    start_month: int = START_MONTH,
) -> pd.DataFrame:
    """Decide, in memory, the month in which another scenario changes, and the one after.

    Returns:
        Two rows with ``decision.COLUMNS``.

    Raises:
        DataError: unknown scenario.
    """
    simulation = Simulation(scenario, seed, start_month)
    decided = None
    for month in (start_month, start_month + 1):
        broken = scenario == "data_bug" and month == start_month
        current, quarantined = deliveries.ingest_in_memory(month, simulation, broken)
        past = [deliveries.ingest_in_memory(known, simulation)[0] for known in range(month)]
        made = decide(
            settings.month_start(month),
            Delivery(len(current) + quarantined, quarantined),
            current,
            pd.concat(past),
            champion,
            decided,
        )
        decided = pd.concat([decided, made.to_frame()], ignore_index=True)
    return decided
