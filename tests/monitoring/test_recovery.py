from types import SimpleNamespace

import factories
import numpy as np
import pandas as pd
import pytest

from churn_utils.data import table_writes
from churn_utils.errors import DataError
from churn_utils.evaluation.economics import Economics
from churn_utils.features import labelling, publishing
from churn_utils.monitoring import recovery
from churn_utils.registry import promotion, versions
from churn_utils.settings import month_start
from churn_utils.simulation import customers as simulated_customers
from churn_utils.simulation import deliveries
from churn_utils.simulation.scenarios import Simulation

SMALL = Simulation("none", seed=1, slots=60)  # IBM's first 60 customers and their successors


def values_of(date, champion, best, shadow=np.nan):
    """What ``compare_with_best`` returns for one month."""
    return pd.DataFrame(
        {
            "customer_id": [f"c{i}" for i in range(len(champion))],
            "snapshot_date": date,
            "shadow": shadow,
            "champion": champion,
            "best": best,
        }
    )


def scored_rows(truth, month, probability, role="champion", version=1):
    """Rows of ``predictions`` in which all customers have the same probability."""
    return truth[["customer_id"]].assign(
        snapshot_date=month_start(month),
        model_version=version,
        role=role,
        churn_probability=probability,
        threshold=0.25,
        decision="offer",
        expected_value_usd=0.0,
        scored_at=month_start(month),
    )


def publish_with_labels(month, truth, late):
    """Publish a small month; labels of its first ``late`` customers arrive three months late."""
    date = month_start(month)
    publishing.publish_snapshot(deliveries.deliver_at(month, SMALL)[month], date, date)
    labels = deliveries.make_labels(truth)
    for rows, arrival in ((labels[late:], month + 1), (labels[:late], month + 4)):
        labelling.record_labels(rows, date, month_start(arrival), rows["slot_id"])


