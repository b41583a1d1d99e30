"""Months of production in one home that is run once: price_rise up to the retraining it needs."""

import factories
import pandas as pd
import pytest

from churn_utils import cli
from churn_utils.data import tables
from churn_utils.data.quarantine import WHOLE_DELIVERY
from churn_utils.errors import DataError, UsageError
from churn_utils.features import offline, publishing
from churn_utils.inference import batch
from churn_utils.monitoring import history, monthly_cycle
from churn_utils.monitoring.champion import load_champion
from churn_utils.monitoring.decision import DATA_QUALITY, OK, QUARANTINE, RETRAIN, Decision
from churn_utils.monitoring.ingestion import ingest_month
from churn_utils.pipeline import executor
from churn_utils.registry import approvals, deployments, promotion
from churn_utils.settings import month_start
from churn_utils.simulation import bad_deliveries, customers, deliveries
from churn_utils.simulation.scenarios import Simulation

PRICE_RISE = Simulation("price_rise", seed=5)
QUIET = Simulation("none", seed=5)


def promote(version, as_of):
    """Approve and promote a version on made-up evidence: the gate is not tested here."""
    factories.pass_gate(version, as_of)
    approvals.approve(version, "Ada Lovelace", "tested", as_of)
    promotion.promote(version, as_of)


def run(until, simulation=PRICE_RISE):
    """Run months; return the decision that asks for a retraining, and the reported lines."""
    lines = []
    return monthly_cycle.run_months(month_start(until), simulation, lines.append), lines


@pytest.fixture(scope="module")
def started(built_home, tmp_path_factory):
    """A home with a champion in effect from month 1 on, in which no month was run."""
    built, contents = built_home
    with factories.at_copy(built, tmp_path_factory.mktemp("started")) as path:
        promote(contents["version"], factories.AS_OF)
    return path


@pytest.fixture(scope="module")
def after_run(started, tmp_path_factory):
    """That home, run until a retraining was asked for: its path, the decision and the lines."""
    with factories.at_copy(started, tmp_path_factory.mktemp("run")) as path:
        ingest_month(factories.AS_OF, PRICE_RISE)
        asked, lines = run(until=6)
        yield {"path": path, "asked": asked, "lines": lines}


@pytest.fixture
def fresh(started, tmp_path):
    """A copy of the home in which no month was run."""
    with factories.at_copy(started, tmp_path) as path:
        yield path


@pytest.fixture(scope="module")
def quiet_home(started, tmp_path_factory):
    """A home in which month 1 was ingested and scored without a change; and what month 2 brings."""
    with factories.at_copy(started, tmp_path_factory.mktemp("quiet")) as path:
        ingest_month(month_start(1), QUIET)
        run(until=1, simulation=QUIET)
        return path, deliveries.deliver_at(2, QUIET)[2]


@pytest.fixture
def second_month(quiet_home, tmp_path):
    """The rows that month 2 brings, in a copy of that home."""
    path, rows = quiet_home
    with factories.at_copy(path, tmp_path):
        yield rows.copy()


def customers_of(month):
    return tables.read("customers", snapshot_date=month_start(month))


# --- months that were run


def test_it_stops_where_a_retraining_is_asked_for(after_run):
    asked = after_run["asked"]
    found = (asked.as_of, asked.labels_from, asked.action)
    assert found == (month_start(4), month_start(3), RETRAIN)
    assert [line.split()[:2] for line in after_run["lines"]] == [
        ["2025-03", "ok:"],
        ["2025-04", "alert:"],
        ["2025-05", "retrain:"],
    ]
    decided = history.read_decisions()["as_of_date"].tolist()
    assert decided == [month_start(month) for month in (2, 3, 4)]


def test_decisions_are_read_up_to_a_date(after_run):
    decided = history.read_decisions(month_start(3))["as_of_date"].tolist()
    assert decided == [month_start(2), month_start(3)]


