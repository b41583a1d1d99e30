import factories
import pandas as pd
import pytest

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.errors import DataError
from churn_utils.inference import batch
from churn_utils.registry import approvals, deployments, promotion

AS_OF, SNAPSHOT = factories.AS_OF, factories.SNAPSHOT


@pytest.fixture(scope="module")
def champion(registered_home):
    """The registered version, in effect from ``AS_OF`` on."""
    version = registered_home["version"]
    if deployments.champion_at(AS_OF) != version:
        factories.pass_gate(version)
        approvals.approve(version, "Ada Lovelace", "tested", AS_OF)
        promotion.promote(version, AS_OF)
    return version


@pytest.fixture(scope="module")
def backfill(champion):
    """The champion's predictions for every customer of the month."""
    return batch.score_snapshot(SNAPSHOT, AS_OF, "backfill")


def test_scoring_twice_changes_no_row(champion, backfill):
    version = tables.version_of("predictions")
    again = batch.score_snapshot(SNAPSHOT, AS_OF, "backfill")
    pd.testing.assert_frame_equal(backfill, again)
    assert tables.version_of("predictions") == version
    stored = tables.read("predictions")
    assert (stored["role"] == "backfill").sum() == len(backfill) == 7043
    assert set(backfill["model_version"]) == {champion}


def test_some_customers_get_the_same_score_as_all(backfill):
    ids = ["5575-GNVDE", "7590-VHVEG"]
    some = batch.score_snapshot(SNAPSHOT, AS_OF, "shadow", ids[::-1])
    assert some["customer_id"].tolist() == ids
    expected = backfill.set_index("customer_id").loc[ids, "churn_probability"]
    assert some["churn_probability"].tolist() == pytest.approx(expected.tolist())


def test_large_snapshots_are_scored_in_parts(backfill, monkeypatch):
    monkeypatch.setattr(batch, "ROWS_AT_ONCE", 3000)
    again = batch.score_snapshot(SNAPSHOT, AS_OF, "backfill")
    pd.testing.assert_frame_equal(again, backfill, rtol=0, atol=1e-9)


def test_what_cannot_be_scored_is_named(champion):
    with pytest.raises(DataError, match="2 customer.* ABSENT, NOTHERE"):
        batch.score_snapshot(SNAPSHOT, AS_OF, "backfill", ["7590-VHVEG", "NOTHERE", "ABSENT"])
    with pytest.raises(DataError, match="roles are champion, shadow, backfill"):
        batch.score_snapshot(SNAPSHOT, AS_OF, "guess")
    with pytest.raises(DataError, match="version 7 was named for role 'champion'"):
        batch.score_snapshot(SNAPSHOT, AS_OF, "champion", version=7)
    with pytest.raises(DataError, match="no features of 2025-06-01"):
        batch.score_snapshot(settings.month_start(5), settings.month_start(5), "champion")
    with pytest.raises(DataError, match="no champion is in effect on 2025-01-01"):
        batch.score_snapshot(SNAPSHOT, SNAPSHOT, "backfill")


def test_another_version_scores_in_the_shadow(champion, backfill, registered_home):
    training_set = registered_home["training_set"]
    other = factories.register_model(training_set, factories.fit_model(training_set, rows=1500))
    shadow = batch.score_snapshot(SNAPSHOT, AS_OF, "shadow", ["7590-VHVEG"], version=other)
    own = backfill[backfill["customer_id"] == "7590-VHVEG"]
    assert shadow["model_version"].tolist() == [other]
    assert own["model_version"].tolist() == [champion]
    assert shadow["churn_probability"].tolist() != own["churn_probability"].tolist()


def test_the_retention_list_ranks_offers_that_pay(backfill, tmp_path, monkeypatch):
    table = batch.build_retention_list(backfill, AS_OF, 30)
    assert list(table) == batch.RETENTION_LIST
    assert table["rank"].tolist() == list(range(1, 31))
    assert table["expected_value_usd"].is_monotonic_decreasing
    assert table["expected_value_usd"].iloc[0] == backfill["expected_value_usd"].max()
    assert table["reason_1"].ne("").all()
    monkeypatch.setenv("CHURN_RUN_REPORTS", str(tmp_path))
    path = batch.write_retention_list(table, SNAPSHOT)
    stored = pd.read_csv(path)
    assert path.name == "retention_list_2025-01.csv"
    assert stored["customer_id"].tolist() == table["customer_id"].tolist()


def test_without_offers_the_retention_list_is_empty(backfill):
    table = batch.build_retention_list(backfill.assign(decision="no_offer"), AS_OF, 30)
    assert table.empty and list(table) == batch.RETENTION_LIST


def test_the_call_list_leaves_the_control_group_out(backfill, monkeypatch):
    whole = batch.build_retention_list(backfill, AS_OF, 30)
    control = whole["customer_id"].iloc[[0, 7]]
    made = pd.DataFrame({"customer_id": control, "group": "control"})
    monkeypatch.setattr(batch.offers, "read_offers", lambda snapshot_date: made)
    table = batch.build_retention_list(backfill, AS_OF, 28)
    assert table["customer_id"].tolist() == [
        customer for customer in whole["customer_id"] if customer not in set(control)
    ]
