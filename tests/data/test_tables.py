import multiprocessing
import threading
import time

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from table_races import ROWS, append_until, change_together

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.errors import DataError

JANUARY, FEBRUARY, MARCH = (settings.month_start(month) for month in range(3))


def snapshot(bills, month=JANUARY, written=None, **others):
    """Rows of ``customers``: a bill for each customer."""
    return pd.DataFrame(
        {
            "customer_id": list(bills),
            "snapshot_date": month,
            "written_at": month if written is None else written,
            "bill": list(bills.values()),
            **others,
        }
    )


def bills(**which):
    frame = tables.read("customers", **which)
    return dict(zip(frame["customer_id"], frame["bill"], strict=True))


def test_the_same_rows_twice_change_nothing_not_even_the_version(home):
    rows = snapshot(
        {"a": 10.0, "b": None, "c": 30.0},
        note=["x", None, "z"],
        left=pd.to_datetime([JANUARY, None, None]),
    )
    assert tables.merge("customers", rows) == 3
    assert tables.merge("customers", rows.iloc[::-1]) == 0
    assert tables.version_of("customers") == 0
    assert len(tables.read("customers")) == 3


def test_changed_rows_are_updated_new_ones_inserted_and_the_others_left(home):
    tables.merge("customers", snapshot({"a": 10.0, "b": 20.0}))
    assert tables.merge("customers", snapshot({"b": 25.0, "c": 30.0})) == 2
    assert bills() == {"a": 10.0, "b": 25.0, "c": 30.0}
    assert tables.version_of("customers") == 1


@pytest.mark.parametrize("before, after", [(10.0, None), (None, 10.0)])
def test_a_value_that_vanishes_or_appears_is_a_change(home, before, after):
    tables.merge("customers", snapshot({"a": before, "b": 1.0}))
    assert tables.merge("customers", snapshot({"a": after, "b": 1.0})) == 1
    assert (
        tables.read("customers")["bill"].astype(object).where(lambda s: s.notna(), None)[0] == after
    )


def test_rows_differ_by_every_part_of_the_key(home):
    tables.merge("customers", snapshot({"a": 1.0}))
    tables.merge("customers", snapshot({"a": 2.0}, written=FEBRUARY))
    tables.merge("customers", snapshot({"a": 3.0}, month=FEBRUARY))
    assert tables.read("customers")["bill"].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda rows: rows.drop(columns="written_at"), "lack the key column.* written_at"),
        (
            lambda rows: rows.assign(customer_id=["a", None]),
            r"1 row\(s\) for customers have a null in the key",
        ),
        (
            lambda rows: rows.assign(written_at=pd.NaT),
            r"2 row\(s\) for customers have a null in the key",
        ),
        (
            lambda rows: rows.assign(customer_id="a"),
            "2 rows for customers share a key.*'customer_id': 'a'",
        ),
        (lambda rows: rows.assign(tip=1.0), r"missing \[\], extra \['tip'\]"),
        (lambda rows: rows.drop(columns="bill"), r"missing \['bill'\], extra \[\]"),
    ],
)
def test_rows_that_do_not_fit_their_table_are_refused_and_nothing_is_written(home, change, message):
    tables.merge("customers", snapshot({"a": 1.0}))
    with pytest.raises(DataError, match=message):
        tables.merge("customers", change(snapshot({"b": 2.0, "c": 3.0})))
    assert bills() == {"a": 1.0} and tables.version_of("customers") == 0


@pytest.mark.parametrize(
    ("table", "name"), [("customer_features", "tip"), ("customers", "gender"), ("customers", "tip")]
)
def test_a_table_of_definitions_gains_what_is_defined_later(home, table, name):
    tables.merge(table, snapshot({"a": 1.0, "b": 2.0}))
    later = snapshot({"b": 2.0, "c": 3.0}).assign(**{name: ["x", "y"]})
    if (table, name) == ("customers", "tip"):  # no column of the contract
        with pytest.raises(DataError, match=r"extra \['tip'\]"):
            tables.merge(table, later)
        return
    assert tables.merge(table, later) == 2 and tables.merge(table, later) == 0
    assert tables.read(table)[name].tolist() == [None, "x", "y"]
    assert name not in tables.read(table, version=0)


