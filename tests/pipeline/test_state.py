import json

import pytest

from churn_utils import settings
from churn_utils.errors import UsageError
from churn_utils.pipeline.plan import Plan
from churn_utils.pipeline.state import Retraining, RunState, StageResult, hold_home, read_state

# As homes made by earlier versions hold it.
STORED = {
    "world": {"scenario": "price_rise", "seed": 42, "profile": "fast"},
    "stages": {
        "00_overview": {"finished": "2026-01-01", "seconds": 1.5, "fingerprint": "f"},
        "production": {
            "finished": "2026-01-01",
            "seconds": 2.0,
            "page": False,
            "retrain": {"as_of": "2025-05-01", "since": "2025-04-01"},
            "fingerprint": "g",
        },
    },
    "began": {"production": {"predictions": 3, "decisions": None}},
    "rewind": {},
    "waiting": {"gate": "04a_challenger_validation", "call": "run_all.py"},
}


def write_stored(content):
    path = settings.home() / "pipeline" / "state.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    return path


def test_new_home_has_an_empty_state(home):
    assert read_state() == RunState()
    RunState(identity=Plan().identity).write()
    assert read_state().identity == Plan().identity


def test_state_of_an_earlier_version_is_read(home):
    write_stored(STORED)
    run_state = read_state()
    assert run_state.identity == Plan(profile="fast").identity
    assert run_state.results["00_overview"].page
    assert run_state.retraining_after("production").month == "2025-05"
    assert run_state.versions_at_start["production"] == {"predictions": 3, "decisions": None}
    assert run_state.waiting.gate == "04a_challenger_validation"


def test_written_state_keeps_the_stored_names(home):
    path = write_stored(STORED)
    read_state().write()
    written = json.loads(path.read_text())
    later = {"deliveries": "", "offers": "none", "control_share": 0.2}
    assert written["began"] == STORED["began"]
    assert written["world"] == STORED["world"] | later
    stored = STORED["stages"]["production"]
    retrain = {**stored["retrain"], "save_rate": None}
    assert written["stages"]["production"].items() >= {**stored, "retrain": retrain}.items()
    assert list(written) == list(STORED)


def test_results_of_one_state_are_not_shared(home):
    read_state().results["00_overview"] = StageResult(seconds=1.0)
    assert RunState().results == {} == read_state().results


def test_retraining_is_named_after_its_month():
    assert Retraining(as_of="2025-06-01", since="2025-05-01").month == "2025-06"


def test_home_is_held_once(home):
    with (
        hold_home(),
        pytest.raises(UsageError, match="another run_all.py is running"),
        hold_home(),
    ):
        pass
    with hold_home():
        assert (settings.home() / "pipeline" / "lock").exists()
