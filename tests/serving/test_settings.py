import pytest

from churn_utils.errors import ChurnError, UsageError
from churn_utils.serving import settings as serving_settings
from churn_utils.serving.request_schemas import MOST_CUSTOMERS
from churn_utils.serving.settings import ServingSettings, describe_settings, variable


@pytest.fixture(autouse=True)
def without_variables(monkeypatch):
    for name in ServingSettings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)


def test_defaults_open_nothing_and_bound_everything():
    found = ServingSettings()
    assert found == ServingSettings.model_construct()
    assert not found.read_keys() and (found.origins, found.rate_limit) == ([], 0)


def test_variables_are_read_in_their_types(monkeypatch):
    monkeypatch.setenv("CHURN_API_KEYS", "one, two,")
    monkeypatch.setenv("CHURN_RATE_LIMIT", "2.5")
    monkeypatch.setenv("CHURN_PUBLISH", "false")
    monkeypatch.setenv("CHURN_MAX_BODY_BYTES", "1000")
    monkeypatch.setenv("CHURN_CORS_ORIGINS", "https://a.example, https://b.example")
    found = ServingSettings()
    assert found.read_keys().find_name(b"two") == "key 2"
    assert found.origins == ["https://a.example", "https://b.example"]
    assert (found.rate_limit, found.publish, found.max_body_bytes) == (2.5, False, 1000)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("RATE_LIMIT", "fast"),
        ("RATE_LIMIT", "-1"),
        ("RATE_LIMIT", "nan"),
        ("PUBLISH", "maybe"),
        ("LOG_CAPACITY", "0"),
        ("MAX_BODY_BYTES", "1.5"),
        ("POLL_SECONDS", "inf"),
        ("API_KEYS", " , "),
        ("ONLINE_STORE", "localhost:6379"),
        ("ONLINE_STORE", "http://localhost"),
    ],
)
def test_a_wrong_value_names_its_variable(monkeypatch, name, text):
    monkeypatch.setenv(f"CHURN_{name}", text)
    with pytest.raises(UsageError, match=f"CHURN_{name}"):
        ServingSettings()


def test_a_log_smaller_than_the_largest_request_is_refused():
    assert serving_settings.LEAST_LOG_CAPACITY == 2 * MOST_CUSTOMERS
    with pytest.raises(
        UsageError, match="CHURN_LOG_CAPACITY is 1999; below 2000 .* refused each time"
    ):
        ServingSettings(log_capacity=1999)
    assert ServingSettings(log_capacity=2000).log_capacity == 2000


def test_help_says_what_a_kill_loses():
    assert "killed loses what waits" in describe_settings()


def test_today_must_be_a_month(monkeypatch):
    monkeypatch.setenv("CHURN_TODAY", "tomorrow")
    with pytest.raises(ChurnError, match="CHURN_TODAY is 'tomorrow'.*such as '2025-02-01'"):
        ServingSettings()


def test_the_help_names_every_variable():
    text = describe_settings()
    assert all(variable(name) in text for name in ServingSettings.model_fields)


@pytest.mark.parametrize("name", ["RATE_LIMIT", "TODAY", "PUBLISH"])
def test_a_blank_variable_counts_as_not_set(monkeypatch, name):
    monkeypatch.setenv(f"CHURN_{name}", "  ")
    assert ServingSettings() == ServingSettings.model_construct()


def test_a_setting_that_does_not_exist_is_refused():
    with pytest.raises(UsageError, match="there is no setting 'rate'"):
        ServingSettings(rate=1)
