import asyncio
import shutil
import time
from dataclasses import replace

import factories
import pytest

from churn_utils import settings
from churn_utils.data import table_writes, tables
from churn_utils.features import publishing
from churn_utils.inference import compiled
from churn_utils.registry import (
    aliases,
    approvals,
    artifacts,
    deployments,
    gate_evidence,
    promotion,
    versions,
)
from churn_utils.serving import ab_test, ab_test_result, refresh, serving_state
from churn_utils.serving.ab_test_result import AbTestResult
from churn_utils.serving.feature_clock import FeatureClock
from churn_utils.serving.loaded_models import ModelCache
from churn_utils.serving.metrics import ServingMetrics
from churn_utils.serving.online_features import OnlineFeatures
from churn_utils.serving.refresh import Refresher
from churn_utils.serving.refresh_loop import RefreshLoop
from churn_utils.serving.serving_state import ServingState


class Refreshed:
    """A state that is refreshed when the test says so."""

    def __init__(self, today="2025-02-01"):
        self.features = OnlineFeatures("", "", lambda: None)
        self.features.open()
        self.cache = ModelCache()
        self.refresher = Refresher(self.features, self.cache, ServingMetrics(), publish=True)
        self.state = ServingState(clock=FeatureClock(today))

    def refresh(self):
        for state in self.refresher.run(self.state):
            self.state = state
        return self.state

    @property
    def champion(self):
        return None if self.state.models is None else self.state.models.champion.version

    @property
    def ab_test(self):
        return None if self.state.models is None else self.state.models.ab_test


@pytest.fixture
def serving(serving_home):
    opened = Refreshed()
    opened.refresh()
    return opened


def promote(version):
    approvals.approve(version, "Ada", "good", factories.AS_OF)
    promotion.promote(version, factories.AS_OF)


def put_in_place_without_approval(version):
    """What somebody with write access to the table could do."""
    _, digest = gate_evidence.read_evidence(version)
    table = deployments.read_deployments()
    table_writes.merge("deployments", table.assign(version=version, evidence_sha256=digest))


def test_marker_changes_with_a_table_and_with_the_registry(serving_home):
    first = refresh.read_marker()
    assert refresh.read_marker() == first
    versions.set_tags(serving_home.challenger, {"note": "changed"})
    second = refresh.read_marker()
    table_writes.rewind("deployments", None)
    assert len({first, second, refresh.read_marker()}) == 3


def test_without_a_registry_there_is_no_marker(home):
    assert refresh.read_marker() is None and not settings.mlflow_folder().exists()


def test_what_was_written_a_moment_ago_is_not_settled(serving_home):
    versions.set_tags(serving_home.challenger, {"note": "changed"})
    assert not refresh.is_settled(refresh.read_marker()) and refresh.is_settled((1, 2))


def test_promotion_and_rollback_change_the_champion(serving, serving_home):
    promote(serving_home.challenger)
    assert serving.champion == serving_home.predecessor  # nothing changes without a refresh
    serving.refresh()
    assert serving.champion == serving_home.challenger
    promotion.rollback(factories.AS_OF, "Grace Hopper", "complaints")
    serving.refresh()
    assert serving.champion == serving_home.predecessor


def test_alias_alone_promotes_no_version(serving, serving_home):
    aliases.set_champion(serving_home.challenger)
    serving.refresh()
    assert serving.champion == serving_home.predecessor


def test_version_without_approval_is_refused_the_old_one_serves(serving, serving_home):
    put_in_place_without_approval(serving_home.challenger)  # approved for an A/B test only
    state = serving.refresh()
    assert serving.champion == serving_home.predecessor
    assert state.refused_version == serving_home.challenger
    assert "approved for 'trial'" in state.refusal.reason


def test_without_a_version_that_may_serve_callers_are_told(serving_home):
    put_in_place_without_approval(serving_home.challenger)
    state = Refreshed().refresh()
    assert state.models is None
    assert state.no_model_reason == f"Version {serving_home.challenger} may not serve."


