import factories
import numpy as np
import pandas as pd
import pytest

from churn_utils import settings
from churn_utils.data import table_writes
from churn_utils.monitoring import history
from churn_utils.monitoring.decision import (
    ALERT,
    NONE,
    OK,
    QUARANTINE,
    RETRAIN,
    Decision,
    Evidence,
    Shift,
)
from churn_utils.monitoring.retraining_value import WindowGain
from churn_utils.settings import month_start
from churn_utils.simulation.scenarios import Simulation

RISE = Simulation("price_rise", seed=1)


def gain_of(lower, start=4, end=4):
    return WindowGain(
        labels_from=f"{month_start(start):%Y-%m-%d}",
        labels_to=f"{month_start(end):%Y-%m-%d}",
        rows=4200,
        gain_usd=40.0,
        lower=lower,
        upper=60.0,
        newest_gain_usd=39.0,
        prior_gain_usd=5.0,
    )


def decided(month, action=OK, shifts=None, gains=(), reason="for a reason"):
    """A row of ``decisions``; shifts are ``(psi, reliance)`` by feature."""
    evidence = Evidence(
        champion_version=1,
        delivered=9,
        quarantined=0,
        shifts={
            name: Shift(psi=psi, feature_reliance=share)
            for name, (psi, share) in (shifts or {}).items()
        },
        gains=list(gains),
    )
    return Decision(month_start(month), action, NONE, reason, evidence).to_frame()


# --- the evidence as tables


def test_shifts_stand_by_month_and_a_broken_month_is_missing():
    first = {"tenure": (0.01, 0.4), "champion_score": (0.0, 1.0)}
    last = {"tenure": (0.3, 0.5), "contract": (0.02, 0.1), "champion_score": (0.2, 1.0)}
    decisions = [decided(2, shifts=first), decided(3, QUARANTINE), decided(4, ALERT, last)]
    table = history.tabulate_shifts(pd.concat(decisions))
    assert list(table.columns) == [*map(month_start, (2, 3, 4)), "feature_reliance"]
    tenure = table.loc["tenure"].tolist()
    assert tenure == pytest.approx([0.01, np.nan, 0.3, 0.5], nan_ok=True)
    contract = table.loc["contract"].tolist()
    assert contract == pytest.approx([np.nan, np.nan, 0.02, 0.1], nan_ok=True)
    assert table[month_start(3)].isna().all() and table.index.name == "feature"


def test_no_decision_has_no_shift_and_no_gain():
    nothing = decided(2).head(0)
    assert list(history.tabulate_shifts(nothing).columns) == ["feature_reliance"]
    gains = history.tabulate_gains(nothing)
    assert gains.empty and list(gains.columns) == history.GAIN_COLUMNS


def test_gains_are_those_of_the_window_that_says_most():
    quiet = decided(2)
    found = decided(5, RETRAIN, gains=[gain_of(20.0), gain_of(-3.0, start=2)])
    slow = decided(6, gains=[gain_of(1.0, start=5, end=5), gain_of(4.0, start=3, end=5)])
    table = history.tabulate_gains(pd.concat([quiet, found, slow])).set_index("as_of_date")
    assert table.index.tolist() == [month_start(5), month_start(6)]  # none without new labels
    assert table["decision"].tolist() == [RETRAIN, OK]
    assert table["lower"].tolist() == [20.0, 4.0]
    assert table["from"].tolist() == ["2025-05-01", "2025-04-01"]
    assert table["to"].tolist() == ["2025-05-01", "2025-06-01"]
    assert table["rows"].tolist() == [4200, 4200]
    usd = ["gain_usd", "upper", "newest_gain_usd", "prior_gain_usd"]
    assert table.loc[month_start(5), usd].tolist() == [40.0, 60.0, 39.0, 5.0]


# --- what happened when


@pytest.fixture
def eventful(home):
    """Decisions of every kind; the second retraining was refused, the third is open."""
    decisions = [
        decided(2),
        decided(3, ALERT, reason="tenure moved"),
        decided(4, QUARANTINE),
        decided(5, RETRAIN),
        decided(6),
        decided(7, RETRAIN),
        decided(8, RETRAIN),
    ]
    table_writes.merge("decisions", pd.concat(decisions))
    promotions = [factories.deployed(1, 1, 5), factories.deployed(2, 5, approver="Grace Hopper")]
    table_writes.merge("deployments", pd.concat(promotions))


def events_at(month, simulation=RISE):
    events = history.list_events(month_start(month), simulation)
    return list(zip(events["date"].map(settings.month_of), events["event"], strict=True))


def test_events_are_listed_in_order_of_time(eventful):
    assert events_at(8) == [
        (3, "world"),
        (3, "alert"),
        (4, "quarantine"),
        (5, "retrain"),
        (5, "promoted"),
        (7, "retrain"),
        (7, "refused"),
        (8, "retrain"),
    ]


def test_events_say_what_and_who(eventful):
    what = history.list_events(month_start(8), RISE).set_index("event")["what"]
    assert what["world"] == RISE.description and what["alert"] == "none: tenure moved"
    assert what["promoted"] == "version 2, approved by Grace Hopper"
    assert "did not pass" in what["refused"]


def test_what_comes_later_is_no_event_yet(eventful):
    assert events_at(2) == []
    assert events_at(3) == [(3, "world"), (3, "alert")]
    # whether that retraining is promoted or refused is not known yet
    assert events_at(7)[-2:] == [(5, "promoted"), (7, "retrain")]
    columns = list(history.list_events(month_start(2), RISE).columns)
    assert columns == ["date", "event", "what"]


def test_a_scenario_that_does_not_change_is_no_event(eventful):
    assert "world" not in [event for _, event in events_at(8, Simulation("none", seed=1))]


def test_without_decisions_the_change_is_the_only_event(home):
    assert events_at(4) == [(3, "world")]
