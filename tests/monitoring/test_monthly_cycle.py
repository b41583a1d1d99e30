"""Months of production in one home that is played once: price_rise up to the retraining that it asks for."""

import json
import shutil

import factories
import pandas as pd
import pytest

from churn_utils.data import tables
from churn_utils.errors import DataError, UsageError
from churn_utils.features import offline
from churn_utils.inference import batch
from churn_utils.monitoring import drift, monthly_cycle
from churn_utils.registry import approvals, deployments
from churn_utils.registry import versions as registry_versions
from churn_utils.settings import month_start
from churn_utils.simulation import customers, deliveries
from churn_utils.simulation.scenarios import Simulation
from churn_utils.validation import gate

PRICE_RISE = Simulation("price_rise", seed=5)


def promote(version, as_of):
    """Approve and promote a version on the word of the tests: what the gate says is not tested here."""
    gate.run_gate(version, as_of, draws=400)
    evidence, _ = registry_versions.read_evidence(version)
    passed = [check | {"verdict": "pass"} for check in evidence["checks"]]
    digest = registry_versions.write_evidence(
        version, {**evidence, "verdict": "pass", "checks": passed}
    )
    registry_versions.set_tags(version, {"gate": "pass", "gate_evidence_sha256": digest})
    approvals.approve(version, "Ada Lovelace", "tested", as_of)
    deployments.promote(version, as_of)


def play(until, world=PRICE_RISE):
    lines = []
    return monthly_cycle.play_months(month_start(until), world, lines.append), lines


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """A home with a champion in effect from month 1 on, no month played.

    Built, not copied from another module's: MLflow names its files by their whole path, so that the evidence which
    this module's gates leave would land among that module's.
    """
    path = tmp_path_factory.mktemp("production")
    with factories.at_home(path):
        promote(factories.build_registered_home()["version"], factories.AS_OF)
    return path


@pytest.fixture(scope="module")
def played(started, tmp_path_factory):
    """That home, played until a retraining was asked for: what it returned and reported."""
    path = tmp_path_factory.mktemp("played")
    shutil.copytree(started, path, dirs_exist_ok=True)
    with factories.at_home(path):
        monthly_cycle.take_in(factories.AS_OF, PRICE_RISE)
        asked, lines = play(until=6)
        yield {"path": path, "asked": asked, "lines": lines}


@pytest.fixture
def fresh(started, tmp_path, monkeypatch):
    """A copy of the home in which no month was played."""
    path = tmp_path / "home"
    shutil.copytree(started, path)
    monkeypatch.setenv("CHURN_HOME", str(path))
    monthly_cycle._champion.cache_clear()
    return path


def customers_of(month):
    return tables.read("customers", snapshot_date=month_start(month))


# --- a played world


def test_it_stops_where_a_retraining_is_asked_for(played):
    asked = played["asked"].iloc[0]
    assert (asked["as_of_date"], asked["labels_from"], asked["decision"]) == (
        month_start(4),
        month_start(3),
        "retrain",
    )
    assert [line.split()[:2] for line in played["lines"]] == [
        ["2025-03", "ok:"],
        ["2025-04", "alert:"],
        ["2025-05", "retrain:"],
    ]
    assert monthly_cycle.read_decisions()["as_of_date"].tolist() == [
        month_start(2),
        month_start(3),
        month_start(4),
    ]


def test_every_month_before_it_was_scored_by_the_champion_and_the_month_itself_was_not(played):
    predictions = tables.read("predictions").query("role == 'champion'")
    assert predictions.groupby("snapshot_date").size().to_dict() == {
        month_start(m): 7043 for m in (1, 2, 3)
    }
    assert (predictions["scored_at"] == predictions["snapshot_date"]).all()


