"""Features are added to the definitions of a home that has rows, versions and answers."""

import json
import os
import shutil
import subprocess
import sys

import factories
import new_feature
import pytest

from churn_utils import settings
from churn_utils.features import definitions

# Two versions, before and after: in short, test_model_inputs and test_publishing try rows without
# a feature.
pytestmark = pytest.mark.long

LACKS = ",".join(new_feature.STORED_NEW)
CUSTOMERS = 7043


@pytest.fixture(scope="module")
def found(serving_world, extract, tmp_path_factory):
    """What a home says after features were added, as ``new_feature.use_after`` returns it."""
    folder = tmp_path_factory.mktemp("evolved")
    home = folder / "home"
    shutil.copytree(serving_world.home, home)
    extract.to_pickle(home / "extract.pkl")
    older, champion = serving_world.challenger, serving_world.predecessor
    with factories.at_home(home):
        prediction_id = new_feature.use_before(home, extract, older)
    new_feature.copy_package(folder)
    tests = settings.PROJECT / "tests"
    path = os.pathsep.join([str(folder), str(tests)])
    environment = os.environ | {"PYTHONPATH": path, "CHURN_HOME": str(home)}
    program = [sys.executable, new_feature.__file__, home, str(older), str(champion), prediction_id]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_rows_from_before_say_what_they_lack(found):
    assert found["lacks"] == {LACKS: CUSTOMERS}
    assert found["on_demand_known"] == found["on_demand_lacking"] == CUSTOMERS
    assert "has no row with all features" in found["training"] and LACKS in found["training"]
    assert found["lacking"] == new_feature.LEFT and found["written_twice"] == 0
    assert not set(found["before_the_columns"]) & set(new_feature.NEW)


def test_old_versions_predict_and_refit_bit_for_bit(found):
    assert found["old_inputs"] == list(definitions.MODEL_INPUTS)
    assert found["same"] and found["refits"] == [0, 0]
    assert found["compiled"] <= 1e-6


def test_drift_compares_the_inputs_of_the_old_champion(found):
    assert found["decision"] != "quarantine" and found["gains"] == 1
    assert found["measured"] == CUSTOMERS
    assert found["shifts"] and not set(found["shifts"]) & set(new_feature.NEW)


def test_gate_compares_both_on_the_rows_that_hold_all_inputs(found):
    assert set(found["gate"].values()) == {"pass"} and "champion" in found["gate"]
    assert set(found["new_inputs"]) == {*definitions.MODEL_INPUTS, *new_feature.NEW}
    assert 0.15 * CUSTOMERS < found["gate_rows"] < 0.25 * CUSTOMERS
    assert 0.55 * CUSTOMERS < found["rows_train"] < 0.65 * CUSTOMERS
    assert found["refit"] == 0


def test_new_version_scores_only_rows_that_hold_its_inputs(found):
    complete = CUSTOMERS - new_feature.LEFT
    assert found["scored"] == found["third_month"] == found["shadow"] == complete
    assert found["by"] == [found["version"]] and found["reasons"] == 5
    assert f"version {found['version']} cannot score any of {CUSTOMERS}" in found["first_month"]
    said = f"{new_feature.LEFT} of {CUSTOMERS} rows are left out of the predictions of version"
    assert any(text.startswith(said) and LACKS in text for text in found["log"]), found["log"]


def test_rows_from_before_get_the_features_when_republished(found):
    assert found["republished"] == found["lacking_then"] == 0
    assert found["scored_then"] == CUSTOMERS and found["refit_then"] == 0


def test_api_answers_with_both_versions_and_names_who_lacks(found):
    api = found["api"]
    assert api["answered"] == [True] and api["version"] == api["given_version"] == found["version"]
    assert api["gap_to_batch"] <= 1e-6
    assert api["unknown"] == ["UNKNOWN"] and api["incomplete"] == [True]
    assert api["alone"] == 0 and api["counted"] == 2


def test_receipts_of_before_and_after_are_reproduced(found):
    api = found["api"]
    for name in ("old_receipt", "new_receipt"):
        logged, reproduced = api[name]
        assert logged == reproduced
    assert api["old_features"] == []
    assert api["new_features"] == api["logged"] == sorted(new_feature.NEW)
