import hashlib

import numpy as np
import pandas as pd
import pytest

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.errors import ChurnError, DataError
from churn_utils.features import definitions, offline

JANUARY, FEBRUARY, MARCH, APRIL = (settings.month_start(month) for month in range(4))
ATTRIBUTES = {
    name: definitions.CATEGORICAL[name][0] if name in definitions.CATEGORICAL else 1
    for name in definitions.STORED
}


def stored_rows(*writings):
    """Rows of ``customer_features``: customer, snapshot date, written at, monthly charges."""
    return pd.DataFrame(
        [
            {
                "customer_id": customer,
                "snapshot_date": pd.Timestamp(month),
                "written_at": pd.Timestamp(written),
            }
            | ATTRIBUTES
            | {"monthly_charges": float(bill)}
            for customer, month, written, bill in writings
        ]
    )


def look_up(stored, *events, **options):
    """What a spine of (customer, date) finds: ``status, month, bill`` of each row."""
    spine = pd.DataFrame(events, columns=["customer_id", "event_date"]).astype(
        {"event_date": "datetime64[ns]"}
    )
    found = offline.look_up_features(spine, stored, **options)
    assert found[["customer_id", "event_date"]].equals(spine)
    return [
        (
            row.lookup_status,
            *(
                None if pd.isna(value) else value
                for value in (row.features_as_of, row.monthly_charges)
            ),
        )
        for row in found.itertuples()
    ]


def test_the_newest_month_up_to_the_event_is_found():
    stored = stored_rows(
        ("a", JANUARY, JANUARY, 1), ("a", FEBRUARY, FEBRUARY, 2), ("a", MARCH, MARCH, 3)
    )
    assert look_up(stored, ("a", FEBRUARY), ("a", "2025-02-28"), ("a", MARCH)) == [
        ("found", FEBRUARY, 2),
        ("found", FEBRUARY, 2),
        ("found", MARCH, 3),
    ]


def test_a_label_before_the_first_snapshot_is_reported():
    stored = stored_rows(("a", FEBRUARY, FEBRUARY, 2))
    assert look_up(stored, ("a", "2025-01-31"), ("a", FEBRUARY)) == [
        ("no_snapshot_yet", None, None),
        ("found", FEBRUARY, 2),
    ]


def test_a_snapshot_that_was_not_written_yet_is_not_known():
    stored = stored_rows(("a", JANUARY, "2025-01-20", 1))
    assert look_up(stored, ("a", "2025-01-19"), ("a", "2025-01-20")) == [
        ("no_snapshot_yet", None, None),
        ("found", JANUARY, 1),
    ]


def test_features_past_their_time_to_live_are_reported_and_not_used():
    stored = stored_rows(("a", JANUARY, JANUARY, 1))
    last, after = JANUARY + pd.Timedelta(days=62), JANUARY + pd.Timedelta(days=63)
    assert look_up(stored, ("a", last), ("a", after)) == [
        ("found", JANUARY, 1),
        ("stale", JANUARY, None),
    ]
    assert look_up(stored, ("a", last), max_age_days=61) == [("stale", JANUARY, None)]


def test_stale_rows_hold_no_feature_at_all():
    spine = pd.DataFrame({"customer_id": ["a"], "event_date": [settings.month_start(12)]})
    found = offline.look_up_features(spine, stored_rows(("a", JANUARY, JANUARY, 1)))
    assert found[definitions.STORED].isna().all(axis=None)


def test_duplicated_labels_are_reported_wherever_they_stand():
    stored = stored_rows(("a", JANUARY, JANUARY, 1), ("b", JANUARY, JANUARY, 2))
    found = look_up(stored, ("a", JANUARY), ("b", JANUARY), ("a", JANUARY), ("a", FEBRUARY))
    assert [status for status, *_ in found] == ["duplicate", "found", "duplicate", "found"]


def test_unknown_customers_are_reported():
    stored = stored_rows(("a", JANUARY, JANUARY, 1))
    assert look_up(stored, ("absent", JANUARY), ("a", JANUARY)) == [
        ("unknown_customer", None, None),
        ("found", JANUARY, 1),
    ]


def test_an_empty_spine_gives_no_rows_and_an_empty_store_knows_nobody():
    stored = stored_rows(("a", JANUARY, JANUARY, 1))
    assert look_up(stored) == []
    assert look_up(stored.head(0), ("a", JANUARY)) == [("unknown_customer", None, None)]


