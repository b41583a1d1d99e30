"""Decisions where offers are made: what labels still say, and whether the assumed rate holds."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from churn_utils import settings
from churn_utils.evaluation.economics import Economics
from churn_utils.features import offers
from churn_utils.features.offer_policy import OfferPolicy
from churn_utils.monitoring import drift, offer_trial
from churn_utils.monitoring.decision import Delivery
from churn_utils.simulation.scenarios import Simulation

AS_OF = settings.month_start(4)


@pytest.fixture(scope="module")
def champion(simulated_champion):
    return dataclasses.replace(simulated_champion, economics=Economics(save_rate=0.5))


@pytest.fixture(scope="module")
def tried(champion):
    """Three months in which offers keep seven of ten churners."""
    simulation = Simulation("none", seed=5, save_rate=0.7)
    return offer_trial.try_months(simulation, champion, OfferPolicy(0.2), first=1, months=3)


def decide(rows, champion, current, history=None):
    delivery = Delivery(len(current), 0)
    return drift.decide(AS_OF, delivery, current, rows, champion, history)


def test_a_rate_that_left_the_assumed_one_is_alerted_once(tried, champion, simulated):
    made = decide(tried, champion, simulated[4])
    assert (made.action, made.diagnosis) == ("alert", "economics")
    assert "the champion assumes 50%" in made.reason
    rate = made.evidence.save_rate
    assert rate.lower < 0.7 < rate.upper and rate.lower > 0.5
    before = made.to_frame().assign(as_of_date=settings.month_start(3))
    again = decide(tried, champion, simulated[4], before)
    assert again.diagnosis != "economics"


def test_another_champion_is_alerted_again(tried, champion, simulated):
    before = decide(tried, champion, simulated[4]).to_frame()
    before = before.assign(as_of_date=settings.month_start(3))
    successor = dataclasses.replace(champion, version=2)
    assert decide(tried, successor, simulated[4], before).diagnosis == "economics"


def test_the_right_rate_is_no_alert(tried, champion, simulated):
    right = dataclasses.replace(champion, economics=Economics(save_rate=0.7))
    made = decide(tried, right, simulated[4])
    assert (made.action, made.diagnosis) == ("ok", "none")


def test_offers_that_work_call_for_no_retraining(tried, champion, simulated):
    assert decide(tried, champion, simulated[4]).action != "retrain"
    naive = tried.assign(weight=1.0)
    assert decide(naive, champion, simulated[4]).action == "retrain", "labels as they came do"


def test_without_control_group_nothing_is_learned(champion, simulated):
    simulation = Simulation("competitor", seed=5, start_month=1)
    rows = offer_trial.try_months(simulation, champion, OfferPolicy(0.0), first=1, months=2)
    assert (rows["weight"] == 0).all()
    made = decide(rows, champion, simulated[4])
    assert made.action == "ok"
    assert "in 2025-02, 2025-03 offers were made and no customer was kept" in made.reason
    assert made.evidence.without_control == ("2025-02", "2025-03")


def test_with_control_group_a_competitor_is_found(champion, simulated):
    simulation = Simulation("competitor", seed=5, start_month=1)
    rows = offer_trial.try_months(simulation, champion, OfferPolicy(0.2), first=1, months=2)
    assert decide(rows, champion, simulated[4]).action == "retrain"


def test_a_part_of_a_month_is_no_shift_that_is_over(tried, champion):
    """Untreated customers look unlike a month; features are compared on all of them."""
    untreated = offers.keep_untreated(tried)
    share = (untreated["contract"] == "Month-to-month").mean()
    assert share < (tried["contract"] == "Month-to-month").mean() - 0.05


def test_a_home_without_offers_stores_what_it_did_before(simulated, champion):
    made = decide(simulated[3], champion, simulated[4])
    assert "save_rate" not in made.evidence.to_json()
    assert "without_control" not in made.evidence.to_json()


def test_the_loop_unlearns_on_labels_as_they_came(tried, champion):
    later = offer_trial.try_months(
        Simulation("none", 5, save_rate=0.7), champion, OfferPolicy(0.2), first=4, months=1
    )
    refits = offer_trial.compare_refits(tried, later, champion)
    naive = refits.loc["refit on all labels"]
    weighted = refits.loc["refit on weighted untreated labels"]
    assert naive["caused_usd"] < 0.7 * weighted["caused_usd"]
    assert weighted["caused_usd"] > 0.9 * refits.loc["champion", "caused_usd"]


def test_a_larger_control_group_costs_more_and_measures_better(tried, champion):
    month = tried[tried["event_date"] == settings.month_start(3)]
    shares = offer_trial.compare_shares(month, champion, [0, 0.05, 0.3], "a")
    assert shares["forgone_usd"].is_monotonic_increasing and shares["forgone_usd"].iloc[0] == 0
    assert np.isnan(shares["save_rate"].iloc[0])
    width = shares["upper"] - shares["lower"]
    assert width.iloc[2] < 0.75 * width.iloc[1]
    assert pd.Series(shares["true_save_rate"]).nunique() == 1
