import asyncio
import time
from dataclasses import replace

import factories
import pandas as pd
import pytest
import redis

from churn_utils import settings
from churn_utils.data import contract, table_writes, tables
from churn_utils.errors import NotReadyError, OnlineStoreError
from churn_utils.features import definitions, publishing
from churn_utils.inference import log as inference_log
from churn_utils.inference import scoring
from churn_utils.registry import approvals, artifacts, deployments, promotion, versions
from churn_utils.serving import ab_test, ab_test_result, prediction, refresh
from churn_utils.serving.metrics import ServingMetrics
from churn_utils.serving.predictor import Predictor
from churn_utils.serving.settings import ServingSettings

ID = "7590-VHVEG"
SETTINGS = ServingSettings(today="2025-02-01")


def open_predictor():
    """A predictor that is refreshed when the test says so and not by itself."""
    opened = Predictor(SETTINGS, ServingMetrics())
    opened.features.open()
    return opened


@pytest.fixture
def serving(serving_home):
    opened = open_predictor()
    opened.refresh()
    return opened


@pytest.fixture
def steady(shared_serving_home):
    """A predictor of a home that the tests share and leave alone."""
    opened = open_predictor()
    opened.refresh()
    return opened


def predict(opened, *customer_ids):
    return asyncio.run(opened.predict(customer_ids, "request"))


def predict_one(opened):
    return predict(opened, ID)[0][0]


def read_metric(opened, name, **labels):
    return opened.metrics.registry.get_sample_value(name, labels)


def promote(version):
    approvals.approve(version, "Ada", "good", factories.AS_OF)
    promotion.promote(version, factories.AS_OF)


def read_log(opened):
    """Write what waits to be logged; return the table."""
    opened.log.start()
    opened.log.close()
    return tables.read(inference_log.TABLE)


def test_probabilities_are_those_of_batch_scoring(serving, serving_home):
    rows = tables.read("customer_features", snapshot_date=factories.SNAPSHOT)
    promote(serving_home.challenger)
    serving.refresh()
    documents, unknown, *_ = predict(serving, *rows["customer_id"])
    challenger = versions.read_version(serving_home.challenger)
    expected = scoring.score_rows(challenger, definitions.add_on_demand(rows))
    found = pd.DataFrame(documents)
    assert unknown == [] and found["customer_id"].tolist() == rows["customer_id"].tolist()
    assert (found["churn_probability"] - expected["churn_probability"]).abs().max() <= 1e-6
    assert found["decision"].tolist() == expected["decision"].tolist()
    assert (found["expected_value_usd"] - expected["expected_value_usd"]).abs().max() <= 1e-3


def test_features_sent_and_features_stored_score_the_same(steady, extract):
    customers = contract.check_rows(extract.head(300))[0].drop(columns="churn")
    sent = customers.astype(object).where(customers.notna(), None).to_dict("records")
    by_id, *_ = predict(steady, *customers["customer_id"])
    by_features = asyncio.run(steady.score(sent, "request"))
    probabilities = [document["churn_probability"] for document in by_id]
    assert [document["churn_probability"] for document in by_features] == probabilities
    assert {document["features_as_of"] for document in by_features} == {None}
    assert by_id[0]["features_as_of"] == "2025-01-01"


def test_unknown_customers_are_named_and_counted(steady):
    documents, unknown, *_ = predict(steady, "UNKNOWN", ID)
    assert unknown == ["UNKNOWN"] and [found["customer_id"] for found in documents] == [ID]
    assert read_metric(steady, "churn_unknown_customers_total") == 1


def test_changes_of_champion_are_served_and_counted(serving, serving_home):
    promote(serving_home.challenger)
    assert predict_one(serving)["model_version"] == serving_home.predecessor
    serving.refresh()
    assert predict_one(serving)["model_version"] == serving_home.challenger
    promotion.rollback(factories.AS_OF, "Grace Hopper", "complaints")
    serving.refresh()
    assert predict_one(serving)["model_version"] == serving_home.predecessor
    assert read_metric(serving, "churn_lineup_changes_total") == 3


def test_without_a_champion_requests_are_refused(serving):
    table_writes.rewind("deployments", None)
    serving.refresh()
    with pytest.raises(NotReadyError, match="No model is in place yet"):
        predict(serving, ID)


def test_home_without_a_model_is_named_in_the_log_only(home, caplog):
    async def play():
        opened = Predictor(ServingSettings(poll_seconds=0.02), ServingMetrics())
        assert opened.why_not_ready() == "No model is in place yet."
        await opened.start()
        await asyncio.sleep(0.5)
        await opened.stop()
        return opened.why_not_ready()

    assert asyncio.run(play()) == "No model is in place yet: no version was promoted in this home."
    assert caplog.text.count("no version was promoted") == 1
    assert caplog.text.count("does not exist and is made now") == 1
    assert f"Looked for in {home}: make the home with run_all.py" in caplog.text


