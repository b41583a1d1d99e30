import asyncio
import shutil
import time

import factories
import pandas as pd
import pytest

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.errors import NotReadyError, OnlineStoreError
from churn_utils.features import definitions, offline, online
from churn_utils.inference import compiled, scoring
from churn_utils.inference import log as inference_log
from churn_utils.registry import approvals, artifacts, deployments, versions
from churn_utils.serving import ab_test, predictor
from churn_utils.serving import refresh as refresh_
from churn_utils.serving.metrics import ServingMetrics
from churn_utils.serving.predictor import Engine
from churn_utils.serving.settings import ServingSettings

ID = "7590-VHVEG"


def open_engine(**changes):
    """An engine that is renewed when the test says so and not by itself."""
    engine = Engine(ServingSettings(today="2025-02-01", **changes), ServingMetrics())
    engine._store = online.open_store()
    return engine


@pytest.fixture
def engine(serving_home):
    engine = open_engine()
    engine.refresh()
    return engine


def ask(engine, *customer_ids):
    return asyncio.run(engine.predict(customer_ids, "request"))


def count(metric, **labels):
    return metric.labels(**labels)._value.get() if labels else metric._value.get()


def read(engine, name):
    return engine.metrics.registry.get_sample_value(name)


def promote_challenger(home):
    approvals.approve(home.challenger, "Ada", "good", factories.AS_OF)
    deployments.promote(home.challenger, factories.AS_OF)


def test_all_customers_get_the_probability_that_batch_scoring_gives_them(engine, serving_home):
    rows = tables.read("customer_features", snapshot_date=factories.SNAPSHOT)
    promote_challenger(serving_home)
    engine.refresh()
    answers, unknown = ask(engine, *rows["customer_id"])
    expected = scoring.score_rows(
        versions.read_version(serving_home.challenger), definitions.add_on_demand(rows)
    )
    found = pd.DataFrame(answers)
    assert unknown == [] and found["customer_id"].tolist() == rows["customer_id"].tolist()
    assert (found["churn_probability"] - expected["churn_probability"]).abs().max() <= 1e-6
    assert found["decision"].tolist() == expected["decision"].tolist()
    assert (found["expected_value_usd"] - expected["expected_value_usd"]).abs().max() <= 1e-3


def test_customers_given_whole_get_the_same_answer_as_by_id(engine, extract):
    from churn_utils.data import contract

    customers = contract.check_rows(extract.head(300))[0].drop(columns="churn")
    given = customers.astype(object).where(customers.notna(), None).to_dict("records")
    by_id, _ = ask(engine, *customers["customer_id"])
    whole = engine.score(given, "request")
    assert [a["churn_probability"] for a in whole] == [a["churn_probability"] for a in by_id]
    assert {a["features_as_of"] for a in whole} == {None} and by_id[0][
        "features_as_of"
    ] == "2025-01-01"


def test_a_promotion_is_taken_up_and_a_rollback_too(engine, serving_home):
    assert ask(engine, ID)[0][0]["model_version"] == serving_home.predecessor
    promote_challenger(serving_home)
    assert (
        ask(engine, ID)[0][0]["model_version"] == serving_home.predecessor
    )  # nothing changes by itself
    engine.refresh()
    assert ask(engine, ID)[0][0]["model_version"] == serving_home.challenger
    deployments.rollback(factories.AS_OF, "Grace Hopper", "complaints")
    engine.refresh()
    assert ask(engine, ID)[0][0]["model_version"] == serving_home.predecessor
    assert count(engine.metrics.changes) == 3


def test_an_alias_alone_promotes_nobody(engine, serving_home):
    versions.set_champion(serving_home.challenger)
    engine.refresh()
    assert engine.lineup.champion.version == serving_home.predecessor


def put_in_place_without_approval(version):
    """What somebody with write access to the table could do."""
    table, (_, digest) = deployments.read_deployments(), versions.read_evidence(version)
    tables.merge("deployments", table.assign(version=version, evidence_sha256=digest))


