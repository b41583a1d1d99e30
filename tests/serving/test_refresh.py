import factories
import pytest

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.registry import versions
from churn_utils.serving import ab_test, refresh
from churn_utils.serving.ab_test import Trial

TRIAL = Trial(2, 1, ab_test.SPLIT, 0.5, "2025-02-01", "2025-02-01T00:00:00+00:00")


@pytest.fixture
def judge(monkeypatch):
    """A judge of trials in whose log there is something new, and in which nothing can be found out."""
    monkeypatch.setattr(tables, "read_change_marker", lambda name: 7)
    monkeypatch.setattr(ab_test, "stop_if_worse", lambda *_: {"verdict": ab_test.TOO_FEW})
    return refresh.Judge()


def test_what_changes_a_table_or_the_registry_changes_the_marker(serving_home):
    first = refresh.read_marker()
    assert refresh.read_marker() == first
    versions.set_tags(serving_home.challenger, {"note": "changed"})
    second = refresh.read_marker()
    tables.rewind("deployments", None)
    assert len({first, second, refresh.read_marker()}) == 3


def test_without_a_registry_there_is_no_marker(home):
    assert refresh.read_marker() is None and not settings.mlflow_folder().exists()


def test_what_was_written_a_moment_ago_is_not_settled(serving_home):
    versions.set_tags(serving_home.challenger, {"note": "changed"})
    assert not refresh.is_settled(refresh.read_marker()) and refresh.is_settled((1, 2))


def test_only_a_split_is_judged_on_its_log_and_only_on_a_new_one(judge, monkeypatch):
    assert judge.is_due(TRIAL) and not judge.is_due(None)
    assert not judge.is_due(Trial(**vars(TRIAL) | {"mode": ab_test.SHADOW}))
    assert judge.judge(TRIAL, factories.AS_OF) == ab_test.TOO_FEW
    judge._judge_after = 0.0
    assert not judge.is_due(TRIAL)
    monkeypatch.setattr(tables, "read_change_marker", lambda name: 8)
    assert judge.is_due(TRIAL)


@pytest.mark.parametrize(("took", "pause"), [(0.1, 30), (10, 200)])
def test_a_log_that_takes_long_to_read_is_looked_at_less_often(judge, monkeypatch, took, pause):
    clock = iter([100.0, 100.0 + took])
    monkeypatch.setattr(refresh.time, "monotonic", lambda: next(clock))
    judge.judge(TRIAL, factories.AS_OF)
    assert judge._judge_after == pytest.approx(100 + took + pause)
