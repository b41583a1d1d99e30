import pytest

from churn_utils import settings, stages
from churn_utils.stages import Plan, UsageError


def test_the_stages_are_the_notebooks():
    assert sorted(path.stem for path in settings.notebooks().glob("*.ipynb")) == stages.NAMES


def test_every_stage_comes_after_what_it_needs():
    for position, stage in enumerate(stages.STAGES):
        assert set(stage.needs) <= set(stages.NAMES[:position])


@pytest.mark.parametrize(("text", "name"), [("00", "00_overview"), ("04a", "04a_challenger_validation")])
def test_a_beginning_names_a_stage(text, name):
    assert stages.find_stage(text) == name


@pytest.mark.parametrize("text", ["99", "04", "", "overview"])
def test_an_unknown_or_ambiguous_stage_is_refused_with_the_valid_ones(text):
    with pytest.raises(UsageError, match="00_overview.*05_batch_inference"):
        stages.find_stage(text)


def test_overrides_seed_profile_and_approver_reach_the_notebooks():
    found = stages.resolve_parameters(Plan(seed=7, profile="fast", overrides={"LIST_SIZE": "9"}, approver="Ada"))
    assert found["02_hyperparameter_optimisation"]["SEED"] == 7
    assert found["02_hyperparameter_optimisation"]["N_TRIALS"] == stages.PROFILES["fast"]["N_TRIALS"]
    assert found["05_batch_inference"]["LIST_SIZE"] == 9  # an override beats the profile
    assert found["04b_challenger_approval"]["APPROVER"] == "Ada"


def test_the_default_search_has_at_least_thirty_trials():
    assert stages.resolve_parameters(Plan())["02_hyperparameter_optimisation"]["N_TRIALS"] >= 30


def test_an_unknown_parameter_is_refused_with_the_valid_ones():
    with pytest.raises(UsageError, match="unknown parameter N_TRAILS; the parameters are .*N_TRIALS"):
        stages.resolve_parameters(Plan(overrides={"N_TRAILS": "3"}))


@pytest.mark.parametrize(
    ("name", "text"), [("N_TRIALS", "many"), ("N_TRIALS", "1.5"), ("N_TRIALS", "true"), ("OFFER_COST_USD", "cheap")]
)
def test_a_value_of_another_type_is_refused(name, text):
    with pytest.raises(UsageError, match=f"parameter {name} takes"):
        stages.resolve_parameters(Plan(overrides={name: text}))


def test_a_whole_number_will_do_for_a_cost_and_a_number_for_a_text():
    found = stages.resolve_parameters(Plan(overrides={"OFFER_COST_USD": "400", "REASON": "42"}))
    assert found["00_overview"]["OFFER_COST_USD"] == 400.0
    assert found["04b_challenger_approval"]["REASON"] == "42"


def test_a_parameter_changes_its_stage_and_those_after_it_only():
    before = stages.fingerprint_stages(stages.resolve_parameters(Plan()))
    after = stages.fingerprint_stages(stages.resolve_parameters(Plan(overrides={"N_TRIALS": "33"})))
    changed = [name for name in stages.NAMES if before[name] != after[name]]
    assert changed == stages.NAMES[stages.NAMES.index("02_hyperparameter_optimisation") :]


def test_state_survives_and_a_new_home_has_none(home):
    assert stages.read_state() == {"world": None, "stages": {}}
    stages.write_state({"world": {"seed": 1}, "stages": {}})
    assert stages.read_state()["world"] == {"seed": 1}