def test_a_version_without_valid_approval_is_refused_and_the_old_one_goes_on(
    engine, serving_home, caplog
):
    put_in_place_without_approval(serving_home.challenger)  # approved for a trial only
    engine.refresh()
    assert engine.lineup.champion.version == serving_home.predecessor
    assert engine.refused == serving_home.challenger and count(engine.metrics.refusals) == 1
    assert "approved for 'trial'" in caplog.text


def test_with_no_version_that_may_answer_nothing_answers(serving_home):
    put_in_place_without_approval(serving_home.challenger)
    engine = open_engine()
    engine.refresh()
    with pytest.raises(NotReadyError, match=f"Version {serving_home.challenger} may not answer"):
        ask(engine, ID)


def test_evidence_that_is_changed_later_voids_a_version_at_the_next_look(serving_home, monkeypatch):
    monkeypatch.setattr(versions, "hash_evidence", lambda text: "another")
    engine = open_engine()
    engine.refresh()
    assert engine.lineup is None and engine.refused == serving_home.predecessor


def test_a_version_whose_files_are_put_back_answers_again(serving_home, monkeypatch):
    file = factories.find_model_file(serving_home.predecessor)
    file.rename(file.with_suffix(".away"))
    engine = open_engine()
    engine.refresh()
    time.sleep(1.1)  # no change of the registry is as young as to be looked at again for that
    engine.refresh()
    file.with_suffix(".away").rename(file)
    engine.refresh()
    assert (
        engine.lineup is None and count(engine.metrics.refusals) == 1
    )  # not looked at all the time
    monkeypatch.setattr(refresh_, "RETRY_SECONDS", 0)
    engine.refresh()
    assert engine.refused is None and ask(engine, ID)[0]


def test_a_version_whose_approval_is_withdrawn_answers_no_more(engine, serving_home):
    info = versions.read_version(serving_home.predecessor)
    tag = next(name for name in info.tags if name.startswith("approval.champion."))
    versions.set_tags(serving_home.predecessor, {tag: "{}"})
    engine.refresh()
    with pytest.raises(NotReadyError, match=f"Version {serving_home.predecessor} may not answer"):
        ask(engine, ID)
    versions.set_tags(serving_home.predecessor, {tag: info.tags[tag]})
    engine.refresh()
    assert ask(engine, ID)[0]


def test_a_compiled_form_that_differs_never_answers(serving_home, monkeypatch):
    real = compiled.compile_model
    monkeypatch.setattr(
        compiled, "compile_model", lambda model: lambda row: real(model)(row) + 1e-5
    )
    engine = open_engine()
    engine.refresh()
    assert engine.lineup is None and engine.refused == serving_home.predecessor


def test_nothing_answers_once_no_version_is_in_effect(engine):
    tables.rewind("deployments", None)
    engine.refresh()
    with pytest.raises(NotReadyError, match="No model is in place yet"):
        ask(engine, ID)


def test_a_home_without_a_model_is_named_once_in_the_log_and_never_to_callers(home, caplog):
    async def play():
        engine = Engine(ServingSettings(poll_seconds=0.02), ServingMetrics())
        assert engine.why_not_ready() == "No model is in place yet."
        await engine.start()
        await asyncio.sleep(0.5)
        await engine.stop()
        return engine.why_not_ready()

    assert asyncio.run(play()) == "No model is in place yet: no version was promoted in this home."
    assert caplog.text.count("no version was promoted") == 1
    assert caplog.text.count("does not exist and is made now") == 1
    assert f"looked for in {home}: make it with run_all.py" in caplog.text


def test_the_store_is_closed_only_when_the_renewal_under_way_has_ended(serving_home, monkeypatch):
    """SQLite crashes the whole process when a connection is closed while another thread works with it."""
    events = []

    def refresh():
        events.append("begun")
        time.sleep(0.5)
        events.append(engine._store.count())

    async def play():
        await engine.start()
        while not events:
            await asyncio.sleep(0.01)
        await engine.stop()

    engine = Engine(ServingSettings(poll_seconds=60), ServingMetrics())
    monkeypatch.setattr(engine, "refresh", refresh)
    asyncio.run(asyncio.wait_for(play(), 20))
    assert events == ["begun", 0]