def test_store_is_closed_after_the_refresh_under_way(serving_home, monkeypatch):
    """SQLite crashes the whole process if a connection is closed while a thread works with it."""
    events = []

    def run(refresher, state):
        events.append("started")
        time.sleep(0.5)
        events.append(opened.features.publish())
        return []

    async def play():
        await opened.start()
        while not events:
            await asyncio.sleep(0.01)
        await opened.stop()

    opened = Predictor(ServingSettings(poll_seconds=60), ServingMetrics())
    monkeypatch.setattr(refresh.Refresher, "run", run)
    asyncio.run(asyncio.wait_for(play(), 20))
    assert events == ["started", 7043]


def test_split_serves_each_arm_its_customers(serving, serving_home, extract):
    split = ab_test.start(serving_home.challenger, factories.AS_OF, 0.3)
    serving.refresh()
    ids = extract["customer_id"].head(900).tolist()
    documents, *_ = predict(serving, *ids)
    expected = ["challenger" if split.includes(name) else "champion" for name in ids]
    assert [document["arm"] for document in documents] == expected
    assert {document["arm"]: document["model_version"] for document in documents} == {
        "champion": serving_home.predecessor,
        "challenger": serving_home.challenger,
    }
    labels = {"model_version": str(serving_home.challenger), "arm": "challenger"}
    counted = read_metric(serving, "churn_predictions_total", **labels)
    assert counted == expected.count("challenger")


def test_shadow_is_logged_and_never_returned(serving, serving_home):
    versions.set_tags(serving_home.challenger, {"gate": "fail"})  # a shadow needs no gate
    ab_test.start(serving_home.challenger, factories.AS_OF, mode=ab_test.SHADOW)
    serving.refresh()
    documents, *_ = predict(serving, ID)
    champion = ("champion", serving_home.predecessor)
    assert [(found["arm"], found["model_version"]) for found in documents] == [champion]
    logged = read_log(serving).set_index("arm")
    assert set(logged.index) == {"champion", "shadow"}
    assert logged.loc["shadow", "model_version"] == serving_home.challenger
    assert serving.find_receipt(logged.loc["shadow", "prediction_id"]) is None
    assert serving.find_receipt(logged.loc["champion", "prediction_id"]) is not None


def predict_from_labels(opened, split, extract):
    """Replace both models by the labels: the challenger is always wrong, the champion right."""
    labels = tables.read("churn_labels").set_index("customer_id")["churned"]
    models = opened.state.models
    changed = {}
    for name, challenger in (("champion", False), ("challenger", True)):
        own = [c for c in extract["customer_id"] if split.includes(c) == challenger]
        scores = iter([float(labels[customer_id] != challenger) for customer_id in own])
        model = getattr(models, name)
        changed[name] = replace(model, predict_probability=lambda _, it=scores: next(it))
    opened.state = replace(opened.state, models=replace(models, **changed))


def test_split_is_evaluated_when_predictions_follow_the_labels(
    serving, serving_home, monkeypatch, extract
):
    split, results = ab_test.start(serving_home.challenger, factories.AS_OF, 0.5), []
    real = ab_test_result.stop_if_worse
    monkeypatch.setattr(
        ab_test_result,
        "stop_if_worse",
        lambda *a: results.append(real(*a, minimum=100)) or results[-1],
    )
    monkeypatch.setattr(refresh, "SETTLED_NS", 0)
    serving.refresh()
    predict_from_labels(serving, split, extract)
    predict(serving, *extract["customer_id"])
    read_log(serving)
    serving.refresh()
    assert len(results) == 1 and serving.state.models.ab_test == split  # not yet: too soon
    due = replace(serving.state.evaluation, next_at=0.0)
    serving.state = replace(serving.state, evaluation=due)
    serving.refresh()
    assert results[-1].verdict == ab_test_result.WORSE and serving.state.models.ab_test is None
    assert ab_test.read_last(split.version).status == ab_test.STOPPED


def test_new_features_are_served_and_follow_a_restore(serving, extract):
    february = settings.month_start(1)
    publishing.publish_snapshot(extract.head(10).assign(contract="Two year"), february, february)
    serving.refresh()
    assert predict_one(serving)["features_as_of"] == "2025-02-01"
    table_writes.rewind("customer_features", 0)
    serving.refresh()
    assert predict_one(serving)["features_as_of"] == "2025-01-01"


def test_features_that_redis_lost_are_published_at_once(serving_home, redis_address):
    """Until then customers get no answer instead of being called unknown."""

    async def play():
        settings_ = SETTINGS.model_copy(update={"online_store": redis_address, "poll_seconds": 60})
        opened = Predictor(settings_, ServingMetrics())
        await opened.start()
        while opened.state.models is None:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # the refreshes pause now
        assert (await opened.predict(["UNKNOWN"], "request")).unknown == ["UNKNOWN"]
        redis.Redis.from_url(redis_address).flushall()
        refused, documents = 0, []
        while not documents:
            try:
                answers = await opened.predict([ID], "request")
                documents = answers.predictions
                assert answers.unknown == []
            except NotReadyError as error:
                assert "not in the online store yet" in str(error)
                refused += 1
            await asyncio.sleep(0.01)
        assert refused and read_metric(opened, "churn_unknown_customers_total") == 1
        await opened.stop()

    asyncio.run(asyncio.wait_for(play(), 30))