def test_a_correction_written_after_the_event_does_not_leak_into_it():
    stored = stored_rows(("a", JANUARY, JANUARY, 1), ("a", JANUARY, "2025-01-15", 100))
    assert look_up(stored, ("a", "2025-01-14"), ("a", "2025-01-15")) == [
        ("found", JANUARY, 1),
        ("found", JANUARY, 100),
    ]


def test_a_late_correction_of_an_old_month_does_not_hide_a_newer_month():
    stored = stored_rows(
        ("a", JANUARY, JANUARY, 1), ("a", FEBRUARY, FEBRUARY, 2), ("a", JANUARY, "2025-02-10", 100)
    )
    assert look_up(stored, ("a", "2025-01-31"), ("a", FEBRUARY), ("a", "2025-02-11")) == [
        ("found", JANUARY, 1),
        ("found", FEBRUARY, 2),
        ("found", FEBRUARY, 2),
    ]


def test_the_order_of_rows_their_index_and_other_columns_are_kept():
    stored = stored_rows(*((name, JANUARY, JANUARY, bill) for bill, name in enumerate("abcdef")))
    spine = pd.DataFrame(
        {
            "weight": [6, 5, 4, 3, 2, 1],
            "customer_id": list("fadcbe"),
            "event_date": JANUARY + pd.to_timedelta([31, 4, 19, 0, 19, 1], unit="D"),
        },
        index=["x", 7, "x", None, 2.5, "z"],
    )
    before = spine.copy()
    found = offline.look_up_features(spine, stored.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(found[spine.columns], spine, check_dtype=False)
    pd.testing.assert_frame_equal(spine, before)
    assert found["monthly_charges"].tolist() == [5, 0, 3, 2, 1, 4]


@pytest.mark.parametrize(
    "name",
    [
        "position",
        "written_at",
        "known_from",
    ],
)
def test_a_spine_may_have_a_column_of_any_name(name):
    spine = pd.DataFrame({"customer_id": ["a"], "event_date": [JANUARY], name: ["manager"]})
    found = offline.look_up_features(spine, stored_rows(("a", JANUARY, JANUARY, 1)))
    assert found[name].tolist() == ["manager"] and found["monthly_charges"].tolist() == [1]


def test_an_event_without_a_date_is_refused():
    with pytest.raises(DataError):
        look_up(stored_rows(("a", JANUARY, JANUARY, 1)), ("a", JANUARY), ("a", None))


def random_world(seed):
    """Some customers, months, corrections and a shuffled spine, with every trap in it by chance."""
    generator = np.random.default_rng(seed)
    writings = {}
    for _ in range(generator.integers(1, 40)):
        month = settings.month_start(int(generator.integers(0, 6)))
        late = int(generator.choice([0, 0, 0, 5, 20, 40, 90]))
        customer = "abcd"[generator.integers(4)]
        writings[customer, month, month + pd.Timedelta(days=late)] = len(writings)
    stored = stored_rows(*((*key, bill) for key, bill in writings.items())).sample(
        frac=1, random_state=seed
    )
    events = int(generator.integers(1, 30))
    spine = pd.DataFrame(
        {
            "customer_id": generator.choice(list("abcde"), events),
            "event_date": JANUARY + pd.to_timedelta(generator.integers(-10, 280, events), unit="D"),
        },
        index=generator.integers(0, 5, events),
    )
    return stored, spine


def naive_look_up(spine, stored):
    """The definition, row by row."""
    answers = []
    for event in spine.itertuples():
        of_customer = [row for row in stored.itertuples() if row.customer_id == event.customer_id]
        known = [
            row for row in of_customer if max(row.snapshot_date, row.written_at) <= event.event_date
        ]
        best = max(known, key=lambda row: (row.snapshot_date, row.written_at), default=None)
        twins = (spine["customer_id"] == event.customer_id) & (
            spine["event_date"] == event.event_date
        )
        if twins.sum() > 1:
            answers.append(("duplicate", None))
        elif not of_customer:
            answers.append(("unknown_customer", None))
        elif best is None:
            answers.append(("no_snapshot_yet", None))
        elif (event.event_date - best.snapshot_date).days > 62:
            answers.append(("stale", None))
        else:
            answers.append(("found", best.monthly_charges))
    return answers


@pytest.mark.parametrize("worlds", [10, pytest.param(40, marks=pytest.mark.long)])
def test_look_up_agrees_with_its_definition_in_random_worlds(worlds):
    seen = set()
    for seed in range(worlds):
        stored, spine = random_world(seed)
        found = offline.look_up_features(spine, stored)
        expected = naive_look_up(spine, stored)
        assert found["lookup_status"].tolist() == [status for status, _ in expected], (
            f"world {seed}"
        )
        bills = found["monthly_charges"].where(found["lookup_status"] == "found", None).tolist()
        assert [None if pd.isna(bill) else bill for bill in bills] == [
            bill for _, bill in expected
        ], f"world {seed}"
        seen |= set(found["lookup_status"])
    assert seen == {"found", "unknown_customer", "no_snapshot_yet", "stale", "duplicate"}


@pytest.fixture
def delivery(extract):
    return extract.head(8).copy()


def publish_labelled(rows, month=JANUARY, label_date=None):
    offline.publish_snapshot(rows, month, month)
    offline.record_labels(
        rows, month, month + pd.DateOffset(months=1) if label_date is None else label_date
    )


def test_a_snapshot_is_published_without_its_label(home, delivery):
    counts = offline.publish_snapshot(delivery, JANUARY, FEBRUARY)
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
    counts = offline.publish_snapshot(delivery, JANUARY, JANUARY)
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
    counts = offline.publish_snapshot(delivery.assign(gender="?"), JANUARY, JANUARY)
    assert counts == offline.PublishedSnapshot(delivered=8, accepted=0, quarantined=8)
    assert len(tables.read("quarantine")) == 8 and not tables.exists("customers")


def test_publishing_twice_changes_nothing(home, delivery):
    delivery.loc[[2, 3], "customer_id"] = ""
    offline.publish_snapshot(delivery, JANUARY, JANUARY)
    before = tables.describe_tables()
    counts = offline.publish_snapshot(delivery, JANUARY, JANUARY)
    assert (counts.customers_written, counts.features_written) == (0, 0)
    pd.testing.assert_frame_equal(tables.describe_tables(), before)


def test_a_correction_is_kept_beside_what_was_known_before(home, delivery):
    offline.publish_snapshot(delivery, JANUARY, JANUARY)
    delivery.loc[2, "gender"] = "Male"
    offline.publish_snapshot(delivery.loc[[2]], JANUARY, MARCH)
    genders = [
        tables.read("customers", as_of=date)
        .set_index("customer_id")
        .loc[delivery.loc[2, "customer_id"], "gender"]
        for date in (FEBRUARY, MARCH)
    ]
    assert genders == ["Female", "Male"]


def test_a_snapshot_cannot_arrive_before_its_month(home, delivery):
    with pytest.raises(DataError, match="snapshot of 2025-02-01 cannot arrive on 2025-01-31"):
        offline.publish_snapshot(delivery, FEBRUARY, pd.Timestamp("2025-01-31"))
    assert tables.describe_tables().empty


def test_labels_are_recorded_once_with_their_date_and_split(home, delivery):
    offline.publish_snapshot(delivery, JANUARY, JANUARY)
    counts = offline.record_labels(delivery, JANUARY, FEBRUARY)
    assert counts.to_dict() == {"delivered": 8, "labels_written": 8, "quarantined": 0}
    assert offline.record_labels(delivery, JANUARY, FEBRUARY)["labels_written"] == 0
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
    offline.publish_snapshot(delivery, JANUARY, JANUARY)
    with pytest.raises(ChurnError, match=message):
        offline.record_labels(change(delivery), JANUARY, label_date)
    assert not tables.exists("churn_labels")


def test_a_fifth_of_the_labels_may_be_odd(home, delivery):
    rows = delivery.head(5)
    offline.publish_snapshot(rows, JANUARY, JANUARY)
    labels = rows.assign(churn=["Maybe", *rows["churn"][1:]])
    counts = offline.record_labels(labels, JANUARY, FEBRUARY)
    assert counts.to_dict() == {"delivered": 5, "labels_written": 4, "quarantined": 1}


def test_labels_of_a_month_that_never_arrived_are_refused(home, delivery):
    offline.publish_snapshot(delivery, JANUARY, JANUARY)
    with pytest.raises(DataError, match="8 label.* of 2025-02-01 arrived before that snapshot"):
        offline.record_labels(delivery, FEBRUARY, MARCH)
    assert not tables.exists("churn_labels")


def test_labels_of_unknown_and_quarantined_customers_are_kept_in_quarantine(home, delivery):
    offline.publish_snapshot(
        delivery.assign(gender=["?", *delivery["gender"][1:]]), JANUARY, JANUARY
    )
    labels = delivery.assign(customer_id=[*delivery["customer_id"][:-1], "ABSENT"])
    counts = offline.record_labels(labels, JANUARY, FEBRUARY)
    assert counts.to_dict() == {"delivered": 8, "labels_written": 6, "quarantined": 2}
    held = tables.read("quarantine")
    held = held[held["failed_column"] == "churn"].set_index("customer_id")
    assert set(held.index) == {"7590-VHVEG", "ABSENT"}
    assert held.loc["7590-VHVEG", "reason"] == "label No of a customer who is not in that snapshot"
    assert held["written_at"].eq(FEBRUARY).all() and held["line"].lt(0).all()
    again = offline.record_labels(labels, JANUARY, FEBRUARY)
    assert (
        again["labels_written"] == 0 and len(tables.read("quarantine")) == 3
    )  # with the row of the snapshot


def test_labels_of_customers_who_left_are_quarantined(home, delivery):
    offline.publish_snapshot(delivery.head(4), JANUARY, JANUARY)
    counts = offline.record_labels(delivery, JANUARY, FEBRUARY)
    assert counts.to_dict() == {"delivered": 8, "labels_written": 4, "quarantined": 4}


def test_labels_can_be_recorded_once_a_quarantined_month_is_corrected(home, delivery):
    offline.publish_snapshot(delivery.assign(gender="?"), JANUARY, JANUARY)
    assert offline.record_labels(delivery, JANUARY, FEBRUARY)["quarantined"] == 8
    offline.publish_snapshot(delivery, JANUARY, FEBRUARY)
    assert offline.record_labels(delivery, JANUARY, FEBRUARY)["labels_written"] == 8


def test_a_delivery_without_rows_is_refused(home, delivery):
    with pytest.raises(DataError, match="delivery of 2025-01-01 has no rows.*ask for it again"):
        offline.publish_snapshot(delivery.head(0), JANUARY, JANUARY)
    assert not offline.has_arrived(JANUARY)


def test_the_split_is_60_20_20_and_follows_the_hash_of_the_id(extract):
    shares = offline.split_of(extract["customer_id"]).value_counts(normalize=True)
    assert shares.to_dict() == pytest.approx(
        {"train": 0.6, "validate": 0.2, "test": 0.2}, abs=0.015
    )
    for customer, split in zip(
        extract["customer_id"].head(50),
        offline.split_of(extract["customer_id"].head(50)),
        strict=True,
    ):
        share = int(hashlib.sha256(customer.encode()).hexdigest()[:8], 16) / 2**32
        assert split == ("train" if share < 0.6 else "validate" if share < 0.8 else "test")


def test_the_split_of_a_customer_never_changes(extract):
    ids = extract["customer_id"].head(200)
    together = offline.split_of(ids)
    shuffled = offline.split_of(ids.sample(frac=1, random_state=0))
    assert together.equals(shuffled.sort_index())
    known = {
        "7590-VHVEG": "test",
        "5575-GNVDE": "train",
        "3668-QPYBK": "train",
        "7795-CFOCW": "train",
    }
    assert offline.split_of(pd.Series(list(known))).tolist() == list(known.values())


def test_a_successor_inherits_the_split_of_its_slot(home, delivery):
    successors = delivery.assign(customer_id=[f"NEW-{line}" for line in delivery.index])
    offline.publish_snapshot(successors, FEBRUARY, FEBRUARY)
    offline.record_labels(successors, FEBRUARY, MARCH, slot_ids=delivery["customer_id"])
    inherited = tables.read("churn_labels").set_index("customer_id")["split"][
        successors["customer_id"]
    ]
    assert inherited.tolist() == offline.split_of(delivery["customer_id"]).tolist()
    assert inherited.tolist() != offline.split_of(successors["customer_id"]).tolist()


def test_slots_that_do_not_match_the_rows_are_refused(home, delivery):
    offline.publish_snapshot(delivery, JANUARY, JANUARY)
    with pytest.raises(DataError):
        offline.record_labels(delivery, JANUARY, FEBRUARY, slot_ids=delivery["customer_id"].head(4))


def test_a_training_set_holds_every_label_with_all_model_inputs(first_month, extract):
    assert len(first_month) == 7043 and set(definitions.MODEL_INPUTS) <= set(first_month.columns)
    assert first_month["lookup_status"].eq("found").all()
    assert (
        first_month["features_as_of"].eq(JANUARY).all()
        and first_month["event_date"].eq(JANUARY).all()
    )
    by_id = extract.set_index("customer_id").loc[first_month["customer_id"]]
    assert first_month["churned"].tolist() == (by_id["churn"] == "Yes").tolist()
    assert (
        first_month["monthly_charges"].tolist() == by_id["monthly_charges"].astype(float).tolist()
    )


def test_a_training_set_reads_no_label_that_arrived_later(home, delivery):
    publish_labelled(delivery)
    publish_labelled(delivery, FEBRUARY)
    publish_labelled(delivery.head(2), APRIL, label_date=settings.month_start(7))
    assert set(offline.build_training_set(FEBRUARY)["event_date"]) == {JANUARY}
    assert set(offline.build_training_set(MARCH)["event_date"]) == {JANUARY, FEBRUARY}
    assert len(offline.build_training_set(settings.month_start(6))) == 16
    assert len(offline.build_training_set(settings.month_start(7))) == 18
    with pytest.raises(DataError, match="no label had arrived by 2025-01-31"):
        offline.build_training_set(pd.Timestamp("2025-01-31"))


def test_a_training_set_can_start_at_a_month(home, delivery):
    for month in (JANUARY, FEBRUARY, MARCH):
        publish_labelled(delivery, month)
    assert set(offline.build_training_set(APRIL, since=FEBRUARY)["event_date"]) == {
        FEBRUARY,
        MARCH,
    }
    with pytest.raises(DataError, match="no label had arrived"):
        offline.build_training_set(APRIL, since=APRIL)


def test_a_correction_that_arrived_with_the_labels_does_not_leak_into_training(home, delivery):
    publish_labelled(delivery)
    corrected = delivery.assign(
        payment_method="Mailed check", monthly_charges="99", total_charges="99", tenure="1"
    )
    offline.publish_snapshot(corrected, JANUARY, FEBRUARY)
    trained_on = offline.build_training_set(MARCH).set_index("customer_id")
    bills = delivery.set_index("customer_id")["monthly_charges"].astype(float)
    assert trained_on["monthly_charges"].to_dict() == bills.to_dict()


def test_a_training_set_can_be_built_again_from_the_versions_it_was_built_from(home, delivery):
    publish_labelled(delivery)
    first = offline.build_training_set(MARCH)
    versions = {table: tables.version_of(table) for table in ("customer_features", "churn_labels")}
    publish_labelled(delivery.assign(paperless_billing="Yes", partner="Yes", churn="Yes"))
    now = offline.build_training_set(MARCH)
    assert now["churned"].all() and now["partner"].eq("Yes").all() and not first["churned"].all()
    pd.testing.assert_frame_equal(offline.build_training_set(MARCH, versions), first)
    half = offline.build_training_set(MARCH, {"churn_labels": versions["churn_labels"]})
    assert half["churned"].equals(first["churned"]) and half["partner"].equals(now["partner"])


def test_labels_without_features_stay_in_the_training_set_and_out_of_the_rows(home, delivery):
    offline.publish_snapshot(
        delivery, JANUARY, FEBRUARY
    )  # arrives late: nothing is known on 1 January
    offline.record_labels(delivery, JANUARY, FEBRUARY)
    found = offline.build_training_set(FEBRUARY)
    assert found["lookup_status"].eq("no_snapshot_yet").all() and len(found) == 8
    assert found[list(definitions.MODEL_INPUTS)].isna().all(axis=None)
    with pytest.raises(
        DataError, match=r"'train' has no row with features .*'no_snapshot_yet': \d"
    ):
        offline.training_rows(found, "train")


def test_training_rows_are_those_of_one_split_ready_for_a_model(first_month):
    parts = {split: offline.training_rows(first_month, split) for split in offline.SPLITS}
    assert sum(map(len, parts.values())) == 7043
    for split, rows in parts.items():
        assert set(rows["split"]) == {split}
        assert rows.index.equals(pd.RangeIndex(len(rows)))
        assert definitions.select_model_inputs(rows).dtypes[definitions.INTEGER].eq("int64").all()


def test_training_rows_leave_out_what_was_not_found(first_month):
    damaged = first_month.head(300).copy()
    damaged.loc[damaged.index[:50], ["lookup_status", "tenure"]] = ["stale", np.nan]
    kept = pd.concat([offline.training_rows(damaged, split) for split in offline.SPLITS])
    assert set(kept["customer_id"]) == set(damaged["customer_id"][50:])


def test_an_unknown_split_is_refused(first_month):
    with pytest.raises(DataError, match="no split 'holdout'; the splits are train, validate, test"):
        offline.training_rows(first_month, "holdout")