def test_a_row_that_does_not_fit_adds_no_column(home):
    tables.merge("customer_features", snapshot({"a": 1.0}))
    with pytest.raises(DataError, match="do not fit"):
        tables.merge("customer_features", snapshot({"b": "much"}).assign(tip=1))
    assert "tip" not in tables.read("customer_features")


def test_appended_features_are_added_and_null_before(home):
    rows = pa.table({"prediction_id": ["a"], "arm": ["champion"]})
    tables.append("inference_log", rows)
    later = pa.table({"prediction_id": ["b"], "arm": ["champion"], "tip": [2]})
    tables.append("inference_log", later)
    assert tables.read("inference_log")["tip"].fillna(0).tolist() == [0, 2]


@pytest.mark.parametrize("value", ["much", pytest.param("2", id="text of a number")])
def test_text_for_a_number_is_refused(home, value):
    tables.merge("customers", snapshot({"a": 1.0}))
    with pytest.raises(DataError):
        tables.merge("customers", snapshot({"b": value}))


def test_a_fraction_never_becomes_a_whole_number(home):
    tables.merge("customers", snapshot({"a": 1}))
    with pytest.raises(DataError):
        tables.merge("customers", snapshot({"b": 1.5}))


def test_two_times_of_one_day_share_a_key(home):
    rows = pd.concat(
        [snapshot({"a": 1.0}), snapshot({"a": 2.0}, written=JANUARY + pd.Timedelta(hours=3))]
    )
    with pytest.raises(DataError):
        tables.merge("customers", rows)


def test_as_of_a_date_each_row_has_its_latest_writing_up_to_then(home):
    tables.merge("customers", snapshot({"a": 1.0, "b": 2.0}))
    tables.merge("customers", snapshot({"a": 1.5}, written=MARCH))
    tables.merge("customers", snapshot({"a": 7.0}, written=FEBRUARY))
    assert bills(as_of=JANUARY - pd.Timedelta(days=1)) == {}
    assert bills(as_of=JANUARY) == {"a": 1.0, "b": 2.0}
    assert bills(as_of=MARCH - pd.Timedelta(days=1)) == {"a": 7.0, "b": 2.0}
    assert bills(as_of=MARCH) == {"a": 1.5, "b": 2.0}
    assert len(tables.read("customers")) == 4


def test_as_of_a_date_every_snapshot_is_kept_and_one_can_be_chosen(home):
    for month in (JANUARY, FEBRUARY):
        tables.merge("customers", snapshot({"a": float(month.month)}, month=month))
    tables.merge("customers", snapshot({"a": 9.0}, month=JANUARY, written=MARCH))
    assert tables.read("customers", as_of=MARCH)["bill"].tolist() == [9.0, 2.0]
    assert bills(as_of=MARCH, snapshot_date=JANUARY) == {"a": 9.0}
    assert bills(as_of=FEBRUARY, snapshot_date=JANUARY) == {"a": 1.0}


def test_a_version_reads_what_the_table_held_then(home):
    tables.merge("customers", snapshot({"a": 10.0, "b": 20.0}))
    tables.merge("customers", snapshot({"a": 11.0, "c": 30.0}))
    assert bills(version=0) == {"a": 10.0, "b": 20.0}
    assert bills(version=1) == bills() == {"a": 11.0, "b": 20.0, "c": 30.0}


@pytest.mark.parametrize("version", [2, 99, -1])
def test_a_version_that_never_was_is_refused_with_those_that_are(home, version):
    tables.merge("customers", snapshot({"a": 1.0}))
    tables.merge("customers", snapshot({"a": 2.0}))
    with pytest.raises(DataError, match=f"has no version {version}; it has 0 to 1"):
        tables.read("customers", version=version)


def test_a_table_that_the_design_does_not_know_is_refused_with_those_it_knows(home):
    for act in (
        tables.read,
        tables.exists,
        tables.version_of,
        lambda table: tables.merge(table, None),
    ):
        with pytest.raises(
            DataError, match="no table 'invoices'; the tables are customers, quarantine"
        ):
            act("invoices")


def test_a_table_that_was_never_written_is_refused_by_name_and_place(home):
    assert not tables.exists("customers")
    assert tables.merge("customers", snapshot({})) == 0
    assert not tables.exists("customers")
    with pytest.raises(DataError, match=f"customers is empty or was never written in {home}"):
        tables.read("customers")


