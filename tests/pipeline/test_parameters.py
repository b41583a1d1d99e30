import pytest

from churn_utils.errors import UsageError
from churn_utils.pipeline.parameters import read_notebooks, resolve_parameters
from churn_utils.pipeline.plan import PROFILES, Plan
from churn_utils.pipeline.stages import expand_timeline
from churn_utils.pipeline.state import RunState


@pytest.fixture(scope="module")
def notebooks():
    return read_notebooks()


@pytest.fixture
def resolve(notebooks):
    """Resolve the parameters of a plan with these fields."""

    def resolve_plan(**fields):
        plan = Plan(**fields)
        return resolve_parameters(plan, expand_timeline(plan, RunState()), notebooks)

    return resolve_plan


def test_trainer_or_empty_name_may_not_approve(resolve, monkeypatch):
    monkeypatch.setenv("CHURN_USER", "ada")
    with pytest.raises(UsageError, match="a trainer may not approve"):
        resolve(approver=" Ada ")
    with pytest.raises(UsageError, match="a trainer may not approve"):
        resolve(overrides={"APPROVER": "ada"})
    with pytest.raises(UsageError, match="an approval needs a name"):
        resolve(approver=" ")


def test_options_reach_the_notebooks(resolve):
    found = resolve(seed=7, profile="fast", overrides={"LIST_SIZE": "9"}, approver="Ada")
    search = found["02_hyperparameter_optimisation"]
    assert search["SEED"] == 7
    assert search["N_TRIALS"] == PROFILES["fast"]["N_TRIALS"]
    assert found["05_batch_inference"]["LIST_SIZE"] == 9  # an override beats the profile
    assert found["04b_challenger_approval"]["APPROVER"] == "Ada"


def test_default_search_has_at_least_thirty_trials(resolve):
    assert resolve()["02_hyperparameter_optimisation"]["N_TRIALS"] >= 30


def test_unknown_parameter_is_refused_with_the_valid_ones(resolve):
    message = "unknown parameter N_TRAILS; the parameters are .*N_TRIALS"
    with pytest.raises(UsageError, match=message):
        resolve(overrides={"N_TRAILS": "3"})


@pytest.mark.parametrize(
    ("name", "text"),
    [("N_TRIALS", "many"), ("N_TRIALS", "1.5"), ("N_TRIALS", "true"), ("OFFER_COST_USD", "cheap")],
)
def test_value_of_another_type_is_refused(resolve, name, text):
    with pytest.raises(UsageError, match=f"parameter {name} takes"):
        resolve(overrides={name: text})


def test_whole_number_is_a_cost_and_a_number_is_a_text(resolve):
    found = resolve(overrides={"OFFER_COST_USD": "400", "REASON": "42"})
    assert found["00_overview"]["OFFER_COST_USD"] == 400.0
    assert found["04b_challenger_approval"]["REASON"] == "42"
