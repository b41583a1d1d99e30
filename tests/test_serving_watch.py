import pytest
import worlds

from churn_utils import lakehouse, registry, serving_watch, settings, trials
from churn_utils.trials import Trial

TRIAL = Trial(2, 1, trials.SPLIT, 0.5, "2025-02-01", "2025-02-01T00:00:00+00:00")


@pytest.fixture
def judge(monkeypatch):
    """A judge of trials in whose log there is something new, and in which nothing can be found out."""
    monkeypatch.setattr(lakehouse, "read_change_marker", lambda name: 7)
    monkeypatch.setattr(trials, "stop_if_worse", lambda *_: {"verdict": trials.TOO_FEW})
    return serving_watch.Judge()


def test_what_changes_a_table_or_the_registry_changes_the_marker(serving_home):
    first = serving_watch.read_marker()
    assert serving_watch.read_marker() == first
    registry.set_tags(serving_home.challenger, {"note": "changed"})
    second = serving_watch.read_marker()
    lakehouse.rewind("deployments", None)
    assert len({first, second, serving_watch.read_marker()}) == 3


def test_without_a_registry_there_is_no_marker(home):
    assert serving_watch.read_marker() is None and not settings.mlflow_folder().exists()


def test_what_was_written_a_moment_ago_is_not_settled(serving_home):
    registry.set_tags(serving_home.challenger, {"note": "changed"})
    assert not serving_watch.is_settled(serving_watch.read_marker()) and serving_watch.is_settled(
        (1, 2)
    )


def test_only_a_split_is_judged_on_its_log_and_only_on_a_new_one(judge, monkeypatch):
    assert judge.is_due(TRIAL) and not judge.is_due(None)
    assert not judge.is_due(Trial(**vars(TRIAL) | {"mode": trials.SHADOW}))
    assert judge.judge(TRIAL, worlds.AS_OF) == trials.TOO_FEW
    judge._judge_after = 0.0
    assert not judge.is_due(TRIAL)
    monkeypatch.setattr(lakehouse, "read_change_marker", lambda name: 8)
    assert judge.is_due(TRIAL)


@pytest.mark.parametrize(("took", "pause"), [(0.1, 30), (10, 200)])
def test_a_log_that_takes_long_to_read_is_looked_at_less_often(judge, monkeypatch, took, pause):
    clock = iter([100.0, 100.0 + took])
    monkeypatch.setattr(serving_watch.time, "monotonic", lambda: next(clock))
    judge.judge(TRIAL, worlds.AS_OF)
    assert judge._judge_after == pytest.approx(100 + took + pause)