def test_features_of_the_future_are_served_with_a_warning(serving, extract, caplog):
    may = settings.month_start(4)
    publishing.publish_snapshot(extract.head(10), may, may)
    serving.refresh()
    document = predict_one(serving)
    assert (document["features_as_of"], document["features_stale"]) == ("2025-05-01", False)
    assert read_metric(serving, "churn_feature_age_days") == 0
    assert read_metric(serving, "churn_features_ahead_days") == 89
    assert "CHURN_TODAY is 2025-02-01" in caplog.text


@pytest.mark.parametrize(("limit_days", "stale"), [(31, False), (30, True)])
def test_stale_features_are_marked_and_counted(steady, monkeypatch, limit_days, stale):
    monkeypatch.setattr(prediction, "MAX_AGE_DAYS", limit_days)  # January's are 31 days old
    assert predict_one(steady)["features_stale"] == stale
    assert read_metric(steady, "churn_stale_features_total") == stale


def test_receipt_reproduces_a_former_champion(serving, serving_home):
    first = predict_one(serving)
    promote(serving_home.challenger)
    serving.refresh()
    serving.cache.clear()
    receipt = serving.find_receipt(first["prediction_id"])
    assert receipt["model_version"] == serving_home.predecessor
    assert receipt["churn_probability"] == first["churn_probability"]
    assert receipt["reproduced_probability"] == first["churn_probability"]
    inputs = pd.DataFrame([receipt["features"]])
    model = artifacts.load_model(serving_home.predecessor)
    expected = scoring.predict_probability(model, inputs)[0]
    assert expected == pytest.approx(first["churn_probability"], abs=1e-6)


def test_receipt_is_not_reproduced_by_a_later_version(steady, monkeypatch):
    first, model = predict_one(steady), steady.state.models.champion
    later = replace(model, registered_at=model.registered_at.replace(year=2999))
    monkeypatch.setattr(steady.cache, "load", lambda version: later)
    assert steady.find_receipt(first["prediction_id"])["reproduced_probability"] is None


def test_full_log_refuses_requests_instead_of_losing_them(steady):
    steady.log.capacity = 3
    predict(steady, ID)
    with pytest.raises(NotReadyError, match="would not be recorded"):
        predict(steady, ID, ID)
    assert len(steady.log) == 1


def test_readiness_names_the_reason(serving, monkeypatch):
    assert serving.why_not_ready() == ""
    monkeypatch.setattr(serving.log, "capacity", 1)
    assert "inference log cannot keep up" in serving.why_not_ready()
    monkeypatch.setattr(serving.log, "capacity", 100)
    factories.change_online_store("DELETE FROM published")
    with pytest.raises(NotReadyError, match="not in the online store"):
        predict(serving, "UNKNOWN")
    assert "not in the online store" in serving.why_not_ready()
    serving.refresh()
    assert serving.why_not_ready() == ""


@pytest.mark.parametrize("noticed_by", ["request", "refresh"])
def test_store_that_is_away_makes_the_api_unready(serving, noticed_by):
    factories.change_online_store("ALTER TABLE online RENAME TO gone")
    factories.change_online_store("ALTER TABLE published RENAME TO lost")
    if noticed_by == "request":
        with pytest.raises(NotReadyError, match="does not answer"):
            predict(serving, ID)
    else:
        with pytest.raises(OnlineStoreError):
            serving.refresh()
    assert "online store does not answer" in serving.why_not_ready()
    factories.change_online_store("ALTER TABLE gone RENAME TO online")
    factories.change_online_store("ALTER TABLE lost RENAME TO published")
    serving.refresh()
    assert serving.why_not_ready() == ""


def test_failing_refresh_is_counted_and_repeated(serving_home, monkeypatch):
    async def play():
        opened = Predictor(SETTINGS.model_copy(update={"poll_seconds": 0.02}), ServingMetrics())
        real = deployments.version_in_effect
        monkeypatch.setattr(deployments, "version_in_effect", lambda: 1 / 0)
        await opened.start()
        while not read_metric(opened, "churn_refresh_failures_total"):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert read_metric(opened, "churn_refresh_age_seconds") > 0.3  # failures do not count
        monkeypatch.setattr(deployments, "version_in_effect", real)
        while opened.state.models is None:
            await asyncio.sleep(0.01)
        while read_metric(opened, "churn_refresh_age_seconds") > 0.2:
            await asyncio.sleep(0.01)
        await opened.predict([ID], "request")
        await opened.stop()

    asyncio.run(asyncio.wait_for(play(), 30))
    assert len(tables.read(inference_log.TABLE)) == 1  # written at the end