def test_the_months_before_it_are_scored_and_itself_is_not(after_run):
    predictions = tables.read("predictions").query("role == 'champion'")
    scored = predictions.groupby("snapshot_date").size().to_dict()
    assert scored == {month_start(month): 7043 for month in (1, 2, 3)}
    assert (predictions["scored_at"] == predictions["snapshot_date"]).all()


def test_nothing_reads_a_label_before_it_arrived(after_run):
    labels = tables.read("churn_labels")
    assert (labels["label_date"] == labels["snapshot_date"] + pd.DateOffset(months=1)).all()
    metrics = tables.read("monitoring_metrics")
    with_labels = metrics[metrics["rows_labelled"] > 0]
    assert (pd.to_datetime(with_labels["window"]) < with_labels["as_of_date"]).all()
    for row in history.read_decisions().itertuples():
        assert pd.isna(row.labels_to) or row.labels_to < row.as_of_date
    champion = load_champion(deployments.champion_at(month_start(4)))
    assert champion.trained_to == month_start(0)


def test_a_decision_stands_whatever_is_known_later(after_run):
    before = history.read_decisions()
    would_be_quarantined = publishing.PublishedSnapshot(delivered=10, accepted=0, quarantined=10)
    again = monthly_cycle.decide_month(month_start(3), would_be_quarantined)
    assert again == Decision.from_row(before.iloc[1])
    stored = before.iloc[[1]].reset_index(drop=True)
    pd.testing.assert_frame_equal(again.to_frame(), stored, check_dtype=False)
    pd.testing.assert_frame_equal(history.read_decisions(), before)


def test_a_second_run_asks_again_and_changes_no_table(after_run):
    before = tables.describe_tables()
    asked, _ = run(until=6)
    assert asked.as_of == month_start(4)
    pd.testing.assert_frame_equal(tables.describe_tables(), before)


def test_metrics_count_all_rows_and_the_labelled_ones(after_run):
    metrics = history.read_metrics(month_start(4))
    is_value = (metrics["metric"] == "value_usd") & (metrics["window"] == "2025-03")
    value = metrics[is_value].set_index("slice")
    assert value.loc["all", ["rows", "rows_labelled"]].tolist() == [7043, 7043]
    slices = {"contract=Two year", "senior_citizen=1", "internet_service=Fiber optic"}
    assert slices <= set(value.index)
    assert value.loc["all", "lower"] < value.loc["all", "value"] < value.loc["all", "upper"]
    newest = metrics[metrics["window"] == "2025-05"]
    assert (newest["rows_labelled"] == 0).all() and newest["metric"].str.startswith("psi.").any()
    is_estimate = (metrics["window"] == "2025-04") & (metrics["metric"] == "estimated_value_usd")
    assert metrics.loc[is_estimate, "as_of_date"].tolist() == [month_start(3)]  # when it was scored


def test_the_shift_of_the_labels_is_measured(after_run):
    metrics = history.read_metrics(month_start(4))
    churn = metrics[(metrics["metric"] == "churn_rate") & (metrics["window"] == "2025-04")]
    labels = tables.read("churn_labels", snapshot_date=month_start(3))
    assert churn["value"].item() == pytest.approx(labels["churned"].mean())
    assert churn[["rows", "rows_labelled"]].to_numpy().tolist() == [[7043, 7043]]


def test_labelled_rows_are_those_that_the_champion_scored(after_run):
    rows = history.read_labelled(month_start(2), month_start(3))
    assert len(rows) == 7043 and rows["churned"].isin([0, 1]).all()
    assert history.read_labelled(month_start(2), month_start(2)).empty  # not known then


def test_a_home_holds_one_scenario(after_run):
    with pytest.raises(UsageError, match="price_rise.*competitor"):
        run(until=6, simulation=Simulation("competitor", seed=5))


def test_a_stage_returns_the_retraining_as_plain_dates(after_run):
    result = executor.run_months_and_list(
        "2025-07-01", "price_rise", 5, "", 10, report=lambda line: None
    )
    facts = {"as_of": "2025-05-01", "since": "2025-04-01", "save_rate": None}
    assert result.retrain.model_dump() == facts
    assert result.call_list is None


