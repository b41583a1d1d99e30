"""Months of a home that makes offers, and of one that keeps no control group."""

import factories
import pytest

from churn_utils.data import tables
from churn_utils.errors import DataError
from churn_utils.features import offer_policy, offline
from churn_utils.features.offer_policy import OfferPolicy
from churn_utils.monitoring import history, monthly_cycle, recovery
from churn_utils.monitoring.ingestion import ingest_month
from churn_utils.registry import approvals, promotion
from churn_utils.settings import month_start
from churn_utils.simulation import customers
from churn_utils.simulation.scenarios import Simulation

SAVES_ALL = Simulation("none", seed=5, save_rate=1.0)
LAST = month_start(3)


def run_home(built_home, folder, share):
    """Run months 1 to 3 in a copy of a home with a champion; return its path."""
    built, contents = built_home
    with factories.at_copy(built, folder) as path:
        version = contents["version"]
        factories.pass_gate(version, factories.AS_OF)
        approvals.approve(version, "Ada Lovelace", "tested", factories.AS_OF)
        promotion.promote(version, factories.AS_OF)
        offer_policy.bind_policy(OfferPolicy(share))
        ingest_month(factories.AS_OF, SAVES_ALL)
        monthly_cycle.run_months(LAST, SAVES_ALL, report=lambda line: None)
    return path


@pytest.fixture(scope="module")
def home_with_control(built_home, tmp_path_factory):
    folder = tmp_path_factory.mktemp("control")
    with factories.at_home(run_home(built_home, folder, share=0.2)) as path:
        yield path


def test_every_scored_customer_has_a_group(home_with_control):
    made = tables.read("offers")
    scored = tables.read("predictions").query("role == 'champion'")
    both = made.merge(scored, on=["customer_id", "snapshot_date"], validate="one_to_one")
    assert len(both) == len(made) == len(scored)
    assert (both["group"].ne("not_selected") == both["decision"].eq("offer")).all()
    is_first = made["snapshot_date"] == month_start(1)
    selected = made[is_first & (made["group"] != "not_selected")]
    assert abs(selected["group"].eq("control").mean() - 0.2) < 0.03


def test_labels_say_what_happened_after_the_offer(home_with_control):
    offered = history.read_offered(LAST)
    churn = offered.groupby("group")["churned"].mean()
    assert churn["treated"] == 0, "an offer keeps every churner here"
    assert churn["control"] > 0.3
    assert offered["snapshot_date"].max() == month_start(2)


def test_kept_customers_are_still_there_a_month_later(home_with_control):
    made = tables.read("offers", snapshot_date=month_start(2))
    treated = {2: set(made.loc[made["group"] == "treated", "customer_id"])}
    earlier = tables.read("offers", snapshot_date=month_start(1))
    treated[1] = set(earlier.loc[earlier["group"] == "treated", "customer_id"])
    truth = customers.simulate_month(3, SAVES_ALL, treated)
    arrived = tables.read("customers", snapshot_date=LAST)
    assert set(arrived["customer_id"]) == set(truth["customer_id"])


def test_training_rows_are_untreated_and_weighted(home_with_control):
    training_set = offline.build_training_set(LAST, since=month_start(1))
    rows = offline.training_rows(training_set, "train")
    assert set(rows["group"]) == {"control", "not_selected"}
    weights = rows.groupby("group")["weight"].agg(["min", "max"])
    assert weights.loc["not_selected"].tolist() == [1, 1]
    assert weights.loc["control", "min"] > 4
    by_month = training_set.groupby("event_date")["weight"].sum()
    assert by_month.tolist() == pytest.approx([7043, 7043]), "they stand for all customers"
    assert offline.current_versions()["offers"] == tables.version_of("offers")


def test_a_recorded_version_without_offers_reads_none(home_with_control):
    recorded = {
        name: version for name, version in offline.current_versions().items() if name != "offers"
    }
    training_set = offline.build_training_set(LAST, recorded)
    assert (training_set["weight"] == 1).all()


def test_performance_is_measured_on_untreated_customers(home_with_control):
    metrics = history.read_metrics(LAST)
    month = metrics[(metrics["window"] == "2025-03") & (metrics["slice"] == "all")]
    row = month[month["metric"] == "value_usd"].iloc[0]
    made = tables.read("offers", snapshot_date=month_start(2))
    assert row["rows"] == len(made)
    assert row["rows_labelled"] == (made["group"] != "treated").sum()
    rate = month[month["metric"] == "churn_rate"].iloc[0]
    untouched = customers.simulate_month(2, SAVES_ALL)["churned"].mean()
    assert rate["lower"] < untouched < rate["upper"]


def test_value_by_month_stands_for_all_customers(home_with_control):
    months = recovery.value_by_month(recovery.compare_with_best(LAST, SAVES_ALL))
    assert months["customers"].tolist() == [7043, 7043]
    assert (months["champion_lower"] < months["best"]).all()


def test_the_next_call_of_the_months_changes_nothing(home_with_control):
    before = tables.version_of("offers")
    monthly_cycle.run_months(LAST, SAVES_ALL, report=lambda line: None)
    assert tables.version_of("offers") == before


@pytest.mark.long
def test_without_control_group_nothing_is_learned_and_scoring_goes_on(built_home, tmp_path):
    with factories.at_home(run_home(built_home, tmp_path, share=0.0)):
        with pytest.raises(DataError, match=r"in 2025-02, 2025-03 offers were made and no"):
            offline.build_training_set(LAST)
        last = history.read_decisions().iloc[-1]
        assert last["decision"] != "retrain" and "no customer was kept as control" in last["why"]
        scored = tables.read("predictions", snapshot_date=LAST)
        assert len(scored) == 7043
        metrics = history.read_metrics(LAST)
        labelled = metrics[(metrics["window"] == "2025-03") & (metrics["metric"] == "value_usd")]
        assert labelled["value"].isna().all() and (labelled["rows_labelled"] == 0).all()
