import json

import numpy as np
import pandas as pd
import pytest

from churn_utils import settings
from churn_utils.errors import DataError
from churn_utils.monitoring import drift
from churn_utils.monitoring.decision import (
    ALERT,
    COLUMNS,
    CONCEPT,
    COVARIATE,
    DATA_QUALITY,
    NONE,
    OK,
    PRIOR,
    QUARANTINE,
    RETRAIN,
    Delivery,
    Evidence,
    Limits,
    Shift,
)
from churn_utils.monitoring.retraining_value import WindowGain
from churn_utils.simulation import customers, deliveries
from churn_utils.simulation.scenarios import START_MONTH, Simulation

LIMITS = Limits()
DELIVERY = Delivery(delivered=7043, quarantined=0)


def evidence_of(gains=(), new=(), standing=(), passed=(), quarantined=0):
    return Evidence(
        champion_version=1,
        delivered=1000,
        quarantined=quarantined,
        shifts={name: Shift(psi=0.3, feature_reliance=0.1) for name in [*new, *standing]},
        new_shifts=list(new),
        standing=dict.fromkeys(standing, 0.3),
        gains=list(gains),
        passed=list(passed),
    )


def gain_of(gain=40.0, lower=20.0, newest=40.0, prior=5.0):
    return WindowGain(
        labels_from="2025-04-01",
        labels_to="2025-04-01",
        rows=4200,
        gain_usd=gain,
        lower=lower,
        upper=2 * gain - lower,
        newest_gain_usd=newest,
        prior_gain_usd=prior,
    )


def decide_on(evidence):
    return drift.decide_on_evidence(settings.month_start(5), evidence, LIMITS)


# --- from evidence to decision


@pytest.mark.parametrize(
    ("evidence", "action", "diagnosis"),
    [
        (evidence_of(), OK, NONE),
        (evidence_of(new=["tenure"]), ALERT, COVARIATE),
        (evidence_of(standing=["tenure"]), OK, COVARIATE),
        (evidence_of([gain_of()]), RETRAIN, CONCEPT),
        (evidence_of([gain_of()], new=["tenure"]), RETRAIN, CONCEPT),
        (evidence_of([gain_of(prior=38.0)]), RETRAIN, PRIOR),
        # surely better, not surely worth it
        (evidence_of([gain_of(lower=4.0)]), OK, NONE),
        # was worth it, in a month that is over
        (evidence_of([gain_of(newest=1.0)]), OK, NONE),
        # what moved then is back by now
        (evidence_of([gain_of()], passed=["tenure"]), OK, NONE),
        (evidence_of(quarantined=50), OK, NONE),
        (evidence_of([gain_of()], new=["tenure"], quarantined=51), QUARANTINE, DATA_QUALITY),
    ],
)
def test_evidence_becomes_one_decision(evidence, action, diagnosis):
    decision = decide_on(evidence)
    assert (decision.action, decision.diagnosis) == (action, diagnosis)


@pytest.mark.parametrize(
    ("gain", "action", "diagnosis"),
    [
        (gain_of(lower=LIMITS.gain_usd), OK, NONE),
        (gain_of(lower=LIMITS.gain_usd + 0.01), RETRAIN, CONCEPT),
        (gain_of(newest=LIMITS.gain_usd), OK, NONE),
        (gain_of(newest=LIMITS.gain_usd + 0.01), RETRAIN, CONCEPT),
        (gain_of(gain=40.0, prior=40.0 * LIMITS.prior_share), RETRAIN, PRIOR),
        (gain_of(gain=40.0, prior=40.0 * LIMITS.prior_share - 0.01), RETRAIN, CONCEPT),
    ],
)
def test_a_gain_at_a_limit_decides_as_the_limit_says(gain, action, diagnosis):
    decision = decide_on(evidence_of([gain]))
    assert (decision.action, decision.diagnosis) == (action, diagnosis)


def test_the_window_with_the_highest_lower_bound_decides():
    assert decide_on(evidence_of([gain_of(lower=2.0), gain_of(lower=20.0)])).action == RETRAIN


def test_the_reason_has_its_numbers():
    assert "51 of 1000" in decide_on(evidence_of(quarantined=51)).reason
    assert "tenure (PSI 0.30)" in decide_on(evidence_of(new=["tenure"])).reason
    assert "2025-04 would be worth +40.0 USD" in decide_on(evidence_of([gain_of()])).reason


