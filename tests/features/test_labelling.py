import hashlib

import pandas as pd
import pytest

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.errors import ChurnError, DataError
from churn_utils.features import labelling, publishing

JANUARY, FEBRUARY, MARCH = (settings.month_start(month) for month in range(3))


def test_labels_are_recorded_once_with_their_date_and_split(home, delivery):
    publishing.publish_snapshot(delivery, JANUARY, JANUARY)
    counts = labelling.record_labels(delivery, JANUARY, FEBRUARY)
    assert counts.to_dict() == {"delivered": 8, "labels_written": 8, "quarantined": 0}
    assert labelling.record_labels(delivery, JANUARY, FEBRUARY)["labels_written"] == 0
    labels = tables.read("churn_labels").set_index("customer_id")
    churned = delivery.set_index("customer_id")["churn"] == "Yes"
    assert churned.sum() == 3
    assert labels["churned"].to_dict() == churned.to_dict()
    assert labels["label_date"].eq(FEBRUARY).all() and labels["snapshot_date"].eq(JANUARY).all()


@pytest.mark.parametrize(
    "change, label_date, message",
    [
        (lambda rows: rows, JANUARY, "labels of 2025-01-01 cannot arrive on 2025-01-01"),
        (
            lambda rows: rows.assign(churn="Maybe"),
            FEBRUARY,
            "8 of 8 labels of 2025-01 .*such as: label Maybe is neither Yes nor No",
        ),
        (
            lambda rows: rows.assign(churn=["Yes"] * 6 + [None] * 2),
            FEBRUARY,
            "2 of 8 labels .*label None is neither Yes nor No",
        ),
        (
            lambda rows: pd.concat([rows, rows.tail(1)]),
            FEBRUARY,
            "2 of 9 labels .*label No of a customer who has several",
        ),
        (
            lambda rows: rows.assign(customer_id=rows["customer_id"].str.lower()),
            FEBRUARY,
            "8 of 8 labels .*label No of a customer who is not in that snapshot",
        ),
    ],
)
def test_labels_that_cannot_be_are_refused_and_none_is_written(
    home, delivery, change, label_date, message
):
    publishing.publish_snapshot(delivery, JANUARY, JANUARY)
    with pytest.raises(ChurnError, match=message):
        labelling.record_labels(change(delivery), JANUARY, label_date)
    assert not tables.exists("churn_labels")


def test_a_fifth_of_the_labels_may_be_odd(home, delivery):
    rows = delivery.head(5)
    publishing.publish_snapshot(rows, JANUARY, JANUARY)
    labels = rows.assign(churn=["Maybe", *rows["churn"][1:]])
    counts = labelling.record_labels(labels, JANUARY, FEBRUARY)
    assert counts.to_dict() == {"delivered": 5, "labels_written": 4, "quarantined": 1}


def test_labels_of_a_month_that_never_arrived_are_refused(home, delivery):
    publishing.publish_snapshot(delivery, JANUARY, JANUARY)
    with pytest.raises(DataError, match="8 label.* of 2025-02-01 arrived before that snapshot"):
        labelling.record_labels(delivery, FEBRUARY, MARCH)
    assert not tables.exists("churn_labels")


def test_labels_of_unknown_and_quarantined_customers_are_kept_in_quarantine(home, delivery):
    publishing.publish_snapshot(
        delivery.assign(gender=["?", *delivery["gender"][1:]]), JANUARY, JANUARY
    )
    labels = delivery.assign(customer_id=[*delivery["customer_id"][:-1], "ABSENT"])
    counts = labelling.record_labels(labels, JANUARY, FEBRUARY)
    assert counts.to_dict() == {"delivered": 8, "labels_written": 6, "quarantined": 2}
    held = tables.read("quarantine")
    held = held[held["failed_column"] == "churn"].set_index("customer_id")
    assert set(held.index) == {"7590-VHVEG", "ABSENT"}
    assert held.loc["7590-VHVEG", "reason"] == "label No of a customer who is not in that snapshot"
    assert held["written_at"].eq(FEBRUARY).all() and held["line"].lt(0).all()
    again = labelling.record_labels(labels, JANUARY, FEBRUARY)
    assert (
        again["labels_written"] == 0 and len(tables.read("quarantine")) == 3
    )  # with the row of the snapshot


def test_labels_of_customers_who_left_are_quarantined(home, delivery):
    publishing.publish_snapshot(delivery.head(4), JANUARY, JANUARY)
    counts = labelling.record_labels(delivery, JANUARY, FEBRUARY)
    assert counts.to_dict() == {"delivered": 8, "labels_written": 4, "quarantined": 4}


def test_labels_can_be_recorded_once_a_quarantined_month_is_corrected(home, delivery):
    publishing.publish_snapshot(delivery.assign(gender="?"), JANUARY, JANUARY)
    assert labelling.record_labels(delivery, JANUARY, FEBRUARY)["quarantined"] == 8
    publishing.publish_snapshot(delivery, JANUARY, FEBRUARY)
    assert labelling.record_labels(delivery, JANUARY, FEBRUARY)["labels_written"] == 8


def test_the_split_is_60_20_20_and_follows_the_hash_of_the_id(extract):
    shares = labelling.split_of(extract["customer_id"]).value_counts(normalize=True)
    assert shares.to_dict() == pytest.approx(
        {"train": 0.6, "validate": 0.2, "test": 0.2}, abs=0.015
    )
    for customer, split in zip(
        extract["customer_id"].head(50),
        labelling.split_of(extract["customer_id"].head(50)),
        strict=True,
    ):
        share = int(hashlib.sha256(customer.encode()).hexdigest()[:8], 16) / 2**32
        assert split == ("train" if share < 0.6 else "validate" if share < 0.8 else "test")


def test_the_split_of_a_customer_never_changes(extract):
    ids = extract["customer_id"].head(200)
    together = labelling.split_of(ids)
    shuffled = labelling.split_of(ids.sample(frac=1, random_state=0))
    assert together.equals(shuffled.sort_index())
    known = {
        "7590-VHVEG": "test",
        "5575-GNVDE": "train",
        "3668-QPYBK": "train",
        "7795-CFOCW": "train",
    }
    assert labelling.split_of(pd.Series(list(known))).tolist() == list(known.values())


def test_a_successor_inherits_the_split_of_its_slot(home, delivery):
    successors = delivery.assign(customer_id=[f"NEW-{line}" for line in delivery.index])
    publishing.publish_snapshot(successors, FEBRUARY, FEBRUARY)
    labelling.record_labels(successors, FEBRUARY, MARCH, slot_ids=delivery["customer_id"])
    inherited = tables.read("churn_labels").set_index("customer_id")["split"][
        successors["customer_id"]
    ]
    assert inherited.tolist() == labelling.split_of(delivery["customer_id"]).tolist()
    assert inherited.tolist() != labelling.split_of(successors["customer_id"]).tolist()


def test_slots_that_do_not_match_the_rows_are_refused(home, delivery):
    publishing.publish_snapshot(delivery, JANUARY, JANUARY)
    with pytest.raises(DataError):
        labelling.record_labels(
            delivery, JANUARY, FEBRUARY, slot_ids=delivery["customer_id"].head(4)
        )
