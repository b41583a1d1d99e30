import numpy as np
import pandas as pd
import pytest

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.errors import DataError
from churn_utils.features import definitions, labelling, model_inputs, offline, publishing

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


def publish_labelled(rows, month=JANUARY, label_date=None):
    publishing.publish_snapshot(rows, month, month)
    labelling.record_labels(
        rows, month, month + pd.DateOffset(months=1) if label_date is None else label_date
    )


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
    publishing.publish_snapshot(corrected, JANUARY, FEBRUARY)
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
    publishing.publish_snapshot(
        delivery, JANUARY, FEBRUARY
    )  # arrives late: nothing is known on 1 January
    labelling.record_labels(delivery, JANUARY, FEBRUARY)
    found = offline.build_training_set(FEBRUARY)
    assert found["lookup_status"].eq("no_snapshot_yet").all() and len(found) == 8
    assert found[list(definitions.MODEL_INPUTS)].isna().all(axis=None)
    with pytest.raises(
        DataError, match=r"'train' has no row with features .*'no_snapshot_yet': \d"
    ):
        offline.training_rows(found, "train")


def test_training_rows_are_those_of_one_split_ready_for_a_model(first_month):
    parts = {split: offline.training_rows(first_month, split) for split in labelling.SPLITS}
    assert sum(map(len, parts.values())) == 7043
    for split, rows in parts.items():
        assert set(rows["split"]) == {split}
        assert rows.index.equals(pd.RangeIndex(len(rows)))
        assert model_inputs.select_model_inputs(rows).dtypes[definitions.INTEGER].eq("int64").all()


def test_training_rows_leave_out_what_was_not_found(first_month):
    damaged = first_month.head(300).copy()
    damaged.loc[damaged.index[:50], ["lookup_status", "tenure"]] = ["stale", np.nan]
    kept = pd.concat([offline.training_rows(damaged, split) for split in labelling.SPLITS])
    assert set(kept["customer_id"]) == set(damaged["customer_id"][50:])


def test_an_unknown_split_is_refused(first_month):
    with pytest.raises(DataError, match="no split 'holdout'; the splits are train, validate, test"):
        offline.training_rows(first_month, "holdout")
