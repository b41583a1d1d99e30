import math
import sqlite3
import time
from contextlib import closing

import pytest

from churn_utils import settings
from churn_utils.errors import ModelError
from churn_utils.serving.feature_clock import FeatureClock
from churn_utils.serving.metrics import ServingMetrics
from churn_utils.serving.serving_state import (
    NO_FEATURES,
    NO_MODEL,
    RETRY_SECONDS,
    Refusal,
    ServingState,
    refuse,
    report_changes,
)


@pytest.fixture
def metrics():
    return ServingMetrics()


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


def test_today_is_the_setting_else_the_newest_date_seen():
    given, derived = FeatureClock("2025-02-01"), FeatureClock()
    assert derived.today == "" and math.isnan(derived.age_of_newest)
    given, derived = given.see("2025-01-01"), derived.see("2025-01-01")
    assert (given.today, derived.today) == ("2025-02-01", "2025-01-01")
    assert (given.age_of_newest, derived.age_of_newest) == (31, 0)


def test_store_that_lost_its_features_keeps_today():
    clock = FeatureClock().see("2025-01-01")
    assert clock.see("") == clock and clock.today == "2025-01-01"


def test_ages_follow_today():
    clock = FeatureClock().see("2025-02-01")
    assert clock.age_of("2025-01-01") == 31
    assert clock.see("2025-03-01").age_of("2025-01-01") == 59


def test_features_of_the_future_have_age_zero():
    clock = FeatureClock("2025-02-01").see("2025-02-01")
    assert clock.days_ahead == 0
    later = clock.see("2025-05-01")
    assert later.days_ahead == 89
    assert later.age_of("2025-05-01") == 0 and later.age_of_newest == 0


def test_missing_folder_is_named_rather_than_the_gate(serving_home):
    with closing(sqlite3.connect(settings.mlflow_database())) as database, database:
        database.execute(  # a folder that does not exist, outside the home
            "UPDATE runs SET artifact_uri = replace(artifact_uri, 'file://', 'file:///gone')"
        )
    found = refuse(serving_home.predecessor, ModelError("run notebook 04a"))
    assert "does not exist. Restore the home from a copy" in found.reason
    assert "belong in /gone" in found.reason and "04a" not in found.reason


def test_any_other_refusal_keeps_its_reason(shared_serving_home):
    error = ModelError("what it is")
    for version in (shared_serving_home.predecessor, 99, None):
        assert refuse(version, error).reason == "what it is"


def test_refusals_are_equal_whenever_they_were_checked():
    assert Refusal(2, "why", 0.0) == Refusal(2, "why", 9.0) != Refusal(2, "other", 0.0)


def test_retry_is_due_after_a_while_and_only_of_a_version():
    long_ago = time.monotonic() - RETRY_SECONDS - 1
    assert Refusal(2, "why", long_ago).is_retry_due
    assert not Refusal(2, "why").is_retry_due and not Refusal(None, "why", long_ago).is_retry_due
