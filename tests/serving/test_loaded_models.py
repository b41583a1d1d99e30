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
from churn_utils.features.offer_policy import OfferPolicy
from churn_utils.inference import scoring
from churn_utils.pipeline import runner
from churn_utils.registry import versions
from churn_utils.serving import ab_test, app, loaded_models
from churn_utils.serving.ab_test import AbTest
from churn_utils.serving.loaded_models import LoadedModels, ModelCache
from churn_utils.serving.settings import ServingSettings

ID = "7590-VHVEG"
SETTINGS = ServingSettings(today="2025-02-01", poll_seconds=0.05, log_seconds=0.1, access_log=False)
# In another process, as run_all.py --fresh is: the API learns of it from the files alone.
MAKE_NEW_HOME = """
import factories
from churn_utils.registry import approvals, promotion
version = factories.build_registered_home()["version"]
factories.pass_gate(version)
approvals.approve(version, "Ada", "good", factories.AS_OF)
promotion.promote(version, factories.AS_OF)
"""


def wait_until(holds, seconds=120):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.05)


@pytest.mark.long
def test_new_home_under_a_running_api_serves_its_own_model(serving_home, tmp_path):
    def predict():
        return client.post("/v1/predictions", json={"customer_ids": [ID]})

    def is_ready():
        return client.get("/readyz").status_code == 200

    with TestClient(app.create_app(SETTINGS)) as client:
        wait_until(is_ready)
        before = predict().json()["predictions"][0]
        runner.clear_home(tmp_path / "reports")
        wait_until(lambda: "No model is in place yet" in predict().json().get("detail", ""))
        assert predict().status_code == 503
        command = [sys.executable, "-c", MAKE_NEW_HOME]
        subprocess.run(command, cwd=settings.PROJECT / "tests", check=True)
        wait_until(is_ready)
        after = predict().json()["predictions"][0]
        assert before["model_version"] == after["model_version"] == 1
        rows = tables.read("customer_features")
        rows = definitions.add_on_demand(rows[rows["customer_id"] == ID])
        expected = scoring.score_rows(versions.read_version(1), rows)["churn_probability"].iloc[0]
        assert after["churn_probability"] == pytest.approx(expected, abs=1e-6)
        assert abs(after["churn_probability"] - before["churn_probability"]) > 0.01
        receipt = client.get(f"/v1/predictions/{after['prediction_id']}").json()
        assert receipt["reproduced_probability"] == receipt["churn_probability"]
        assert client.get("/v1/model").json()["refused_version"] is None
        assert online.open_store().count() == 7043  # in the new file, not in the deleted one


def test_version_is_loaded_once_and_known_by_its_run(shared_serving_home, monkeypatch):
    cache, calls = ModelCache(), []
    real = loaded_models.compiled.load_compiled
    monkeypatch.setattr(
        loaded_models.compiled, "load_compiled", lambda v: calls.append(v.version) or real(v)
    )
    first = cache.load(1)
    assert cache.load(1) is first and calls == [1]
    info = versions.read_version(1)
    another = replace(info, run_id="another")
    monkeypatch.setattr(versions, "read_version", lambda _: another)
    assert cache.load(1) is not first and calls == [1, 1]


def test_only_the_last_few_versions_are_kept(shared_serving_home, monkeypatch):
    monkeypatch.setattr(loaded_models, "CACHED_VERSIONS", 1)
    cache = ModelCache()
    first = cache.load(shared_serving_home.predecessor)
    cache.load(shared_serving_home.challenger)
    assert len(cache) == 1 and cache.load(shared_serving_home.predecessor) is not first


def test_missing_registry_is_not_created(home):
    with pytest.raises(ModelError, match="no registry"):
        ModelCache().load(1)
    assert not settings.mlflow_folder().exists()


def test_loaded_version_knows_when_it_was_registered(shared_serving_home):
    loaded = ModelCache().load(shared_serving_home.predecessor)
    assert 0 < time.time() - loaded.registered_at.timestamp() < 3600


@pytest.fixture(scope="module")
def pair(shared_serving_home):
    cache = ModelCache()
    return cache.load(shared_serving_home.predecessor), cache.load(shared_serving_home.challenger)


def test_champion_alone_serves_everybody(pair):
    models = LoadedModels(pair[0], "Ada")
    assert models.choose(ID) == (pair[0], "champion")
    assert models.list_arms() == {"champion": 1} and models.shadow is None


def test_split_gives_each_customer_its_arm(pair):
    split = AbTest(2, 1, ab_test.SPLIT, 0.5, "2025-02-01", "")
    models = LoadedModels(pair[0], "Ada", pair[1], split)
    for customer_id in (f"{i:04}-AAAAA" for i in range(100)):
        arm = "challenger" if split.includes(customer_id) else "champion"
        assert models.choose(customer_id) == (pair[arm == "challenger"], arm)
    assert models.list_arms() == {"champion": 1, "challenger": 2} and models.shadow is None


def test_shadow_is_never_chosen(pair):
    shadow = AbTest(2, 1, ab_test.SHADOW, 0.5, "2025-02-01", "")
    models = LoadedModels(pair[0], "Ada", pair[1], shadow)
    assert models.shadow is pair[1] and models.list_arms() == {"champion": 1, "shadow": 2}
    assert all(models.choose(f"{i:04}-AAAAA")[1] == "champion" for i in range(100))


def test_without_offers_there_are_no_groups(pair):
    assert LoadedModels(pair[0], "Ada").assign_group(ID, "offer", "champion") == ("offer", None)


def test_the_control_group_gets_no_offer(pair):
    models = LoadedModels(pair[0], "Ada", offer_policy=OfferPolicy(0.2))
    ids = [f"{number:04}-AAAAA" for number in range(500)]
    found = {models.assign_group(customer_id, "offer", "champion") for customer_id in ids}
    assert found == {("offer", "treated"), ("no_offer", "control")}
    assert models.assign_group(ids[0], "no_offer", "champion") == ("no_offer", "not_selected")
    shadowed = {models.assign_group(customer_id, "offer", "shadow") for customer_id in ids}
    assert shadowed == {("offer", None)}, "a shadow's decision is not carried out"