@pytest.mark.parametrize("fails", [False, True])
def test_no_pause_holds_the_end_up(serving_home, monkeypatch, fails):
    async def play():
        await engine.start()
        await asyncio.sleep(0.3)
        began = time.monotonic()
        await engine.stop()
        return time.monotonic() - began

    engine = Engine(ServingSettings(poll_seconds=60), ServingMetrics())
    monkeypatch.setattr(engine, "refresh", lambda: 1 / (not fails))
    assert asyncio.run(asyncio.wait_for(play(), 30)) < 20


def test_a_home_without_features_says_that_these_are_missing(serving_home):
    engine = open_engine()
    engine._calendar = type(engine._calendar)("")
    shutil.rmtree(tables.path_of("customer_features"))
    engine.refresh()
    assert "no features were published" in engine.why_not_ready()


def test_a_registry_that_is_replaced_between_two_looks_vouches_for_nothing_that_was_loaded_before(
    engine, serving_home, monkeypatch
):
    database = settings.mlflow_database()
    shutil.copy(database, database.with_suffix(".copy"))
    database.with_suffix(".copy").replace(database)
    monkeypatch.setattr(artifacts, "hash_model", lambda version: "another")
    engine.refresh()
    assert (
        engine.lineup is None
        and engine.refused == serving_home.predecessor
        and not engine._versions._ready
    )


def test_a_split_asks_each_arm_for_its_customers_and_says_so(engine, serving_home, extract):
    trial = ab_test.start_trial(serving_home.challenger, factories.AS_OF, 0.3)
    engine.refresh()
    ids = extract["customer_id"].head(900).tolist()
    answers, _ = ask(engine, *ids)
    expected = ["challenger" if trial.picks(name) else "champion" for name in ids]
    assert [answer["arm"] for answer in answers] == expected
    assert {a["arm"]: a["model_version"] for a in answers} == {
        "champion": serving_home.predecessor,
        "challenger": serving_home.challenger,
    }
    shares = count(
        engine.metrics.predictions, model_version=serving_home.challenger, arm="challenger"
    )
    assert shares == expected.count("challenger")


def test_in_the_shadow_the_challenger_is_recorded_and_never_shown(engine, serving_home):
    versions.set_tags(serving_home.challenger, {"gate": "fail"})  # the shadow asks for no gate
    ab_test.start_trial(serving_home.challenger, factories.AS_OF, mode=ab_test.SHADOW)
    engine.refresh()
    answers, _ = ask(engine, ID)
    assert [(a["arm"], a["model_version"]) for a in answers] == [
        ("champion", serving_home.predecessor)
    ]
    recorded = {entry[8]: entry for entry in engine.log._waiting}
    assert (
        set(recorded) == {"champion", "shadow"} and recorded["shadow"][7] == serving_home.challenger
    )
    assert engine.find_receipt(recorded["shadow"][0]) is None
    assert engine.find_receipt(recorded["champion"][0]) is not None


def test_an_arm_whose_gate_is_withdrawn_answers_no_more(engine, serving_home):
    ab_test.start_trial(serving_home.challenger, factories.AS_OF, 0.5)
    engine.refresh()
    assert engine.lineup.trial is not None
    versions.set_tags(serving_home.challenger, {"gate": "fail"})
    engine.refresh()
    assert engine.lineup.trial is None and engine.refused == serving_home.challenger


def test_an_arm_that_the_labels_show_to_be_worse_is_stopped(engine, serving_home, monkeypatch):
    trial = ab_test.start_trial(serving_home.challenger, factories.AS_OF, 0.5)
    verdict = {"verdict": ab_test.WORSE, "difference_usd": -90.0, "lower": -150.0, "upper": -30.0}
    monkeypatch.setattr(ab_test, "judge_trial", lambda *_: verdict)
    engine.refresh()
    assert (
        engine.lineup.trial is None and engine.lineup.champion.version == serving_home.predecessor
    )
    assert ab_test.read_trial_of(trial.version).status == ab_test.STOPPED


