import pytest

from churn_utils.data import tables
from churn_utils.serving import ab_test
from churn_utils.serving.ab_test import AbTest
from churn_utils.serving.feature_clock import FeatureClock
from churn_utils.serving.metrics import ServingMetrics
from churn_utils.serving.refusal import Refusal
from churn_utils.serving.serving_state import (
    NO_FEATURES,
    NO_MODEL,
    Evaluation,
    ServingState,
    report_changes,
)

SPLIT = AbTest(2, 1, ab_test.SPLIT, 0.5, "2025-02-01", "2025-02-01T00:00:00+00:00")
SHADOW = AbTest(2, 1, ab_test.SHADOW, 0.5, "2025-02-01", "2025-02-01T00:00:00+00:00")


@pytest.fixture
def metrics():
    return ServingMetrics()


def test_only_a_split_with_new_predictions_is_evaluated(monkeypatch):
    monkeypatch.setattr(tables, "read_change_marker", lambda name: 7)
    assert Evaluation().is_due(SPLIT)
    assert not Evaluation().is_due(None) and not Evaluation().is_due(SHADOW)
    assert not Evaluation(log_marker=7).is_due(SPLIT)
    assert Evaluation(log_marker=8).is_due(SPLIT)
    assert not Evaluation(log_marker=8, next_at=float("inf")).is_due(SPLIT)


def test_state_without_models_forgets_what_was_refused():
    state = ServingState(refusal=Refusal(2, "why"))
    assert state.refused_version == 2
    assert state.without_models(NO_FEATURES).refused_version is None


def test_missing_model_is_logged_once(home, metrics, caplog):
    empty = ServingState().without_models(NO_FEATURES)
    report_changes(ServingState(), empty, metrics)
    report_changes(empty, empty, metrics)
    report_changes(empty, empty.without_models(NO_MODEL), metrics)
    assert caplog.text.count("no features were published") == 1
    assert f"Looked for in {home}: make the home with run_all.py" in caplog.text


def test_refusal_is_counted_once_until_it_changes(metrics, caplog):
    first, again = Refusal(2, "why", 0.0), Refusal(2, "why", 10.0)
    states = [ServingState(refusal=found) for found in (None, first, again, Refusal(2, "other"))]
    for before, after in zip(states, states[1:], strict=False):
        report_changes(before, after, metrics)
    assert metrics.registry.get_sample_value("churn_refused_versions_total") == 2
    assert "version 2 may not serve: why" in caplog.text


def test_features_of_the_future_are_warned_of_once(metrics, caplog):
    clock = FeatureClock("2025-02-01")
    months = ["2025-02-01", "2025-05-01", "2025-05-01"]
    states = [ServingState(clock=clock.see(month)) for month in months]
    for before, after in zip(states, states[1:], strict=False):
        report_changes(before, after, metrics)
    warning = "CHURN_TODAY is 2025-02-01, but there are features of 2025-05-01"
    assert caplog.text.count(warning) == 1
