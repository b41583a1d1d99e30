import pytest
from notebook_factory import MAY

from churn_utils import settings
from churn_utils.errors import UsageError
from churn_utils.pipeline import stages
from churn_utils.pipeline.parameters import read_notebooks, resolve_parameters
from churn_utils.pipeline.plan import Plan
from churn_utils.pipeline.stages import expand_timeline
from churn_utils.pipeline.state import Retraining, RunState, StageResult

JUNE = Retraining(as_of="2025-06-01", since="2025-05-01")


def state_with(**retrainings):
    """State of a home whose stages of production ended in these retrainings."""
    results = {
        name: StageResult(seconds=1.0, page=False, retrain=retraining)
        for name, retraining in retrainings.items()
    }
    return RunState(results=results)


def names_of(timeline):
    return [stage.name for stage in timeline]


def test_the_stages_are_the_notebooks():
    found = sorted(path.stem for path in settings.notebooks().glob("*.ipynb"))
    assert found == stages.NOTEBOOKS


def test_every_stage_comes_after_what_it_needs():
    timeline = expand_timeline(Plan(), state_with(production=MAY))
    for position, stage in enumerate(timeline):
        assert set(stage.needs) <= set(names_of(timeline[:position]))
    assert len(set(names_of(timeline))) == len(timeline)


def test_retraining_has_its_month_its_labels_and_few_trials():
    timeline = expand_timeline(Plan(), state_with(production=MAY))
    found = resolve_parameters(Plan(), timeline, read_notebooks())
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
    assert found["08_drift_detection"]["AS_OF"] == "2025-07-01"
    assert not found["08_drift_detection"]["PLAY_MONTHS"]


def test_approver_has_seen_what_asked_for_the_retraining():
    timeline = expand_timeline(Plan(), state_with(production=MAY))
    needs = {stage.name: stage.needs for stage in timeline}["04b_challenger_approval_2025-05"]
    assert {"07_model_monitoring_2025-05", "08_drift_detection_2025-05"} <= set(needs)


def test_retrainings_follow_one_another():
    run_state = state_with(**{"production": MAY, "production_2025-05": JUNE})
    names = names_of(expand_timeline(Plan(), run_state))
    assert names.index("production_2025-05") < names.index("02_hyperparameter_optimisation_2025-06")
    assert names[-4:-1] == ["production_2025-06", "07_model_monitoring", "08_drift_detection"]


def test_shorter_run_has_no_later_retraining():
    names = names_of(expand_timeline(Plan(months=3), state_with(production=MAY)))
    assert names[-4:-1] == ["production", "07_model_monitoring", "08_drift_detection"]


def test_retraining_in_the_last_month_is_the_same():
    last, early = (
        expand_timeline(Plan(months=months), state_with(production=MAY)) for months in (4, 6)
    )
    looks = 3  # at the end: 07 to 09
    assert last[:-looks] == early[:-looks]


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
def test_beginning_names_a_stage(text, name):
    assert stages.find_stage(text, expand_timeline(Plan(), state_with(production=MAY))) == name


@pytest.mark.parametrize("text", ["99", "04", "", "overview"])
def test_unknown_or_ambiguous_stage_is_refused(text):
    with pytest.raises(UsageError, match="00_overview.*05_batch_inference.*production"):
        stages.find_stage(text, expand_timeline(Plan(), RunState()))