def test_an_arm_is_judged_again_when_its_answers_are_logged_after_the_labels_arrived(
    engine, serving_home, monkeypatch, extract
):
    trial, verdicts = ab_test.start_trial(serving_home.challenger, factories.AS_OF, 0.5), []
    real = ab_test.stop_if_worse
    monkeypatch.setattr(
        ab_test, "stop_if_worse", lambda *a: verdicts.append(real(*a, minimum=100)) or verdicts[-1]
    )
    monkeypatch.setattr(refresh_, "SETTLED_NS", 0)
    engine.refresh()
    for served in (
        engine.lineup.challenger,
        engine.lineup.champion,
    ):  # the one decides wrongly, the other rightly
        labels = tables.read("churn_labels").set_index("customer_id")["churned"]
        wrong = served.version == trial.version
        scores = iter(
            [
                float(labels[name] != wrong)
                for name in extract["customer_id"]
                if trial.picks(name) == wrong
            ]
        )
        object.__setattr__(served, "score", lambda _, scores=scores: next(scores))
    engine.log.start()
    ask(engine, *extract["customer_id"])
    engine.log.close()
    engine.refresh()
    assert (
        len(verdicts) == 1 and engine.lineup.trial == trial
    )  # not yet: the log may change with every second
    monkeypatch.setattr(engine._judge, "_judge_after", 0.0)
    engine.refresh()
    assert verdicts[-1]["verdict"] == ab_test.WORSE and engine.lineup.trial is None
    assert ab_test.read_trial_of(trial.version).status == ab_test.STOPPED


def test_new_features_are_published_and_go_back_with_the_table(engine, extract):
    february = settings.month_start(1)
    offline.publish_snapshot(extract.head(10).assign(contract="Two year"), february, february)
    engine.refresh()
    assert ask(engine, ID)[0][0]["features_as_of"] == "2025-02-01" and engine.newest == "2025-02-01"
    from deltalake import DeltaTable

    DeltaTable(str(tables.path_of("customer_features"))).restore(0)
    engine.refresh()
    assert ask(engine, ID)[0][0]["features_as_of"] == "2025-01-01"


def test_features_that_redis_lost_are_published_at_once_and_nobody_is_unknown_until_then(
    serving_home, redis_address
):
    async def play():
        changed = ServingSettings(today="2025-02-01", online_store=redis_address, poll_seconds=60)
        engine = Engine(changed, ServingMetrics())
        await engine.start()
        while engine.lineup is None:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # the renewal rests now
        assert (await engine.predict(["NOBODY"], "request"))[1] == ["NOBODY"]
        engine._store._db.flushall()
        refused, answers = 0, []
        while not answers:
            try:
                answers, unknown = await engine.predict([ID], "request")
                assert unknown == []
            except NotReadyError as error:
                assert "not in the online store yet" in str(error)
                refused += 1
            await asyncio.sleep(0.01)
        assert refused and count(engine.metrics.unknown) == 1
        await engine.stop()

    asyncio.run(asyncio.wait_for(play(), 30))


def test_features_later_than_today_answer_and_are_told_of(engine, extract, caplog):
    may = settings.month_start(4)
    offline.publish_snapshot(extract.head(10), may, may)
    engine.refresh()
    answer = ask(engine, ID)[0][0]
    assert (answer["features_as_of"], answer["features_stale"]) == ("2025-05-01", False)
    assert (
        read(engine, "churn_feature_age_days") == 0
        and read(engine, "churn_features_ahead_days") == 89
    )
    assert "CHURN_TODAY is 2025-02-01" in caplog.text


@pytest.mark.parametrize(("limit_days", "stale"), [(31, False), (30, True)])
def test_stale_features_are_said_to_be_stale(engine, monkeypatch, limit_days, stale):
    monkeypatch.setattr(predictor, "MAX_AGE_DAYS", limit_days)  # January's features are 31 days old
    assert ask(engine, ID)[0][0]["features_stale"] == stale and count(engine.metrics.stale) == stale


