import factories
import plotly.graph_objects as go
import pytest

from churn_utils import settings
from churn_utils.features import definitions, offline
from churn_utils.inference import scoring
from churn_utils.registry import artifacts, versions
from churn_utils.registry.connection import connect_mlflow
from churn_utils.training import models


@pytest.mark.parametrize("family", models.DEFAULTS)
def test_every_family_survives_the_registry(registered_home, family):
    training_set = registered_home["training_set"]
    params = {"family": family, **models.DEFAULTS[family]}
    model = factories.fit_model(training_set, params, rows=800)
    version = factories.register_model(training_set, model, params=params)
    rows = offline.training_rows(training_set, "test").head(200)
    expected = scoring.predict_probability(model, rows)
    assert (scoring.predict_probability(artifacts.load_model(version), rows) == expected).all()


def test_a_training_keeps_trials_intervals_and_figures(registered_home):
    training_set = registered_home["training_set"]
    figures = {"One": go.Figure(), "Two": go.Figure()}
    version = factories.register_model(training_set, registered_home["model"], figures=figures)
    info = versions.read_version(version)
    assert info.metrics["roc_auc_lower"] < info.metrics["roc_auc"] < info.metrics["roc_auc_upper"]
    mlflow = connect_mlflow()
    children = mlflow.search_runs(filter_string=f"tags.`mlflow.parentRunId` = '{info.run_id}'")
    assert len(children) == 3 and set(children["params.family"]) == set(models.DEFAULTS)
    page = mlflow.artifacts.load_text(f"runs:/{info.run_id}/figures.html")
    assert "<h2>One</h2>" in page and page.count("plotly.js v") == 1
    contract = mlflow.artifacts.load_dict(f"runs:/{info.run_id}/feature_contract.json")
    assert [entry["feature"] for entry in contract] == list(definitions.MODEL_INPUTS)


def test_the_stored_model_is_no_pickle(registered_home):
    info = connect_mlflow().models.get_model_info(
        f"models:/{settings.MODEL_NAME}/{registered_home['version']}"
    )
    assert info.flavors["sklearn"]["serialization_format"] == "skops"
    assert info.metadata["threshold"] == 0.25
    assert info.saved_input_example_info is not None


@pytest.mark.parametrize("family", list(models.DEFAULTS))
def test_hyperparameters_survive_the_params_of_a_run(family):
    params = {"family": family, **models.DEFAULTS[family]}
    logged = {name: str(value) for name, value in params.items()} | {
        "seed": "1",
        "as_of": "2025-02-01",
    }
    assert models.read_hyperparameters(logged) == params
