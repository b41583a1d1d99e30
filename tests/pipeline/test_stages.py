import pytest

from churn_utils import settings
from churn_utils.errors import UsageError
from churn_utils.pipeline import stages
from churn_utils.pipeline import state as run_state
from churn_utils.pipeline.stages import Plan
from churn_utils.simulation import customers

TIMELINE = stages.unfold(Plan(), run_state.NEW)
MAY = {"retrain": {"as_of": "2025-05-01", "since": "2025-04-01"}}


def resolve(plan):
    return stages.resolve_parameters(
        plan, stages.unfold(plan, run_state.NEW), stages.read_notebooks()
    )


def state_after(**stages_done):
    return {"world": None, "stages": stages_done, "began": {}, "rewind": {}}


def test_the_stages_are_the_notebooks():
    assert sorted(path.stem for path in settings.notebooks().glob("*.ipynb")) == stages.NOTEBOOKS


def test_every_stage_comes_after_what_it_needs():
    timeline = stages.unfold(Plan(), state_after(production=MAY))
    for position, stage in enumerate(timeline):
        assert set(stage.needs) <= {earlier.name for earlier in timeline[:position]}
    assert len({stage.name for stage in timeline}) == len(timeline)


def test_the_scenarios_are_the_simulators():
    assert list(stages.SCENARIOS) == list(customers.SCENARIOS)


def test_a_retraining_unfolds_with_its_month_its_labels_and_few_trials():
    timeline = stages.unfold(Plan(), state_after(production=MAY))
    found = stages.resolve_parameters(Plan(), timeline, stages.read_notebooks())
    search = found["02_hyperparameter_optimisation_2025-05"]
    assert (search["AS_OF"], search["SINCE"]) == ("2025-05-01", "2025-04-01")
    assert search["N_TRIALS"] < found["02_hyperparameter_optimisation"]["N_TRIALS"]
    assert found["04a_challenger_validation_2025-05"]["SINCE"] == "2025-04-01"
    assert found["04b_challenger_approval_2025-05"]["AS_OF"] == "2025-05-01"
    assert found["05_batch_inference_2025-05"] | {"LIST_SIZE": 0} == {
        "AS_OF": "2025-05-01",
        "SNAPSHOT": "2025-05-01",
        "ROLE": "champion",
        "LIST_SIZE": 0,
    }
    assert found["07_model_monitoring_2025-05"]["AS_OF"] == "2025-05-01"
    assert (
        found["08_drift_detection"]["AS_OF"] == "2025-07-01"
        and not found["08_drift_detection"]["PLAY_MONTHS"]
    )


def test_whoever_approves_a_retraining_has_seen_what_asked_for_it():
    timeline = {stage.name: stage for stage in stages.unfold(Plan(), state_after(production=MAY))}
    needs = timeline["04b_challenger_approval_2025-05"].needs
    assert {"07_model_monitoring_2025-05", "08_drift_detection_2025-05"} <= set(needs)


def test_several_retrainings_unfold_one_after_the_other():
    june = {"retrain": {"as_of": "2025-06-01", "since": "2025-05-01"}}
    names = [
        stage.name
        for stage in stages.unfold(
            Plan(), state_after(production=MAY, **{"production_2025-05": june})
        )
    ]
    assert names.index("production_2025-05") < names.index("02_hyperparameter_optimisation_2025-06")
    assert names[-3:] == ["production_2025-06", "07_model_monitoring", "08_drift_detection"]


def test_a_retraining_after_the_last_month_is_not_part_of_a_shorter_run():
    names = [stage.name for stage in stages.unfold(Plan(months=3), state_after(production=MAY))]
    assert names[-3:] == ["production", "07_model_monitoring", "08_drift_detection"]


def test_a_retraining_is_the_same_whether_it_comes_in_the_last_month_or_not():
    last, early = (
        stages.unfold(Plan(months=months), state_after(production=MAY)) for months in (4, 6)
    )
    assert last[:-2] == early[:-2]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("00", "00_overview"),
        ("04a", "04a_challenger_validation"),
        ("07", "07_model_monitoring"),
        ("prod", "production"),
        ("02_hyperparameter_optimisation_2025-05", "02_hyperparameter_optimisation_2025-05"),
    ],
)
def test_a_beginning_names_a_stage(text, name):
    assert stages.find_stage(text, stages.unfold(Plan(), state_after(production=MAY))) == name


@pytest.mark.parametrize("text", ["99", "04", "", "overview"])
def test_an_unknown_or_ambiguous_stage_is_refused_with_the_valid_ones(text):
    with pytest.raises(UsageError, match="00_overview.*05_batch_inference.*production"):
        stages.find_stage(text, TIMELINE)


def test_overrides_seed_profile_and_approver_reach_the_notebooks():
    found = resolve(Plan(seed=7, profile="fast", overrides={"LIST_SIZE": "9"}, approver="Ada"))
    assert found["02_hyperparameter_optimisation"]["SEED"] == 7
    assert (
        found["02_hyperparameter_optimisation"]["N_TRIALS"] == stages.PROFILES["fast"]["N_TRIALS"]
    )
    assert found["05_batch_inference"]["LIST_SIZE"] == 9  # an override beats the profile
    assert found["04b_challenger_approval"]["APPROVER"] == "Ada"


def test_the_default_search_has_at_least_thirty_trials():
    assert resolve(Plan())["02_hyperparameter_optimisation"]["N_TRIALS"] >= 30


def test_an_unknown_parameter_is_refused_with_the_valid_ones():
    with pytest.raises(
        UsageError, match="unknown parameter N_TRAILS; the parameters are .*N_TRIALS"
    ):
        resolve(Plan(overrides={"N_TRAILS": "3"}))


@pytest.mark.parametrize(
    ("name", "text"),
    [("N_TRIALS", "many"), ("N_TRIALS", "1.5"), ("N_TRIALS", "true"), ("OFFER_COST_USD", "cheap")],
)
def test_a_value_of_another_type_is_refused(name, text):
    with pytest.raises(UsageError, match=f"parameter {name} takes"):
        resolve(Plan(overrides={name: text}))


def test_a_whole_number_will_do_for_a_cost_and_a_number_for_a_text():
    found = resolve(Plan(overrides={"OFFER_COST_USD": "400", "REASON": "42"}))
    assert found["00_overview"]["OFFER_COST_USD"] == 400.0
    assert found["04b_challenger_approval"]["REASON"] == "42"