def test_nothing_reads_a_label_before_it_arrived(played, monkeypatch):
    labels = tables.read("churn_labels")
    assert (labels["label_date"] == labels["snapshot_date"] + pd.DateOffset(months=1)).all()
    metrics = tables.read("monitoring_metrics")
    with_labels = metrics[metrics["rows_labelled"] > 0]
    assert (pd.to_datetime(with_labels["window"]) < with_labels["as_of_date"]).all()
    for row in monthly_cycle.read_decisions().itertuples():
        assert pd.isna(row.labels_to) or row.labels_to < row.as_of_date
    champion = monthly_cycle.load_champion(deployments.champion_at(month_start(4)))
    assert champion.trained_to == month_start(0)


def test_a_decision_stands_whatever_is_known_later(played):
    before = monthly_cycle.read_decisions()
    delivery = pd.Series(
        {"delivered": 10, "quarantined": 10}
    )  # would be a quarantine, were it decided now
    again = monthly_cycle.decide_month(month_start(3), delivery)
    pd.testing.assert_frame_equal(
        again.reset_index(drop=True), before.iloc[[1]].reset_index(drop=True)
    )


def test_playing_again_asks_again_and_changes_no_table(played):
    before = tables.describe_tables()
    asked, _ = play(until=6)
    assert asked["as_of_date"].item() == month_start(4)
    pd.testing.assert_frame_equal(tables.describe_tables(), before)


def test_a_month_that_is_delivered_twice_changes_no_row(played):
    before = tables.describe_tables().set_index("table")
    counts = monthly_cycle.take_in(month_start(4), PRICE_RISE)
    assert (
        counts["customers_written"] == counts["features_written"] == 0
        and counts["accepted"] == 7043
    )
    pd.testing.assert_frame_equal(tables.describe_tables().set_index("table"), before)


def test_metrics_count_all_rows_and_the_labelled_ones_by_version_and_slice(played):
    metrics = monthly_cycle.read_metrics(month_start(4))
    value = metrics[
        (metrics["metric"] == "value_usd") & (metrics["window"] == "2025-03")
    ].set_index("slice")
    assert value.loc["all", ["rows", "rows_labelled"]].tolist() == [7043, 7043]
    assert {"contract=Two year", "senior_citizen=1", "internet_service=Fiber optic"} <= set(
        value.index
    )
    assert value.loc["all", "lower"] < value.loc["all", "value"] < value.loc["all", "upper"]
    newest = metrics[metrics["window"] == "2025-05"]
    assert (newest["rows_labelled"] == 0).all() and newest["metric"].str.startswith("psi.").any()
    estimate = metrics[
        (metrics["window"] == "2025-04") & (metrics["metric"] == "estimated_value_usd")
    ]
    assert estimate["as_of_date"].tolist() == [month_start(3)]  # made on the day of scoring


def test_labelled_rows_are_those_that_the_champion_scored(played):
    rows = monthly_cycle.read_labelled(month_start(2), month_start(3))
    assert len(rows) == 7043 and rows["churned"].isin([0, 1]).all()
    assert monthly_cycle.read_labelled(month_start(2), month_start(2)).empty  # not known then


def test_a_home_plays_one_world(played):
    with pytest.raises(UsageError, match="price_rise.*competitor"):
        play(until=6, world=Simulation("competitor", seed=5))


def test_after_a_promotion_the_old_champion_answers_in_the_shadow(played, tmp_path, monkeypatch):
    shutil.copytree(played["path"], tmp_path / "home")
    monkeypatch.setenv("CHURN_HOME", str(tmp_path / "home"))
    old = deployments.champion_at(month_start(4))
    newly = offline.build_training_set(month_start(4), since=month_start(3))
    version = factories.register_model(
        newly, factories.fit_model(newly), as_of=month_start(4), since=month_start(3)
    )
    promote(version, month_start(4))
    batch.score_snapshot(month_start(4), month_start(4), "champion")  # as notebook 05 does
    asked, lines = play(until=5)
    assert asked is None and lines[0].startswith("2025-06  ok")
    predictions = tables.read("predictions").query("snapshot_date >= '2025-05-01'")
    versions = (
        predictions.groupby(["snapshot_date", "role"])["model_version"].unique().map(list).to_dict()
    )
    assert versions == {
        (month_start(m), role): [which]
        for m in (4, 5)
        for role, which in (("champion", version), ("shadow", old))
    }
    assert set(
        monthly_cycle.read_metrics(month_start(5)).query("window == '2025-05'")["model_version"]
    ) == {old, version}


