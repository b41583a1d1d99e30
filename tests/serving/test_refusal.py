import sqlite3
import time
from contextlib import closing

from churn_utils import settings
from churn_utils.errors import ModelError
from churn_utils.serving import refusal
from churn_utils.serving.refusal import Refusal, refuse


def test_moved_home_is_named_rather_than_the_gate(serving_home):
    with closing(sqlite3.connect(settings.mlflow_database())) as database, database:
        database.execute(  # as if the home had been made in a folder that no longer exists
            "UPDATE runs SET artifact_uri = replace(artifact_uri, 'file://', 'file:///gone')"
        )
    found = refuse(serving_home.predecessor, ModelError("run notebook 04a"))
    assert "A home cannot be moved or copied" in found.reason
    assert "belong in /gone" in found.reason and "04a" not in found.reason


def test_any_other_refusal_keeps_its_reason(shared_serving_home):
    error = ModelError("what it is")
    for version in (shared_serving_home.predecessor, 99, None):
        assert refuse(version, error).reason == "what it is"


def test_refusals_are_equal_whenever_they_were_checked():
    assert Refusal(2, "why", 0.0) == Refusal(2, "why", 9.0) != Refusal(2, "other", 0.0)


def test_retry_is_due_after_a_while_and_only_of_a_version():
    long_ago = time.monotonic() - refusal.RETRY_SECONDS - 1
    assert Refusal(2, "why", long_ago).is_retry_due
    assert not Refusal(2, "why").is_retry_due and not Refusal(None, "why", long_ago).is_retry_due
