import time

import factories
import pytest

from churn_utils.errors import ModelError
from churn_utils.features import definitions
from churn_utils.registry import aliases, artifacts, versions
from churn_utils.registry.connection import connect_mlflow


def test_a_run_gets_one_version_however_often_it_is_registered(registered_home):
    info = versions.read_version(registered_home["version"])
    again = versions.register_version(info.run_id, factories.DESCRIPTION, {})
    assert again == registered_home["version"]
    assert aliases.version_with_alias(aliases.CHALLENGER) == again


def test_a_version_knows_what_it_was_trained_on(registered_home):
    info = versions.read_version(registered_home["version"])
    assert info.params["customer_features_version"] == info.params["churn_labels_version"] == "0"
    assert info.params["threshold"] == "0.25"
    assert info.trained_by == registered_home["trainer"]
    assert info.description == factories.DESCRIPTION


def test_the_signature_is_the_feature_contract(registered_home):
    assert list(artifacts.read_schema(registered_home["version"])) == list(definitions.MODEL_INPUTS)


def test_unknown_things_are_named(registered_home):
    with pytest.raises(ModelError, match="no version 999"):
        versions.read_version(999)
    with pytest.raises(ModelError, match="no training run 'nothing'"):
        versions.read_run("nothing")
    with pytest.raises(ModelError, match="no training run 'nothing'"):
        versions.register_version("nothing", "", {})
    assert aliases.version_with_alias("nothing") is None


def test_an_empty_home_says_what_to_run_first(home):
    with pytest.raises(ModelError, match="run notebook 02"):
        versions.latest_run(factories.AS_OF)
    with pytest.raises(ModelError, match="run notebooks 02 and 03"):
        versions.version_to_judge(factories.AS_OF)
    assert aliases.version_with_alias(aliases.CHAMPION) is None


def test_a_run_without_a_model_cannot_be_registered(home):
    mlflow = connect_mlflow()
    with mlflow.start_run() as run:
        pass
    with pytest.raises(ModelError, match="logged no model"):
        versions.register_version(run.info.run_id, "", {})


def test_the_change_marker_moves_with_the_registry(registered_home, home):
    assert versions.read_change_marker() is None


def test_the_challenger_alias_is_moved(registered_home):
    aliases.set_challenger(registered_home["version"])
    assert aliases.version_with_alias(aliases.CHALLENGER) == registered_home["version"]
    before = versions.read_change_marker()
    time.sleep(0.02)
    aliases.clear_challenger(registered_home["version"])
    assert versions.read_change_marker() != before
    aliases.set_challenger(registered_home["version"])