def test_merging_no_rows_into_a_table_changes_nothing(home):
    tables.merge("customers", snapshot({"a": 1.0}))
    assert tables.merge("customers", snapshot({"a": 1.0}).head(0)) == 0
    assert bills() == {"a": 1.0} and tables.version_of("customers") == 0


def test_a_table_without_written_at_cannot_be_read_as_of_a_date(home):
    labels = snapshot({"a": 1.0}).drop(columns="written_at")
    tables.merge("churn_labels", labels)
    with pytest.raises(DataError, match="churn_labels has no written_at"):
        tables.read("churn_labels", as_of=MARCH)


def test_every_type_comes_back_as_it_went_in(home):
    rows = snapshot(
        {"a": 10.5, "b": -0.1},
        count=pd.Series([1, 2**40], dtype="int64"),
        flag=[True, False],
        text=['Ärger, "quoted"', ""],
        ended=pd.to_datetime(["2025-02-28", None]),
    )
    tables.merge("customers", rows)
    back = tables.read("customers")
    dates = dict.fromkeys(["snapshot_date", "written_at", "ended"], "datetime64[ns]")
    pd.testing.assert_frame_equal(back[rows.columns].astype(dates), rows.astype(dates))
    kinds = {name: kind.kind for name, kind in back.dtypes.items()}
    assert kinds == {
        "customer_id": "O",
        "snapshot_date": "M",
        "written_at": "M",
        "bill": "f",
        "count": "i",
        "flag": "b",
        "text": "O",
        "ended": "M",
    }
    fields = {
        field.name: field.type.type
        for field in DeltaTable(str(tables.path_of("customers"))).schema().fields
    }
    assert fields["snapshot_date"] == fields["ended"] == "date"


def test_columns_that_hold_only_nulls_round_trip_and_can_be_filled_later(home):
    empty = {"note": [None], "ended": pd.to_datetime([None]), "score": [float("nan")]}
    tables.merge("customers", snapshot({"a": 1.0}, **empty))
    assert tables.read("customers")[list(empty)].isna().all(axis=None)
    assert tables.merge("customers", snapshot({"a": 1.0}, **empty)) == 0
    tables.merge("customers", snapshot({"b": 2.0}, note=["x"], ended=[MARCH], score=[0.5]))
    assert tables.read("customers").loc[1, list(empty)].tolist() == ["x", MARCH, 0.5]


def test_a_null_only_column_fits_a_table_where_it_has_a_type(home):
    tables.merge("customers", snapshot({"a": 1.0}, ended=[MARCH], score=[0.5]))
    tables.merge("customers", snapshot({"b": None}, ended=[None], score=[None]))
    assert tables.read("customers").loc[1, ["bill", "ended", "score"]].isna().all()
    assert tables.read("customers")["ended"].dtype.kind == "M"


def test_rows_come_sorted_by_key_and_only_with_the_columns_asked_for(home):
    tables.merge("customers", snapshot({"c": 3.0, "a": 1.0, "b": 2.0}))
    tables.merge("customers", snapshot({"aa": 1.5}))
    assert tables.read("customers")["customer_id"].tolist() == ["a", "aa", "b", "c"]
    some = tables.read("customers", columns=["bill", "customer_id"], as_of=MARCH)
    assert some.columns.tolist() == ["bill", "customer_id"] and some["bill"].tolist() == [
        1.0,
        1.5,
        2.0,
        3.0,
    ]


def test_features_keep_a_change_feed_for_the_online_table(home):
    tables.merge("customer_features", snapshot({"a": 1.0, "b": 2.0}))
    tables.merge("customer_features", snapshot({"b": 3.0, "c": 4.0}))
    feed = DeltaTable(str(tables.path_of("customer_features"))).load_cdf(starting_version=1)
    changes = pa.table(feed.read_all()).select(["customer_id", "bill", "_change_type"]).to_pylist()
    assert sorted(tuple(change.values()) for change in changes) == [
        ("b", 2.0, "update_preimage"),
        ("b", 3.0, "update_postimage"),
        ("c", 4.0, "insert"),
    ]