def test_the_months_are_those_of_the_simulation(after_run):
    simulated = customers.simulate_month(2, PRICE_RISE)
    assert set(customers_of(2)["customer_id"]) == set(simulated["customer_id"])


@pytest.fixture
def home_after_run(after_run, tmp_path):
    """A copy of the home after its run."""
    with factories.at_copy(after_run["path"], tmp_path) as path:
        yield path


@pytest.mark.long  # short form: the run of end_to_end, in which the shadow is scored
def test_a_replaced_champion_goes_on_in_the_shadow(home_after_run):
    as_of, since = month_start(4), month_start(3)
    old = deployments.champion_at(as_of)
    newly = offline.build_training_set(as_of, since=since)
    model = factories.fit_model(newly)
    version = factories.register_model(newly, model, as_of=as_of, since=since)
    promote(version, as_of)
    batch.score_snapshot(as_of, as_of, "champion")  # as notebook 05 does
    asked, lines = run(until=5)
    assert asked is None and lines[0].startswith("2025-06  ok")
    predictions = tables.read("predictions").query("snapshot_date >= '2025-05-01'")
    by_role = predictions.groupby(["snapshot_date", "role"])["model_version"]
    assert by_role.unique().map(list).to_dict() == {
        (month_start(4), "champion"): [version],
        (month_start(4), "shadow"): [old],
        (month_start(5), "champion"): [version],
        (month_start(5), "shadow"): [old],
    }
    metrics = history.read_metrics(month_start(5)).query("window == '2025-05'")
    assert set(metrics["model_version"]) == {old, version}


# --- broken deliveries


def test_bad_rows_are_quarantined_and_corrected_a_month_later(second_month):
    rows = second_month
    is_bad = rows.reset_index().index % 10 < 3  # 30 % of them
    spoiled = rows.assign(contract=rows["contract"].mask(is_bad, "Three year"))
    counts = factories.ingest(2, QUIET, {2: spoiled})
    decision = monthly_cycle.decide_month(month_start(2), counts)
    assert (decision.action, decision.diagnosis) == (QUARANTINE, DATA_QUALITY)
    assert "2115 of 7043" in decision.reason
    bad = tables.read("quarantine")
    assert len(bad) == 2115 and bad["reason"].str.contains("'Three year'").all()
    assert len(customers_of(2)) == 7043 - 2115
    assert monthly_cycle.score_month(month_start(2)) == 0  # the rest is not acted upon
    delivered = {2: rows, 3: deliveries.deliver_at(3, QUIET)[3]}
    corrected = factories.ingest(3, QUIET, delivered)
    assert corrected.accepted == 7043
    assert customers_of(2)["customer_id"].nunique() == 7043
    assert len(tables.read("churn_labels", snapshot_date=month_start(2))) == 7043
    assert monthly_cycle.decide_month(month_start(3), corrected).action == OK
    monthly_cycle.backfill_months(month_start(3))
    monthly_cycle.score_month(month_start(3))
    roles = tables.read("predictions").groupby("snapshot_date")["role"].unique().map(list)
    assert roles[month_start(2)] == ["backfill"] and roles[month_start(3)] == ["champion"]
    before = tables.version_of("predictions")
    monthly_cycle.backfill_months(month_start(3))
    assert tables.version_of("predictions") == before  # once: history is not written again
    # no customer was treated on it, so it is no performance
    assert history.read_scored(month_start(2), month_start(3)).empty


def test_a_bad_delivery_is_held_back_until_a_correction_within_the_month(second_month):
    rows, as_of = second_month, month_start(2)
    published = factories.ingest(2, QUIET, {2: rows.head(300)})
    decision = monthly_cycle.decide_month(as_of, published)
    assert (decision.action, decision.diagnosis) == (QUARANTINE, DATA_QUALITY)
    assert "300 rows, 7,043 the month before (4%; 80% to 125% are expected)" in decision.reason
    assert customers_of(2).empty and monthly_cycle.score_month(as_of) == 0
    kept = tables.read("quarantine")
    assert len(kept) == 300 and set(kept["failed_column"]) == {WHOLE_DELIVERY}
    assert kept["reason"].str.startswith("the delivery: 300 rows").all()
    broken = factories.ingest(2, QUIET, {2: rows.assign(contract="Three year")})
    assert monthly_cycle.decide_month(as_of, broken).action == QUARANTINE
    corrected = factories.ingest(2, QUIET, {2: rows})
    assert monthly_cycle.decide_month(as_of, corrected).action == OK
    assert len(history.read_decisions()) == 1
    assert monthly_cycle.score_month(as_of) == 7043


