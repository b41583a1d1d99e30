import pytest

from churn_utils import settings
from churn_utils.errors import UsageError
from churn_utils.pipeline import stages
from churn_utils.pipeline import state as run_state
from churn_utils.pipeline.stages import Plan

NAMES = [stage.name for stage in stages.unfold(Plan(), run_state.NEW)]
MAY = {"retrain": {"as_of": "2025-05-01", "since": "2025-04-01"}}


def fingerprints(plan, held=run_state.NEW):
    timeline = stages.unfold(plan, held)
    notebooks = stages.read_notebooks()
    parameters = stages.resolve_parameters(plan, timeline, notebooks)
    return run_state.fingerprint_stages(plan, timeline, parameters, held, notebooks)


def changed(before, after):
    return [name for name in before if before[name] != after.get(name)]


def test_state_survives_and_a_new_home_has_none(home):
    assert (
        run_state.read_state()
        == run_state.NEW
        == {"world": None, "stages": {}, "began": {}, "rewind": {}}
    )
    run_state.write_state({"world": {"seed": 1}, "stages": {}, "began": {}, "rewind": {}})
    assert run_state.read_state()["world"] == {"seed": 1}


def test_what_a_run_remembers_does_not_change_what_a_new_home_starts_with(home):
    run_state.read_state()["stages"]["00_overview"] = {}
    assert run_state.NEW["stages"] == {}


def test_a_parameter_changes_its_stage_and_those_after_it_only():
    found = changed(fingerprints(Plan()), fingerprints(Plan(overrides={"N_TRIALS": "33"})))
    assert found == NAMES[NAMES.index("02_hyperparameter_optimisation") :]


def test_who_approves_changes_nothing():
    assert changed(fingerprints(Plan()), fingerprints(Plan(approver="Ada Lovelace"))) == []


def test_more_months_change_production_and_what_looks_at_it():
    assert changed(fingerprints(Plan()), fingerprints(Plan(months=7))) == NAMES[-3:]


def test_months_that_ended_in_a_retraining_are_the_same_however_long_the_run_goes_on():
    held = {"world": None, "stages": {"production": MAY}, "began": {}, "rewind": {}}
    found = changed(fingerprints(Plan(), held), fingerprints(Plan(months=12), held))
    assert found == ["production_2025-05", "07_model_monitoring", "08_drift_detection"]
    assert "production" in changed(fingerprints(Plan(), held), fingerprints(Plan(months=3), held))


def test_another_scenario_is_another_production():
    assert "production" in changed(fingerprints(Plan()), fingerprints(Plan(scenario="none")))


def test_a_home_is_held_once(home):
    with (
        run_state.hold_home(),
        pytest.raises(UsageError, match="another run_all.py is running"),
        run_state.hold_home(),
    ):
        pass
    with run_state.hold_home():
        assert (settings.home() / "pipeline" / "lock").exists()