def test_changed_evidence_voids_a_version_at_the_next_refresh(serving_home, monkeypatch):
    monkeypatch.setattr(gate_evidence, "hash_text", lambda text: "another")
    state = Refreshed().refresh()
    assert state.models is None and state.refused_version == serving_home.predecessor


def test_version_whose_files_are_put_back_serves_again(serving_home, monkeypatch):
    file = factories.find_model_file(serving_home.predecessor)
    file.rename(file.with_suffix(".away"))
    serving = Refreshed()
    serving.refresh()
    time.sleep(1.1)  # no change of the registry is recent enough to cause a refresh
    serving.refresh()
    file.with_suffix(".away").rename(file)
    assert serving.refresh().models is None  # not checked all the time
    monkeypatch.setattr(serving_state, "RETRY_SECONDS", 0)
    assert serving.refresh().refusal is None and serving.champion == serving_home.predecessor


def test_withdrawn_approval_ends_the_service_until_it_is_back(serving, serving_home):
    tags = versions.read_version(serving_home.predecessor).tags
    name = next(tag for tag in tags if tag.startswith("approval.champion."))
    versions.set_tags(serving_home.predecessor, {name: "{}"})
    state = serving.refresh()
    assert state.models is None
    assert state.no_model_reason == f"Version {serving_home.predecessor} may not serve."
    versions.set_tags(serving_home.predecessor, {name: tags[name]})
    serving.refresh()
    assert serving.champion == serving_home.predecessor


def test_compiled_form_that_differs_never_serves(serving_home, monkeypatch):
    real = compiled.compile_model
    monkeypatch.setattr(
        compiled, "compile_model", lambda model: lambda row: real(model)(row) + 1e-5
    )
    state = Refreshed().refresh()
    assert state.models is None and state.refused_version == serving_home.predecessor


def test_without_a_version_in_effect_nothing_serves(serving):
    table_writes.rewind("deployments", None)
    assert "no version was promoted" in serving.refresh().no_model_reason
    assert serving.state.models is None


def test_home_without_features_says_that_they_are_missing(serving_home):
    serving = Refreshed(today="")
    shutil.rmtree(tables.path_of("customer_features"))
    assert "no features were published" in serving.refresh().no_model_reason


def test_models_of_a_replaced_registry_are_dropped(serving, serving_home, monkeypatch):
    database = settings.mlflow_database()
    shutil.copy(database, database.with_suffix(".copy"))
    database.with_suffix(".copy").replace(database)
    monkeypatch.setattr(artifacts, "hash_model", lambda version: "another")
    state = serving.refresh()
    assert state.models is None and state.refused_version == serving_home.predecessor
    assert len(serving.cache) == 0


