import factories
import pandas as pd
import pytest

from churn_utils.data import tables
from churn_utils.errors import DataError
from churn_utils.monitoring import ingestion
from churn_utils.settings import month_start
from churn_utils.simulation import customers, deliveries
from churn_utils.simulation.scenarios import Simulation

QUIET = Simulation("none", seed=5)


@pytest.fixture(autouse=True)
def fresh(published_home, tmp_path):
    """A home with IBM's month and its labels."""
    with factories.at_copy(published_home[0], tmp_path):
        yield


def test_a_month_out_of_order_is_refused_and_nothing_is_written():
    before = tables.describe_tables()
    problem = "2025-03 was delivered before 2025-02 had been ingested.*2025-02 first"
    with pytest.raises(DataError, match=problem):
        ingestion.ingest_month(month_start(2), QUIET)
    pd.testing.assert_frame_equal(tables.describe_tables(), before)


def test_a_month_that_was_not_delivered_is_asked_for():
    with pytest.raises(DataError, match="no snapshot of 2025-02 was delivered"):
        factories.ingest(1, QUIET, {})


def test_a_month_without_rows_can_be_delivered_again():
    rows = deliveries.deliver_at(1, QUIET)[1]
    with pytest.raises(DataError, match="2025-02-01 has no rows"):
        factories.ingest(1, QUIET, {1: rows.head(0)})
    assert len(tables.read("churn_labels")) == 7043  # the labels that came with it are not lost
    assert ingestion.ingest_month(month_start(1), QUIET).accepted == 7043


def test_a_month_that_is_ingested_twice_changes_no_row():
    ingestion.ingest_month(month_start(1), QUIET)
    before = tables.describe_tables()
    counts = ingestion.ingest_month(month_start(1), QUIET)
    assert counts.customers_written == counts.features_written == 0
    assert counts.accepted == 7043
    pd.testing.assert_frame_equal(tables.describe_tables(), before)


def test_labels_are_recorded_again_with_a_late_correction():
    for month in (1, 2, 3):
        broken = (
            {month: deliveries.deliver_at(month, QUIET)[month].assign(contract="?")}
            if month == 1
            else None
        )
        factories.ingest(month, QUIET, broken)
    assert tables.read("churn_labels", snapshot_date=month_start(1)).empty
    late = {1: deliveries.deliver_at(1, QUIET)[1], 4: deliveries.deliver_at(4, QUIET)[4]}
    again = deliveries.make_labels(customers.simulate_month(1, QUIET))
    factories.ingest(4, QUIET, late, {1: again})
    labels = tables.read("churn_labels", snapshot_date=month_start(1))
    assert len(labels) == 7043 and labels["label_date"].eq(month_start(4)).all()


def test_labels_of_unknown_customers_are_quarantined():
    labels = deliveries.make_labels(customers.simulate_month(0, QUIET))
    labels.loc[labels.index[0], "customer_id"] = "UNKNOWN"
    factories.ingest(1, QUIET, labels={0: labels})
    assert tables.read("quarantine")["customer_id"].tolist() == ["UNKNOWN"]


def test_odd_labels_are_quarantined_alone():
    ingestion.ingest_month(month_start(1), QUIET)
    labels = deliveries.make_labels(customers.simulate_month(1, QUIET))
    labels.loc[labels.index[:2], "churn"] = ["maybe", None]
    labels.loc[labels.index[3], "customer_id"] = labels["customer_id"].iloc[2]
    labels.loc[labels.index[4], "customer_id"] = None
    factories.ingest(2, QUIET, labels={1: labels})
    assert len(tables.read("churn_labels", snapshot_date=month_start(1))) == 7043 - 5
    kept = tables.read("quarantine").sort_values("line", ascending=False)
    assert kept["line"].tolist() == [-1, -2, -3, -4, -5]
    assert kept["failed_column"].unique().tolist() == ["churn"]
    assert kept["reason"].str.split(n=2).str[-1].tolist() == [
        "is neither Yes nor No",
        "is neither Yes nor No",
        "of a customer who has several",
        "of a customer who has several",
        "of a customer who is not in that snapshot",
    ]


def test_labels_of_those_alone_who_left_are_refused():
    labels = deliveries.make_labels(customers.simulate_month(0, QUIET))
    before = tables.describe_tables()
    with pytest.raises(DataError, match=r"5,174 of 7,043 customers of 2025-01 have no label .*20%"):
        factories.ingest(1, QUIET, labels={0: labels[labels["churn"] == "Yes"]})
    pd.testing.assert_frame_equal(tables.describe_tables(), before)


def test_labels_of_strangers_are_refused_with_an_example():
    labels = deliveries.make_labels(customers.simulate_month(0, QUIET))
    strangers = labels.assign(customer_id="X" + labels["customer_id"])
    with pytest.raises(DataError, match="7,043 of 7,043 labels are of customers .*, such as 'X"):
        factories.ingest(1, QUIET, labels={0: strangers})