def test_the_limits_are_those_that_were_set_before_the_drill():
    assert Limits() == Limits(0.05, 0.1, 0.01, 5.0, 0.98, 0.8)


# --- in simulated months


def add_log_odds(rows, month, log_odds):
    """Draw the month's labels again where the log-odds move."""
    return customers.redraw_labels(rows, log_odds, [0, month]) if np.any(log_odds) else rows


def changed(month, scenario, start_month=START_MONTH):
    return deliveries.ingest_in_memory(month, Simulation(scenario, 5, start_month))[0]


def has_contract(rows):
    return (rows["contract"] != "Month-to-month").to_numpy()


def decide_months(champion, months, until, labelled_months=12):
    """Decide as-of months 2 to ``until`` without ever retraining; decisions by month."""
    history = None
    decisions = {}
    for month in range(2, until + 1):
        first = max(1, month - labelled_months)
        labelled = pd.concat([months[known] for known in range(first, month)])
        as_of = settings.month_start(month)
        made = drift.decide(as_of, DELIVERY, months[month], labelled, champion, history)
        decisions[month] = made
        history = pd.concat([history, made.to_frame()], ignore_index=True)
    return decisions


def actions_of(decisions):
    return [decision.action for decision in decisions.values()]


def test_a_changed_concept_is_found_with_its_first_labels(simulated, simulated_champion):
    months = {
        month: add_log_odds(rows, month, 2.5 * has_contract(rows) if month >= 3 else 0.0)
        for month, rows in enumerate(simulated[:5])
    }
    decisions = decide_months(simulated_champion, months, until=4)
    assert actions_of(decisions) == [OK, OK, RETRAIN]
    assert decisions[4].diagnosis == CONCEPT
    assert decisions[4].labels_from == decisions[4].labels_to == settings.month_start(3)


def test_a_moved_prior_is_diagnosed(simulated, simulated_champion):
    months = {
        month: add_log_odds(rows, month, 1.5 if month >= 3 else 0.0)
        for month, rows in enumerate(simulated[:5])
    }
    last = decide_months(simulated_champion, months, until=4)[4]
    assert (last.action, last.diagnosis) == (RETRAIN, PRIOR)


@pytest.mark.long  # short form: a changed concept, above
def test_a_slow_change_is_found_before_it_is_complete(simulated, simulated_champion):
    months = {
        month: add_log_odds(rows, month, 0.45 * max(0, month - 1) * has_contract(rows))
        for month, rows in enumerate(simulated)
    }
    decisions = decide_months(simulated_champion, months, until=7)
    assert decisions[2].action == OK
    retrainings = [month for month, made in decisions.items() if made.action == RETRAIN]
    first = retrainings[0]
    assert decisions[first].labels_to == settings.month_start(first - 1)


def test_a_wave_that_ended_causes_no_retraining(simulated, simulated_champion):
    """After two hard months, labels of a quiet one are there: the pooled gain no longer counts."""
    wave = {
        month: add_log_odds(rows, month, 2.5 * has_contract(rows) if month in (3, 4) else 0.0)
        for month, rows in enumerate(simulated)
    }
    labelled = pd.concat([wave[month] for month in range(1, 6)])
    as_of = settings.month_start(6)
    made = drift.decide(as_of, DELIVERY, wave[6], labelled, simulated_champion)
    assert made.action == OK and "no longer in the newest labelled month" in made.reason
    pooled = made.evidence.gains[-1]
    assert pooled.lower > LIMITS.gain_usd > pooled.newest_gain_usd


def test_a_price_wave_over_by_scoring_time_causes_no_retraining(simulated, simulated_champion):
    risen = changed(3, "price_rise")
    as_of = settings.month_start(4)
    back = drift.decide(as_of, DELIVERY, simulated[4], risen, simulated_champion)
    assert back.action == OK and "avg_price_increase" in back.evidence.passed
    stays = changed(4, "price_rise")
    made = drift.decide(as_of, DELIVERY, stays, risen, simulated_champion)
    assert made.action == RETRAIN and made.evidence.passed == []


def test_a_shift_is_alerted_once_and_again_after_it_had_gone(simulated, simulated_champion):
    months = dict(enumerate(simulated[:6]))
    months |= {month: changed(month, "mix_shift", start_month=2) for month in (2, 3, 5)}
    decisions = decide_months(simulated_champion, months, until=5, labelled_months=1)
    assert actions_of(decisions) == [ALERT, OK, OK, ALERT]
    diagnoses = [decision.diagnosis for decision in decisions.values()]
    assert diagnoses == [COVARIATE, COVARIATE, NONE, COVARIATE]