def test_models_are_dropped_even_if_the_new_registry_fails(serving, monkeypatch):
    database = settings.mlflow_database()
    shutil.copy(database, database.with_suffix(".copy"))
    database.with_suffix(".copy").replace(database)
    monkeypatch.setattr(deployments, "version_in_effect", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        serving.refresh()
    assert serving.state.models is None


def test_split_ends_when_its_gate_is_withdrawn(serving, serving_home):
    ab_test.start(serving_home.challenger, factories.AS_OF, 0.5)
    serving.refresh()
    assert serving.ab_test is not None
    versions.set_tags(serving_home.challenger, {"gate": "fail"})
    state = serving.refresh()
    assert serving.ab_test is None and state.refused_version == serving_home.challenger


def test_split_with_a_clearly_worse_challenger_is_stopped(serving, serving_home, monkeypatch):
    split = ab_test.start(serving_home.challenger, factories.AS_OF, 0.5)
    result = AbTestResult(ab_test_result.WORSE, 900, 900, 200.0, 110.0, -90.0, -150.0, -30.0)
    monkeypatch.setattr(ab_test_result, "evaluate", lambda *_: result)
    serving.refresh()
    assert serving.ab_test is None and serving.champion == serving_home.predecessor
    assert ab_test.read_last(split.version).status == ab_test.STOPPED


def test_new_features_are_published_and_follow_a_restore(serving, extract):
    february = settings.month_start(1)
    publishing.publish_snapshot(extract.head(10).assign(contract="Two year"), february, february)
    serving.refresh()
    assert serving.features.newest == "2025-02-01"
    table_writes.rewind("customer_features", 0)
    serving.refresh()
    assert serving.features.newest == "2025-01-01"


def test_lost_features_are_published_again(serving):
    factories.change_online_store("DELETE FROM published")
    serving.refresh()
    assert serving.features.newest == "2025-01-01" and serving.features.problem == ""


def test_registry_is_not_read_again_while_nothing_changed(serving, serving_home, monkeypatch):
    time.sleep(1.1)  # a change of this second is followed by one more look
    serving.refresh()
    calls = []
    monkeypatch.setattr(deployments, "version_in_effect", lambda: calls.append(1))
    serving.refresh()
    assert calls == []
    versions.set_tags(serving_home.predecessor, {"note": "changed"})
    serving.refresh()
    assert calls == [1]


def test_due_evaluation_starts_a_refresh(serving, serving_home, monkeypatch):
    ab_test.start(serving_home.challenger, factories.AS_OF, 0.5)
    monkeypatch.setattr(refresh, "SETTLED_NS", 0)
    evaluated = []
    real = ab_test_result.stop_if_worse
    monkeypatch.setattr(ab_test_result, "stop_if_worse", lambda *a: evaluated.append(1) or real(*a))
    serving.refresh()
    serving.refresh()
    assert evaluated == [1]
    due = replace(serving.state.evaluation, log_marker=-1, next_at=0.0)
    serving.state = replace(serving.state, evaluation=due)
    serving.refresh()
    assert evaluated == [1, 1]


def run_loop(refresh, pause_seconds, use):
    """Run a loop while a coroutine uses it; return what that returned."""

    async def play():
        loop = RefreshLoop(refresh, pause_seconds, ServingMetrics())
        loop.start()
        found = await use(loop)
        loop.stop()
        await loop.join()
        return found

    return asyncio.run(asyncio.wait_for(play(), 30))


def test_join_waits_for_the_refresh_under_way():
    events = []

    def refresh():
        events.append("started")
        time.sleep(0.3)
        events.append("ended")

    async def wait_for_start(loop):
        while not events:
            await asyncio.sleep(0.01)

    run_loop(refresh, 60, wait_for_start)
    assert events == ["started", "ended"]


@pytest.mark.parametrize("fails", [False, True])
def test_no_pause_delays_the_end(fails):
    async def rest(loop):
        await asyncio.sleep(0.3)

    started = time.monotonic()
    run_loop(lambda: 1 / (not fails), 60, rest)
    assert time.monotonic() - started < 20


def test_wake_ends_a_pause_but_not_after_a_failure():
    calls = []

    def refresh():
        calls.append(1)
        if len(calls) == 2:
            raise ZeroDivisionError

    async def wake_twice(loop):
        for _ in range(2):
            await asyncio.sleep(0.2)
            loop.wake()
        await asyncio.sleep(0.2)

    run_loop(refresh, 60, wake_twice)
    assert len(calls) == 2


def test_failures_are_counted_and_do_not_count_as_a_success():
    metrics, succeeds = ServingMetrics(), []

    async def play():
        loop = RefreshLoop(lambda: 1 / len(succeeds), 0.02, metrics)
        loop.start()
        await asyncio.sleep(0.4)
        failing = loop.seconds_since_success
        succeeds.append(1)
        await asyncio.sleep(0.4)
        loop.stop()
        await loop.join()
        return failing, loop.seconds_since_success

    failing, succeeding = asyncio.run(asyncio.wait_for(play(), 30))
    assert failing > 0.3 and succeeding < failing
    assert metrics.registry.get_sample_value("churn_refresh_failures_total") > 0