def test_a_month_that_is_sent_again_is_named(second_month):
    january = deliveries.deliver_at(1, QUIET)[1]
    published = factories.ingest(2, QUIET, {2: january})
    assert published.faults[0] == "its rows are those of 2025-02"
    assert published.quarantined == 7043


def send_half_of_the_customers(monkeypatch):
    """From month 2 on upstream sends 3,500 rows, of which three break the contract."""
    deliver_at = deliveries.deliver_at

    def deliver_half(month, simulation):
        delivered = deliver_at(month, simulation)
        if month < 2:
            return delivered
        half = bad_deliveries.FAULTS["cut to 3,500 rows"](delivered[month], None, None)
        is_bad = half.index < 5  # the first three lines
        return {month: half.assign(gender=half["gender"].mask(is_bad, "?"))}

    monkeypatch.setattr(deliveries, "deliver_at", deliver_half)


def accept():
    words = ["2025-03", "--by", "Ada Lovelace", "--reason", "half was sold"]
    return cli.main(["accept-delivery", *words])


@pytest.mark.long  # short forms: test_accepted_deliveries.py, and test_rewind.py for the pipeline
def test_an_accepted_month_is_decided_again_and_followed(second_month, monkeypatch):
    send_half_of_the_customers(monkeypatch)
    run(until=2, simulation=QUIET)
    assert history.read_decisions()["decision"].tolist() == [QUARANTINE]
    assert accept() == 0
    run(until=3, simulation=QUIET)
    assert history.list_quarantined_months() == set()
    assert history.list_scored_months("champion") == {month_start(m) for m in (1, 2, 3)}
    accepted = tables.read("customers").groupby("snapshot_date").size()
    assert [accepted[month_start(m)] for m in (2, 3)] == [3497, 3497]  # the contract is not waived
    entry = deployments.read_audit().iloc[-1]
    assert (entry["action"], entry["as_of"]) == ("accepted delivery", month_start(2))
    assert (entry["by"], entry["reason"]) == ("Ada Lovelace", "half was sold")
    assert accept() == 2  # it is in


@pytest.mark.long  # short form: bad rows, above
def test_a_data_bug_is_caught_before_scoring(fresh):
    simulation = Simulation("data_bug", seed=5)
    ingest_month(month_start(1), simulation)
    asked, _ = run(until=4, simulation=simulation)
    decisions = history.read_decisions()
    assert asked is None and decisions["decision"].tolist() == [OK, QUARANTINE, OK]
    assert decisions["diagnosis"].tolist()[1] == DATA_QUALITY
    champion = tables.read("predictions").query("role == 'champion'")
    assert sorted(champion["snapshot_date"].unique()) == [month_start(m) for m in (1, 2, 4)]
    backfill = tables.read("predictions").query("role == 'backfill'")
    assert backfill["snapshot_date"].unique().tolist() == [month_start(3)]
    assert len(backfill) == 7043
    before = tables.version_of("predictions")
    monthly_cycle.backfill_months(month_start(5))
    assert tables.version_of("predictions") == before  # once: history is not written again
    # no customer was treated on it, so it is no performance
    assert history.read_scored(month_start(3), month_start(4)).empty


def test_without_a_champion_no_month_is_decided(published_home, tmp_path):
    with factories.at_copy(published_home[0], tmp_path):
        counts = ingest_month(month_start(1), PRICE_RISE)
        with pytest.raises(DataError, match="no champion is in effect on 2025-02-01"):
            monthly_cycle.decide_month(month_start(1), counts)
