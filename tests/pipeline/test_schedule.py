"""Fingerprints: what a stage's result depends on."""

import pytest
from notebook_factory import MAY

from churn_utils.pipeline.parameters import read_notebooks
from churn_utils.pipeline.plan import Plan
from churn_utils.pipeline.schedule import make_schedule
from churn_utils.pipeline.state import RunState, StageResult
from churn_utils.registry import deployments


@pytest.fixture(scope="module")
def notebooks():
    return read_notebooks()


@pytest.fixture
def fingerprint(notebooks):
    """Return the fingerprints of a plan in a home with a state, by stage."""

    def fingerprint_plan(plan, run_state=None):
        return make_schedule(plan, run_state or RunState(), notebooks).fingerprints

    return fingerprint_plan


@pytest.fixture
def names(fingerprint):
    return list(fingerprint(Plan()))


def find_changed(before, after):
    return [name for name in before if before[name] != after.get(name)]


def test_parameter_changes_its_stage_and_those_after_it(fingerprint, names):
    more_trials = Plan(overrides={"N_TRIALS": "33"})
    found = find_changed(fingerprint(Plan()), fingerprint(more_trials))
    assert found == names[names.index("02_hyperparameter_optimisation") :]


def test_approver_changes_nothing(fingerprint):
    approved = Plan(approver="Ada Lovelace")
    assert find_changed(fingerprint(Plan()), fingerprint(approved)) == []


def test_more_months_change_production_and_its_notebooks(fingerprint, names):
    assert find_changed(fingerprint(Plan()), fingerprint(Plan(months=7))) == names[-4:]


def test_months_before_a_retraining_do_not_depend_on_the_end(fingerprint):
    ended = StageResult(seconds=1.0, page=False, retrain=MAY)
    run_state = RunState(results={"production": ended})
    default = fingerprint(Plan(), run_state)
    found = find_changed(default, fingerprint(Plan(months=12), run_state))
    assert found == [
        *("production_2025-05", "07_model_monitoring", "08_drift_detection"),
        "09_offers_and_control",
    ]
    assert "production" in find_changed(default, fingerprint(Plan(months=3), run_state))


@pytest.mark.parametrize(
    ("month", "first"),
    [
        ("2025-02", "01_feature_engineering"),
        ("2025-03", "production"),
        ("2025-05", "production"),
        ("2025-06", "production_2025-05"),
        ("2025-09", None),
    ],
)
def test_accepted_delivery_repeats_the_stage_that_ingests_it(
    fingerprint, monkeypatch, month, first
):
    ended = StageResult(seconds=1.0, page=False, retrain=MAY)
    run_state = RunState(results={"production": ended})
    before = fingerprint(Plan(), run_state)
    monkeypatch.setattr(deployments, "list_accepted", lambda: [(month, "digest")])
    found = find_changed(before, fingerprint(Plan(), run_state))
    assert (found[0] if found else None) == first


def test_another_scenario_is_another_production(fingerprint):
    other = Plan(scenario="none")
    assert "production" in find_changed(fingerprint(Plan()), fingerprint(other))