# --- bad input


def test_a_month_out_of_order_is_refused_and_nothing_is_written(fresh):
    before = tables.describe_tables()
    with pytest.raises(
        DataError,
        match="2025-03 was delivered before 2025-02 had been taken in.*2025-02 first",
    ):
        monthly_cycle.take_in(month_start(2), PRICE_RISE)
    pd.testing.assert_frame_equal(tables.describe_tables(), before)


def test_a_month_that_was_not_delivered_is_asked_for(fresh):
    with pytest.raises(DataError, match="no snapshot of 2025-02 was delivered"):
        monthly_cycle.take_in(month_start(1), PRICE_RISE, delivered={})


def test_a_month_without_rows_is_refused_and_can_be_delivered_again(fresh):
    rows = deliveries.deliver_at(1, PRICE_RISE)[1]
    with pytest.raises(DataError, match="2025-02-01 has no rows"):
        monthly_cycle.take_in(month_start(1), PRICE_RISE, delivered={1: rows.head(0)})
    assert len(tables.read("churn_labels")) == 7043  # the labels that came with it are not lost
    assert monthly_cycle.take_in(month_start(1), PRICE_RISE)["accepted"] == 7043


def test_a_month_with_thirty_percent_bad_rows_is_quarantined_and_corrected_the_month_after(fresh):
    quiet = Simulation("none", seed=5)
    monthly_cycle.take_in(month_start(1), quiet)
    play(until=1, world=quiet)
    rows = deliveries.deliver_at(2, quiet)[2]
    spoiled = rows.assign(
        contract=rows["contract"].where(rows.reset_index().index % 10 >= 3, "Three year")
    )
    counts = monthly_cycle.take_in(month_start(2), quiet, delivered={2: spoiled})
    decision = monthly_cycle.decide_month(month_start(2), counts).iloc[0]
    assert (decision["decision"], decision["diagnosis"]) == ("quarantine", "data quality")
    assert "2115 of 7043" in decision["why"]
    bad = tables.read("quarantine")
    assert len(bad) == 2115 and bad["reason"].str.contains("'Three year'").all()
    assert len(customers_of(2)) == 7043 - 2115
    assert (
        monthly_cycle.score_month(month_start(2)) == 0
    )  # nobody acts on what is left of a broken delivery
    corrected = monthly_cycle.take_in(
        month_start(3), quiet, delivered={2: rows, 3: deliveries.deliver_at(3, quiet)[3]}
    )
    assert corrected["accepted"] == 7043
    assert customers_of(2)["customer_id"].nunique() == 7043
    labels = tables.read("churn_labels", snapshot_date=month_start(2))
    assert len(labels) == 7043
    decision = monthly_cycle.decide_month(month_start(3), corrected).iloc[0]
    assert decision["decision"] == drift.OK
    monthly_cycle._backfill(month_start(3))
    monthly_cycle.score_month(month_start(3))
    roles = tables.read("predictions").groupby("snapshot_date")["role"].unique().map(list).to_dict()
    assert roles[month_start(2)] == ["backfill"] and roles[month_start(3)] == ["champion"]


