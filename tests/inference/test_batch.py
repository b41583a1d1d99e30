import factories
import pandas as pd
import pytest

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.errors import DataError
from churn_utils.inference import batch
from churn_utils.registry import approvals, deployments, versions
from churn_utils.validation import gate


@pytest.fixture(scope="module")
def champion(registered_home):
    """The registered version, in effect from ``AS_OF`` on."""
    version = registered_home["version"]
    if deployments.champion_at(factories.AS_OF) != version:
        gate.run_gate(version, factories.AS_OF, draws=400)
        evidence, _ = versions.read_evidence(version)
        digest = versions.write_evidence(version, {**evidence, "verdict": "pass"})
        versions.set_tags(version, {"gate": "pass", "gate_evidence_sha256": digest})
        approvals.approve(version, "Ada Lovelace", "tested", factories.AS_OF)
        deployments.promote(version, factories.AS_OF)
    return version


def test_scoring_twice_changes_no_row(champion):
    first = batch.score_snapshot(factories.SNAPSHOT, factories.AS_OF, "backfill")
    version = tables.version_of("predictions")
    again = batch.score_snapshot(factories.SNAPSHOT, factories.AS_OF, "backfill")
    pd.testing.assert_frame_equal(first, again)
    assert tables.version_of("predictions") == version
    assert len(tables.read("predictions")) == len(first) == 7043
    assert set(first["model_version"]) == {champion}


def test_some_customers_get_the_same_answer_as_all(champion):
    everybody = batch.score_snapshot(factories.SNAPSHOT, factories.AS_OF, "backfill").set_index(
        "customer_id"
    )
    some = batch.score_snapshot(
        factories.SNAPSHOT, factories.AS_OF, "shadow", ["7590-VHVEG", "5575-GNVDE"]
    )
    assert some["customer_id"].tolist() == ["5575-GNVDE", "7590-VHVEG"]
    assert some["churn_probability"].tolist() == pytest.approx(
        everybody.loc[some["customer_id"], "churn_probability"].tolist()
    )


def test_what_cannot_be_scored_is_named(champion):
    with pytest.raises(DataError, match="2 customer.* NOBODY, NOTHERE"):
        batch.score_snapshot(
            factories.SNAPSHOT, factories.AS_OF, "backfill", ["7590-VHVEG", "NOTHERE", "NOBODY"]
        )
    with pytest.raises(DataError, match="roles are champion, shadow, backfill"):
        batch.score_snapshot(factories.SNAPSHOT, factories.AS_OF, "guess")
    with pytest.raises(DataError, match="version 7 was named for role 'champion'"):
        batch.score_snapshot(factories.SNAPSHOT, factories.AS_OF, "champion", version=7)
    with pytest.raises(DataError, match="no features of 2025-06-01"):
        batch.score_snapshot(settings.month_start(5), settings.month_start(5), "champion")
    with pytest.raises(DataError, match="no champion is in effect on 2025-01-01"):
        batch.score_snapshot(factories.SNAPSHOT, factories.SNAPSHOT, "backfill")


def test_another_version_answers_in_the_shadow_beside_the_champion(champion, registered_home):
    other = factories.register_model(
        registered_home["training_set"],
        factories.fit_model(registered_home["training_set"], rows=1500),
    )
    shadow = batch.score_snapshot(
        factories.SNAPSHOT, factories.AS_OF, "shadow", ["7590-VHVEG"], version=other
    )
    backfill = batch.score_snapshot(factories.SNAPSHOT, factories.AS_OF, "backfill", ["7590-VHVEG"])
    assert shadow["model_version"].tolist() == [other] and backfill["model_version"].tolist() == [
        champion
    ]
    assert shadow["churn_probability"].tolist() != backfill["churn_probability"].tolist()


def test_the_retention_list_is_ranked_and_holds_only_offers_that_pay(
    champion, tmp_path, monkeypatch
):
    predictions = batch.score_snapshot(factories.SNAPSHOT, factories.AS_OF, "backfill")
    table = batch.build_retention_list(predictions, factories.AS_OF, 30)
    assert table["rank"].tolist() == list(range(1, 31))
    assert table["expected_value_usd"].is_monotonic_decreasing
    assert table["expected_value_usd"].iloc[0] == predictions["expected_value_usd"].max()
    assert table["reason_1"].ne("").all()
    monkeypatch.setenv("CHURN_RUN_REPORTS", str(tmp_path))
    path = batch.write_retention_list(table, factories.SNAPSHOT)
    stored = pd.read_csv(path)
    assert path.name == "retention_list_2025-01.csv"
    assert stored["customer_id"].tolist() == table["customer_id"].tolist()


def test_a_list_without_any_worthy_customer_is_empty_not_an_error(champion):
    predictions = batch.score_snapshot(factories.SNAPSHOT, factories.AS_OF, "backfill").assign(
        decision="no_offer"
    )
    table = batch.build_retention_list(predictions, factories.AS_OF, 30)
    assert table.empty and "reason_3" in table