# --- what decisions earned, beside the best possible ones


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A home with months 1 to 3, and these months as they truly are.

    In month 1 every customer got an offer and ten labels came late; month 2 was scored when it was
    over; in month 3 version 2 stood exactly at the threshold, and version 1 in the shadow below it.
    """
    with factories.at_home(tmp_path_factory.mktemp("recovery")) as path:
        truths = {month: simulated_customers.simulate_month(month, SMALL) for month in (1, 2, 3)}
        for month, truth in truths.items():
            publish_with_labels(month, truth, late=10 if month == 1 else 0)
        predictions = [
            scored_rows(truths[1], 1, 1.0),
            scored_rows(truths[2], 2, 1.0, "backfill"),
            scored_rows(truths[3], 3, 0.25, version=2),
            scored_rows(truths[3], 3, 0.24, "shadow"),
        ]
        table_writes.merge("predictions", pd.concat(predictions))
        table_writes.merge(
            "deployments", pd.concat([factories.deployed(1, 1, 3), factories.deployed(2, 3)])
        )
    return path, truths


@pytest.fixture
def truths(published):
    return published[1]


@pytest.fixture
def compare(published, monkeypatch):
    """``compare_with_best`` in that home, with economics patched: no registry is there."""
    monkeypatch.setenv("CHURN_HOME", str(published[0]))
    monkeypatch.setattr(promotion, "check_deployed", lambda version: None)
    economics = {1: Economics(600.0, 2000.0), 2: Economics()}
    monkeypatch.setattr(
        versions, "read_version", lambda number: SimpleNamespace(economics=economics[number])
    )
    return lambda month: recovery.compare_with_best(month_start(month), SMALL)


def offers_to_all(truth):
    return np.where(truth["churned"], 1500.0, -500.0)


def of_month(values, month, truth):
    """Rows of a month in the order of its customers."""
    rows = values[values["snapshot_date"] == month_start(month)]
    return rows.set_index("customer_id").loc[truth["customer_id"]]


def test_every_labelled_customer_and_month_is_compared_once(compare, truths):
    values = compare(4)
    assert set(values.columns) == {
        *("customer_id", "snapshot_date", "weight", "champion", "shadow", "best")
    }
    expected = {month_start(1): 50, month_start(2): 60, month_start(3): 60}
    assert values.groupby("snapshot_date").size().to_dict() == expected
    assert not values.duplicated(["customer_id", "snapshot_date"]).any()
    late = set(truths[1]["customer_id"][:10])
    first = values[values["snapshot_date"] == month_start(1)]
    assert late.isdisjoint(first["customer_id"])
    assert len(compare(5)) == 180  # the late ten have come
    assert len(compare(3)) == 110  # month 3 is not over


def test_the_champion_earns_what_its_probabilities_decide(compare, truths):
    values = compare(5)
    for month in (1, 3):
        earned = of_month(values, month, truths[month])["champion"]
        assert (earned == offers_to_all(truths[month])).all()


def test_a_month_that_was_not_scored_in_time_earned_nothing(compare, truths):
    missed = of_month(compare(4), 2, truths[2])
    assert (missed["champion"] == 0).all() and missed["best"].mean() > 0


def test_the_shadow_is_missing_until_there_is_one(compare, truths):
    values = compare(5)
    assert (of_month(values, 3, truths[3])["shadow"] == 0).all()
    assert values.loc[values["snapshot_date"] < month_start(3), "shadow"].isna().all()


def test_the_best_decides_by_the_true_probabilities(compare, truths):
    values = compare(5)
    for month, truth in truths.items():
        expected = factories.best_value_usd(truth)
        assert of_month(values, month, truth)["best"].mean() == pytest.approx(expected)


def test_an_offer_costs_what_the_champion_was_trained_for(compare, truths):
    known = truths[1][10:]
    expected = np.where(known["churned"], 1400.0, -600.0)
    assert of_month(compare(2), 1, known)["champion"].tolist() == expected.tolist()


def test_before_the_first_labels_there_is_nothing_to_compare():
    with pytest.raises(DataError, match="labelled by 2025-02-01; run at least one month"):
        recovery.compare_with_best(month_start(1), Simulation(slots=60))


# --- by month


def test_a_months_value_is_the_mean_with_its_interval():
    champion = [0.0, 1500.0, -500.0, 0.0]
    values = values_of(month_start(1), champion, best=[0.0, 1500.0, 0.0, 1500.0])
    row = recovery.value_by_month(values).iloc[0]
    assert (row["snapshot_date"], row["customers"]) == (month_start(1), 4)
    assert (row["champion"], row["best"]) == (250.0, 750.0)
    half = 1.96 * np.sqrt((250**2 + 1250**2 + 750**2 + 250**2) / 3) / 2
    assert (row["champion_lower"], row["champion_upper"]) == pytest.approx((250 - half, 250 + half))
    assert np.isnan(row[["shadow", "shadow_lower", "shadow_upper"]].astype(float)).all()


def test_what_a_month_lost_is_the_sum_over_its_customers():
    scored = values_of(month_start(1), champion=[0.0, 1500.0, -500.0], best=[1500.0, 1500.0, 0.0])
    missed = values_of(month_start(2), champion=[0.0, 0.0], best=[1500.0, 0.0])
    with_shadow = values_of(
        month_start(3), champion=[1500.0, 0.0], best=[1500.0, 0.0], shadow=[-500.0, 0.0]
    )
    months = recovery.value_by_month(pd.concat([with_shadow, scored, missed]))
    assert months["snapshot_date"].tolist() == [month_start(month) for month in (1, 2, 3)]
    assert months["lost_usd"].tolist() == [2000.0, 1500.0, 0.0]
    assert months["champion"].iloc[1] == 0.0
    assert months["shadow"].iloc[2] == -250.0 and months["shadow"].iloc[:2].isna().all()


# --- recovery


@pytest.fixture
def by_two_champions():
    """A month that two champions scored: 100, 160 and 200 USD on average."""
    generator = np.random.default_rng(0)
    new, old = (part - part.mean() for part in generator.normal(0, 300, (2, 400)))
    return values_of(month_start(5), champion=160 + new, best=200 + new, shadow=100 + old)


def test_recovery_is_the_share_of_the_loss_that_was_won_back(by_two_champions):
    many = np.full(400, 9999.0)
    before = values_of(month_start(4), champion=many, best=many)
    both = pd.concat([before, by_two_champions])
    measured = recovery.measure_recovery(both, month_start(0), draws=200)
    assert list(measured.columns) == ["value", "lower", "upper"]
    expected = {"old champion": 100, "new champion": 160, "best possible": 200, "recovered": 0.6}
    assert measured["value"].to_dict() == pytest.approx(expected)
    assert (measured["lower"] < measured["value"]).all()
    assert (measured["value"] < measured["upper"]).all()


def test_months_before_the_promotion_do_not_count(by_two_champions):
    earlier = by_two_champions.assign(snapshot_date=month_start(4), shadow=9999.0)
    both = pd.concat([earlier, by_two_champions])
    measured = recovery.measure_recovery(both, month_start(5), draws=10)
    assert measured.loc["old champion", "value"] == pytest.approx(100)


def test_the_interval_is_that_of_a_mean_over_customers(by_two_champions):
    measured = recovery.measure_recovery(by_two_champions, month_start(0), draws=8000)
    old = measured.loc["old champion"]
    half = 1.96 * by_two_champions["shadow"].std() / np.sqrt(len(by_two_champions))
    assert [old["upper"] - 100, 100 - old["lower"]] == pytest.approx([half, half], rel=0.05)


def test_recovery_needs_a_month_scored_by_two_champions(by_two_champions):
    alone = by_two_champions.assign(shadow=np.nan)
    measured = recovery.measure_recovery(alone, month_start(0))
    assert measured.empty and list(measured.columns) == ["value", "lower", "upper"]


def test_the_months_of_a_customer_are_not_independent(by_two_champions):
    again = [by_two_champions.assign(snapshot_date=month_start(month)) for month in (6, 7, 8)]
    repeated = pd.concat([by_two_champions, *again])
    once = recovery.measure_recovery(by_two_champions, month_start(0), draws=200)
    often = recovery.measure_recovery(repeated, month_start(0), draws=200)
    pd.testing.assert_frame_equal(once, often)


def test_every_month_of_a_customer_counts_in_the_mean(by_two_champions):
    stayed = by_two_champions.head(100).assign(snapshot_date=month_start(6))
    both = pd.concat([by_two_champions, stayed])
    value = recovery.measure_recovery(both, month_start(0), draws=10)["value"]
    assert value["old champion"] == pytest.approx(both["shadow"].mean())
    assert value["new champion"] == pytest.approx(both["champion"].mean())
