import sqlite3
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.errors import ModelError
from churn_utils.features import definitions, online
from churn_utils.inference import scoring
from churn_utils.pipeline import runner
from churn_utils.registry import versions as registry_versions
from churn_utils.serving import app, loaded_models
from churn_utils.serving.loaded_models import Versions
from churn_utils.serving.metrics import ServingMetrics
from churn_utils.serving.predictor import Engine
from churn_utils.serving.settings import ServingSettings

ID = "7590-VHVEG"
SETTINGS = ServingSettings(today="2025-02-01", poll_seconds=0.05, log_seconds=0.1, access_log=False)
# another process, as run_all.py --fresh is: what it does to the files is all that the API gets to know
MAKE_ANEW = """
import factories
from churn_utils.registry import approvals, deployments
version = factories.build_registered_home()["version"]
factories.pass_gate(version)
approvals.approve(version, "Ada", "good", factories.AS_OF)
deployments.promote(version, factories.AS_OF)
"""


def wait_until(holds, seconds=25):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.05)


def test_a_home_that_is_made_anew_under_a_running_api_answers_with_its_own_model(
    serving_home, tmp_path
):
    def predict():
        return client.post("/v1/predictions", json={"customer_ids": [ID]})

    with TestClient(app.create_app(SETTINGS)) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        before = predict().json()["predictions"][0]
        runner.clear_home(tmp_path / "reports")
        wait_until(lambda: "No model is in place yet" in predict().json().get("detail", ""))
        assert predict().status_code == 503
        subprocess.run(
            [sys.executable, "-c", MAKE_ANEW], cwd=settings.PROJECT / "tests", check=True
        )
        wait_until(lambda: client.get("/readyz").status_code == 200)
        after = predict().json()["predictions"][0]
        assert before["model_version"] == after["model_version"] == 1
        rows = tables.read("customer_features")
        rows = definitions.add_on_demand(rows[rows["customer_id"] == ID])
        expected = scoring.score_rows(registry_versions.read_version(1), rows)[
            "churn_probability"
        ].iloc[0]
        assert after["churn_probability"] == pytest.approx(expected, abs=1e-6)
        assert abs(after["churn_probability"] - before["churn_probability"]) > 0.01
        receipt = client.get(f"/v1/predictions/{after['prediction_id']}").json()
        assert receipt["reproduced_probability"] == receipt["churn_probability"]
        assert client.get("/v1/model").json()["refused_version"] is None
        assert (
            online.open_store().count() == 7043
        )  # in the file that is there now, not in the deleted one


def test_a_version_that_was_registered_after_an_answer_does_not_vouch_for_it(
    serving_home, monkeypatch
):
    with TestClient(app.create_app(SETTINGS)) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        answer = client.post("/v1/predictions", json={"customer_ids": [ID]}).json()["predictions"][
            0
        ]
        engine, served = client.app.state.engine, client.app.state.engine.lineup.champion
        later = type(served)(
            **{**vars(served), "registered_at": served.registered_at.replace(year=2999)}
        )
        monkeypatch.setattr(engine._versions, "load", lambda version: later)
        assert engine.find_receipt(answer["prediction_id"])["reproduced_probability"] is None


def test_a_version_is_loaded_once_and_known_by_its_run(serving_home, monkeypatch):
    versions, calls = Versions(), []
    real = loaded_models.compiled.load_compiled
    monkeypatch.setattr(
        loaded_models.compiled, "load_compiled", lambda v: calls.append(v.version) or real(v)
    )
    first = versions.load(1)
    assert versions.load(1) is first and calls == [1]
    info = registry_versions.read_version(1)
    monkeypatch.setattr(
        registry_versions, "read_version", lambda _: replace(info, run_id="another")
    )
    assert versions.load(1) is not first and calls == [1, 1]


def test_only_the_last_few_versions_are_kept(serving_home, monkeypatch):
    monkeypatch.setattr(loaded_models, "MOST_VERSIONS", 1)
    versions = Versions()
    first = versions.load(serving_home.predecessor)
    versions.load(serving_home.challenger)
    assert len(versions._ready) == 1 and versions.load(serving_home.predecessor) is not first


def test_no_registry_is_made_where_there_is_none(home):
    with pytest.raises(ModelError, match="no registry"):
        Versions().load(1)
    assert not settings.mlflow_folder().exists()


def test_versions_were_registered_before_now(serving_home):
    served = Versions().load(serving_home.predecessor)
    assert 0 < time.time() - served.registered_at.timestamp() < 3600


def test_a_home_that_was_moved_is_told_so_instead_of_being_sent_to_the_gate(serving_home, caplog):
    database = sqlite3.connect(settings.mlflow_database())
    with database:  # as if everything had been made in a place that is no more
        database.execute(
            "UPDATE runs SET artifact_uri = replace(artifact_uri, 'file://', 'file:///gone')"
        )
    database.close()
    engine = Engine(SETTINGS, ServingMetrics())
    engine._store = online.open_store()
    engine.refresh()
    assert "A home cannot be moved or copied" in caplog.text and "belong in /gone" in caplog.text
    assert "04a" not in caplog.text and "/gone" not in engine.why_not_ready()


def test_any_other_refusal_is_told_as_it_is(serving_home):
    error = ModelError("what it is")
    assert loaded_models.explain_refusal(serving_home.predecessor, error) == "what it is"
    assert (
        loaded_models.explain_refusal(99, error)
        == loaded_models.explain_refusal(None, error)
        == "what it is"
    )