def test_describe_tables_lists_what_is_there(home):
    assert tables.describe_tables().empty
    tables.merge("customers", snapshot({"a": 1.0}))
    tables.merge("customers", snapshot({"b": 2.0, "c": 3.0}))
    tables.merge("churn_labels", snapshot({"a": 1.0}).drop(columns="written_at"))
    found = tables.describe_tables().set_index("table")
    assert found.index.tolist() == ["customers", "churn_labels"]
    assert found.loc["customers", ["key", "version", "rows", "columns"]].tolist() == [
        "customer_id, snapshot_date, written_at",
        1,
        3,
        4,
    ]
    assert found.loc["customers", "files"] == len(
        list(tables.path_of("customers").rglob("*.parquet"))
    )


def test_a_home_with_spaces_and_umlauts_works(home, monkeypatch):
    monkeypatch.setenv("CHURN_HOME", str(home / "Meine Läufe #1"))
    tables.merge("customers", snapshot({"a": 1.0}))
    tables.merge("customers", snapshot({"a": 2.0}))
    assert bills(version=0) == {"a": 1.0} and bills() == {"a": 2.0}


def test_a_table_can_be_taken_back_and_its_history_stays(home):
    tables.merge("customers", snapshot({"a": 10.0}))
    tables.merge("customers", snapshot({"a": 11.0, "b": 20.0}))
    tables.rewind("customers", 0)
    assert bills() == {"a": 10.0} and bills(version=1) == {"a": 11.0, "b": 20.0}
    tables.rewind("customers", None)
    assert bills() == {} and bills(version=1) == {"a": 11.0, "b": 20.0}
    tables.merge("customers", snapshot({"c": 30.0}))
    assert bills() == {"c": 30.0}


def test_taking_a_table_back_to_where_it_stands_changes_nothing(home):
    tables.rewind("customers", None)  # it was never written
    tables.merge("customers", snapshot({"a": 10.0}))
    tables.rewind("customers", 0)
    assert tables.version_of("customers") == 0


def test_appended_rows_are_added_and_wrong_columns_refused(home):
    rows = pa.table({"prediction_id": ["a"], "arm": ["champion"]})
    for _ in range(2):
        tables.append("inference_log", rows)
    assert tables.read("inference_log")["prediction_id"].tolist() == ["a", "a"]
    with pytest.raises(DataError, match=r"missing \['arm'\]"):
        tables.append("inference_log", rows.drop_columns("arm"))


ROUNDS = [pytest.param(2, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.long)]


@pytest.mark.parametrize("rounds", ROUNDS)
def test_two_processes_that_change_a_table_both_succeed(tmp_path, monkeypatch, rounds):
    homes = [str(tmp_path / str(number)) for number in range(rounds)]
    context = multiprocessing.get_context("spawn")
    barrier, errors = context.Barrier(2), context.Queue()
    workers = [
        context.Process(target=change_together, args=(homes, worker, barrier, errors))
        for worker in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
    assert [worker.exitcode for worker in workers] == [0, 0] and errors.empty()
    for home in homes:
        monkeypatch.setenv("CHURN_HOME", home)
        labels = tables.read("churn_labels")
        assert len(labels) == ROWS and labels["bill"].nunique() == 1
        counts = tables.read("inference_log")["prediction_id"].value_counts()
        assert counts.to_dict() == {"of 0": ROWS, "of 1": ROWS}


def test_tables_are_deleted_while_one_is_written(home):
    stop, errors = threading.Event(), []
    writer = threading.Thread(target=append_until, args=(stop, errors))
    writer.start()
    for _ in range(3):
        tables.delete_all()
        time.sleep(0.02)
    stop.set()
    writer.join()
    assert errors == []
    (settings.lakehouse() / "invoices").mkdir()  # as an earlier state of the project may have left
    tables.delete_all()
    assert {path.suffix for path in settings.lakehouse().iterdir()} == {".lock"}


def test_the_change_marker_moves_with_every_version(home):
    assert tables.read_change_marker("inference_log") == 0
    seen = set()
    for _ in range(3):
        tables.append("inference_log", pa.table({"prediction_id": ["a"]}))
        seen.add(tables.read_change_marker("inference_log"))
        time.sleep(0.01)
    assert len(seen) == 3


def test_a_table_of_an_earlier_state_of_the_project_says_what_to_do(home):
    tables.append("deployments", pa.table({"version": [1]}))
    for columns in (None, ["version"]):
        with pytest.raises(DataError, match="deployments of this home has no entry.*--fresh"):
            tables.read("deployments", columns=columns)
