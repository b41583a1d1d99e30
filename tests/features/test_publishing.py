import pandas as pd
import pytest

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.errors import DataError
from churn_utils.features import labelling, publishing

JANUARY, FEBRUARY, MARCH = (settings.month_start(month) for month in range(3))


def test_a_snapshot_is_published_without_its_label(home, delivery):
    counts = publishing.publish_snapshot(delivery, JANUARY, FEBRUARY)
    assert counts.to_series().to_dict() == {
        "delivered": 8,
        "accepted": 8,
        "quarantined": 0,
        "customers_written": 8,
        "features_written": 8,
    }
    for table in ("customers", "customer_features"):
        rows = tables.read(table)
        assert not {"churn", "churned"} & set(rows.columns)
        assert set(rows["customer_id"]) == set(delivery["customer_id"])
        assert rows["snapshot_date"].eq(JANUARY).all() and rows["written_at"].eq(FEBRUARY).all()
    assert tables.read("quarantine").empty and not tables.exists("churn_labels")


def test_bad_rows_go_into_quarantine_and_none_is_lost(home, delivery):
    delivery.loc[[2, 3], "customer_id"] = ""
    delivery.loc[4, "customer_id"] = delivery.loc[5, "customer_id"]
    delivery.loc[6, "tenure"] = "many"
    counts = publishing.publish_snapshot(delivery, JANUARY, JANUARY)
    assert (counts.delivered, counts.accepted, counts.quarantined) == (8, 3, 5)
    kept = tables.read("quarantine").sort_values("line")
    assert kept["line"].tolist() == [2, 3, 4, 5, 6]
    assert kept["failed_column"].tolist() == ["customer_id"] * 4 + ["tenure"]
    assert kept["reason"].tolist()[-1] == "tenure is not a number: 'many'"
    assert kept["tenure"].tolist() == delivery.loc[2:6, "tenure"].tolist()
    assert tables.read("customers")["customer_id"].tolist() == sorted(
        delivery.loc[7:, "customer_id"]
    )


def test_a_delivery_of_bad_rows_alone_fills_only_the_quarantine(home, delivery):
    counts = publishing.publish_snapshot(delivery.assign(gender="?"), JANUARY, JANUARY)
    assert counts == publishing.PublishedSnapshot(delivered=8, accepted=0, quarantined=8)
    assert len(tables.read("quarantine")) == 8 and not tables.exists("customers")


def test_publishing_twice_changes_nothing(home, delivery):
    delivery.loc[[2, 3], "customer_id"] = ""
    publishing.publish_snapshot(delivery, JANUARY, JANUARY)
    before = tables.describe_tables()
    counts = publishing.publish_snapshot(delivery, JANUARY, JANUARY)
    assert (counts.customers_written, counts.features_written) == (0, 0)
    pd.testing.assert_frame_equal(tables.describe_tables(), before)


def test_a_correction_is_kept_beside_what_was_known_before(home, delivery):
    publishing.publish_snapshot(delivery, JANUARY, JANUARY)
    delivery.loc[2, "gender"] = "Male"
    publishing.publish_snapshot(delivery.loc[[2]], JANUARY, MARCH)
    genders = [
        tables.read("customers", as_of=date)
        .set_index("customer_id")
        .loc[delivery.loc[2, "customer_id"], "gender"]
        for date in (FEBRUARY, MARCH)
    ]
    assert genders == ["Female", "Male"]


def test_a_snapshot_cannot_arrive_before_its_month(home, delivery):
    with pytest.raises(DataError, match="snapshot of 2025-02-01 cannot arrive on 2025-01-31"):
        publishing.publish_snapshot(delivery, FEBRUARY, pd.Timestamp("2025-01-31"))
    assert tables.describe_tables().empty


def test_a_delivery_without_rows_is_refused(home, delivery):
    with pytest.raises(DataError, match="delivery of 2025-01-01 has no rows.*ask for it again"):
        publishing.publish_snapshot(delivery.head(0), JANUARY, JANUARY)
    assert not labelling.has_arrived(JANUARY)