def test_a_receipt_reproduces_the_probability_of_a_version_that_answers_no_more(
    engine, serving_home
):
    first = ask(engine, ID)[0][0]
    promote_challenger(serving_home)
    engine.refresh()
    engine._versions.clear()
    receipt = engine.find_receipt(first["prediction_id"])
    assert (
        receipt["reproduced_probability"]
        == receipt["churn_probability"]
        == first["churn_probability"]
    )
    assert receipt["model_version"] == serving_home.predecessor
    inputs = pd.DataFrame([receipt["features"]])
    model = artifacts.load_model(serving_home.predecessor)
    assert scoring.predict_probability(model, inputs)[0] == pytest.approx(
        first["churn_probability"], abs=1e-6
    )


def test_a_full_log_refuses_answers_instead_of_losing_them(serving_home):
    engine = open_engine()
    engine.log.capacity = 3
    engine.refresh()
    ask(engine, ID)
    with pytest.raises(NotReadyError, match="would not be recorded"):
        ask(engine, ID, ID)
    assert len(engine.log) == 1


def test_an_engine_that_cannot_answer_says_why(engine, monkeypatch):
    assert engine.why_not_ready() == ""
    monkeypatch.setattr(engine.log, "capacity", 1)
    assert "inference log cannot keep up" in engine.why_not_ready()
    monkeypatch.setattr(engine.log, "capacity", 100)
    engine._store._db.execute("DELETE FROM published")
    with pytest.raises(NotReadyError, match="not in the online store"):
        ask(engine, "NOBODY")
    assert "not in the online store" in engine.why_not_ready()
    engine.refresh()
    assert engine.why_not_ready() == ""


@pytest.mark.parametrize("who_notices", ["a request", "the renewal"])
def test_a_store_that_does_not_answer_is_no_reason_to_send_requests(engine, who_notices):
    engine._store._db.execute("ALTER TABLE online RENAME TO gone")
    engine._store._db.execute("ALTER TABLE published RENAME TO lost")
    if who_notices == "a request":
        with pytest.raises(NotReadyError, match="does not answer"):
            ask(engine, ID)
    else:
        with pytest.raises(OnlineStoreError):
            engine.refresh()
    assert "online store does not answer" in engine.why_not_ready()
    engine._store._db.execute("ALTER TABLE gone RENAME TO online")
    engine._store._db.execute("ALTER TABLE lost RENAME TO published")
    engine.refresh()
    assert engine.why_not_ready() == ""


def test_nothing_is_read_again_while_nothing_changed(engine, monkeypatch):
    time.sleep(1.1)  # what was written a moment ago is looked at once more
    engine.refresh()
    calls = []
    monkeypatch.setattr(predictor.deployments, "version_in_effect", lambda: calls.append(1))
    engine.refresh()
    assert calls == []
    versions.set_tags(engine.lineup.champion.version, {"note": "changed"})
    engine.refresh()
    assert calls == [1]


def test_a_renewal_that_fails_is_counted_and_tried_again(serving_home, monkeypatch):
    async def play():
        engine = Engine(ServingSettings(today="2025-02-01", poll_seconds=0.02), ServingMetrics())
        real = deployments.version_in_effect
        monkeypatch.setattr(deployments, "version_in_effect", lambda: 1 / 0)
        await engine.start()
        while not count(engine.metrics.refresh_failures):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert read(engine, "churn_refresh_age_seconds") > 0.3  # failures do not count as looks
        monkeypatch.setattr(deployments, "version_in_effect", real)
        while engine.lineup is None:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        assert read(engine, "churn_refresh_age_seconds") < 0.2
        await engine.predict([ID], "request")
        await engine.stop()

    asyncio.run(asyncio.wait_for(play(), 30))
    assert len(tables.read(inference_log.TABLE)) == 1  # flushed at the end