def test_a_feature_that_is_hardly_used_raises_no_alert(simulated, simulated_champion):
    rows = simulated[2].assign(gender="Male")
    assert simulated_champion.feature_reliance["gender"] < LIMITS.reliance
    as_of = settings.month_start(2)
    made = drift.decide(as_of, DELIVERY, rows, simulated[1], simulated_champion)
    assert made.action == OK


def test_a_quarantine_hides_no_alert_of_the_month_after(simulated, simulated_champion):
    moved = {month: changed(month, "mix_shift", start_month=2) for month in (2, 3)}
    as_of, past = settings.month_start(2), simulated[1]
    broken = Delivery(delivered=7043, quarantined=2113)
    first = drift.decide(as_of, broken, moved[2].head(4930), past, simulated_champion)
    all_bad = Delivery(delivered=9, quarantined=9)
    empty = drift.decide(as_of, all_bad, moved[2].head(0), past, simulated_champion)
    assert first.action == empty.action == QUARANTINE
    assert first.evidence.shifts == empty.evidence.shifts == {}
    as_of, history = settings.month_start(3), first.to_frame()
    then = drift.decide(as_of, DELIVERY, moved[3], past, simulated_champion, history)
    assert then.action == ALERT


def test_a_decision_that_is_made_twice_is_the_same(simulated, simulated_champion):
    rows, past, as_of = simulated[2], simulated[1], settings.month_start(2)
    once = drift.decide(as_of, DELIVERY, rows, past, simulated_champion)
    history = once.to_frame()
    twice = drift.decide(as_of, DELIVERY, rows, past, simulated_champion, history)
    assert twice == once
    keys = {"champion_version", "shifts", "gains", "standing", "delivered"}
    assert set(json.loads(history["evidence"].item())) >= keys


def test_labels_that_were_trained_on_are_no_news(simulated, simulated_champion):
    as_of = settings.month_start(1)
    made = drift.decide(as_of, DELIVERY, simulated[1], simulated[0], simulated_champion)
    assert made.labels_from is made.labels_to is None
    assert "no labels since" in made.reason


def test_rows_that_the_gate_reads_decide_nothing(simulated, simulated_champion):
    as_of, past = settings.month_start(2), simulated[1]
    made = drift.decide(as_of, DELIVERY, simulated[2], past, simulated_champion)
    assert made.evidence.gains[0].rows == (past["split"] == "train").sum()


def test_labels_of_a_month_that_is_not_over_are_refused(simulated, simulated_champion):
    rows, as_of = simulated[2], settings.month_start(2)
    with pytest.raises(DataError, match="7043 label.* not over"):
        drift.decide(as_of, DELIVERY, rows, rows, simulated_champion)


def test_a_delivery_without_rows_is_refused(simulated, simulated_champion):
    as_of, nothing = settings.month_start(2), Delivery(delivered=0, quarantined=0)
    with pytest.raises(DataError, match="no row of 2025-03-01"):
        drift.decide(as_of, nothing, simulated[2].head(0), simulated[1], simulated_champion)
    one = Delivery(delivered=1, quarantined=1)
    made = drift.decide(as_of, one, simulated[2].head(0), simulated[1], simulated_champion)
    assert made.action == QUARANTINE


# --- another scenario in memory


@pytest.mark.parametrize(
    ("scenario", "start", "expected"),
    [
        ("competitor", 2, [OK, RETRAIN]),
        pytest.param("mix_shift", 3, [ALERT, OK], marks=pytest.mark.long),
        ("data_bug", 2, [QUARANTINE, OK]),
    ],
)
def test_a_scenario_calls_for_what_its_change_needs(
    scenario, start, expected, simulated_champion, home
):
    tried = drift.try_scenario(scenario, 5, simulated_champion, start_month=start)
    assert list(tried.columns) == COLUMNS and tried["decision"].tolist() == expected
    assert tried["as_of_date"].tolist() == [
        settings.month_start(start),
        settings.month_start(start + 1),
    ]
    assert not (home / "lakehouse").exists()  # nothing is written


def test_an_unknown_scenario_cannot_be_tried(simulated_champion):
    with pytest.raises(DataError, match="'price_fall'"):
        drift.try_scenario("price_fall", 5, simulated_champion)
