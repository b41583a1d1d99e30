import pandas as pd
import pytest

from churn_utils.monitoring import shifts
from churn_utils.monitoring.decision import Evidence, Limits, Shift
from churn_utils.settings import month_start

LIMITS = Limits(psi=0.25)  # with a binary fraction, so that sums at the limit are exact


def decided(month, standing, version=1):
    evidence = Evidence(
        champion_version=version, delivered=9, quarantined=0, standing={"tenure": standing}
    )
    return {"as_of_date": month_start(month), "evidence": evidence.to_json()}


# --- alerts


@pytest.mark.parametrize(
    ("psi", "alerted", "is_new"),
    [
        (0.24, None, False),
        (0.25, None, True),
        (0.49, 0.25, False),  # neither doubled nor moved on by the limit
        (0.50, 0.25, True),
        (0.30, 0.1, False),  # has doubled, but by less than the limit
        (0.35, 0.1, True),
        (1.24, 0.625, False),  # moved on by more than the limit, but has not doubled
        (1.25, 0.625, True),
    ],
)
def test_a_shift_is_alerted_again_only_when_it_doubled(psi, alerted, is_new):
    standing = {} if alerted is None else {"tenure": alerted}
    assert shifts.list_new({"tenure": psi}, standing, LIMITS) == ["tenure"] * is_new


def test_a_shift_stands_until_less_than_half_the_limit_is_left():
    psi = {"tenure": 0.125, "contract": 0.124, "partner": 0.2}
    standing = {"contract": 0.5, "tenure": 0.5}
    assert shifts.update_standing(psi, [], standing, LIMITS) == {"tenure": 0.5}


def test_what_moves_along_belongs_to_the_same_alert():
    psi = {"tenure": 0.125, "contract": 0.124, "partner": 0.6, "gender": 0.3}
    standing = {"partner": 0.26, "gender": 0.28}
    found = shifts.update_standing(psi, ["partner"], standing, LIMITS)
    assert found == {"tenure": 0.125, "partner": 0.6, "gender": 0.28}


@pytest.mark.parametrize(
    ("then", "now", "is_over"),
    [
        (0.25, 0.124, True),
        (0.24, 0.0, False),  # was none
        (0.25, 0.125, False),  # half of it still stands
    ],
)
def test_a_shift_has_passed_once_less_than_half_is_left(then, now, is_over):
    found = shifts.list_passed(
        {"tenure": then}, {"tenure": Shift(psi=now, feature_reliance=0.1)}, LIMITS
    )
    assert found == ["tenure"] * is_over


# --- what stood before


def test_standing_shifts_are_those_of_the_last_decision_before():
    history = pd.DataFrame([decided(4, 0.4), decided(2, 0.2), decided(3, 0.3)])
    assert shifts.read_standing(history, month_start(4), 1) == {"tenure": 0.3}
    assert shifts.read_standing(history, month_start(5), 1) == {"tenure": 0.4}
    assert shifts.read_standing(history, month_start(2), 1) == {}


def test_alerts_under_another_champion_do_not_stand():
    history = pd.DataFrame([decided(2, 0.2, version=1), decided(3, 0.3, version=2)])
    assert shifts.read_standing(history, month_start(4), 1) == {}
    assert shifts.read_standing(None, month_start(4), 1) == {}


# --- a month


def test_a_broken_month_keeps_what_stood(simulated, simulated_champion):
    nothing = simulated[2].head(0)
    observed = shifts.gather_shifts(nothing, simulated_champion, {"tenure": 0.3}, LIMITS)
    assert observed == shifts.ObservedShifts({}, None, [], {"tenure": 0.3})


def test_a_feature_counts_from_the_limit_of_reliance_on(simulated, simulated_champion):
    reliance = simulated_champion.feature_reliance
    limits = Limits(reliance=reliance["tenure"])
    observed = shifts.gather_shifts(simulated[2], simulated_champion, {}, limits)
    expected = [*reliance.index[reliance >= reliance["tenure"]], "champion_score"]
    assert list(observed.shifts) == expected and "tenure" in expected
    assert observed.shifts["tenure"].feature_reliance == round(reliance["tenure"], 4)
    assert observed.shifts["champion_score"].feature_reliance == 1.0


def test_psi_is_weighted_by_reliance(simulated, simulated_champion):
    moved = simulated[2].assign(contract="Month-to-month")
    observed = shifts.gather_shifts(moved, simulated_champion, {}, Limits())
    features = {name: s for name, s in observed.shifts.items() if name != "champion_score"}
    expected = sum(shift.psi * shift.feature_reliance for shift in features.values())
    assert observed.weighted_psi == pytest.approx(expected, abs=1e-3) and expected > 0.05
    assert {"contract", "champion_score"} <= set(observed.new_shifts)