def test_a_delivery_that_is_corrected_within_its_month_is_decided_and_scored_in_time(fresh):
    quiet = Simulation("none", seed=5)
    monthly_cycle.take_in(month_start(1), quiet)
    play(until=1, world=quiet)
    rows = deliveries.deliver_at(2, quiet)[2]
    counts = monthly_cycle.take_in(
        month_start(2), quiet, delivered={2: rows.assign(contract="Three year")}
    )
    assert monthly_cycle.decide_month(month_start(2), counts)["decision"].item() == drift.QUARANTINE
    assert monthly_cycle.decide_month(month_start(2), counts)["decision"].item() == drift.QUARANTINE
    again = monthly_cycle.take_in(month_start(2), quiet, delivered={2: rows})
    assert monthly_cycle.decide_month(month_start(2), again)["decision"].item() == drift.OK
    assert len(monthly_cycle.read_decisions()) == 1
    assert monthly_cycle.score_month(month_start(2)) == 7043


def test_labels_that_came_before_a_late_correction_are_recorded_with_it(fresh):
    quiet = Simulation("none", seed=5)
    for month in (1, 2, 3):
        broken = (
            {month: deliveries.deliver_at(month, quiet)[month].assign(contract="?")}
            if month == 1
            else None
        )
        monthly_cycle.take_in(month_start(month), quiet, delivered=broken)
    assert tables.read("churn_labels", snapshot_date=month_start(1)).empty
    late = {1: deliveries.deliver_at(1, quiet)[1], 4: deliveries.deliver_at(4, quiet)[4]}
    monthly_cycle.take_in(month_start(4), quiet, delivered=late)
    labels = tables.read("churn_labels", snapshot_date=month_start(1))
    assert len(labels) == 7043 and labels["label_date"].eq(month_start(4)).all()


def test_labels_of_strangers_are_kept_and_the_month_goes_on(fresh):
    labels = deliveries.make_labels(customers.simulate_month(0, PRICE_RISE))
    labels.loc[labels.index[0], "customer_id"] = "NOBODY"
    monthly_cycle.take_in(month_start(1), PRICE_RISE, labels=labels)
    assert tables.read("quarantine")["customer_id"].tolist() == ["NOBODY"]


def test_a_data_bug_is_caught_before_scoring_and_calls_for_no_retraining(fresh):
    world = Simulation("data_bug", seed=5)
    monthly_cycle.take_in(month_start(1), world)
    asked, _ = play(until=4, world=world)
    decisions = monthly_cycle.read_decisions()
    assert asked is None and decisions["decision"].tolist() == ["ok", "quarantine", "ok"]
    assert decisions["diagnosis"].tolist()[1] == "data quality"
    champion = tables.read("predictions").query("role == 'champion'")
    assert sorted(champion["snapshot_date"].unique()) == [month_start(m) for m in (1, 2, 4)]
    backfill = tables.read("predictions").query("role == 'backfill'")
    assert backfill["snapshot_date"].unique().tolist() == [month_start(3)] and len(backfill) == 7043
    before = tables.version_of("predictions")
    monthly_cycle._backfill(month_start(5))
    assert tables.version_of("predictions") == before  # once: history is not written again
    assert monthly_cycle.read_scored(
        month_start(3), month_start(4)
    ).empty  # it is no performance that anybody saw


def test_without_a_champion_no_month_is_decided(home):
    factories.publish_first_month()
    monthly_cycle.take_in(month_start(1), PRICE_RISE)
    counts = monthly_cycle.take_in(month_start(2), PRICE_RISE)
    with pytest.raises(DataError, match="no champion is in effect on 2025-03-01"):
        monthly_cycle.decide_month(month_start(2), counts)


def test_what_a_run_asks_for_is_said_in_plain_values(played):
    asked = monthly_cycle.play_run("2025-07-01", "price_rise", 5, report=lambda line: None)
    assert json.loads(json.dumps(asked)) == {"as_of": "2025-05-01", "since": "2025-04-01"}


def test_the_worlds_months_are_the_simulators(played):
    simulated = customers.simulate_month(2, PRICE_RISE)
    assert set(customers_of(2)["customer_id"]) == set(simulated["customer_id"])
