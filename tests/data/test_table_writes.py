import multiprocessing
import threading
import time

import pandas as pd
import pyarrow as pa
import pytest
from customer_bills import FEBRUARY, JANUARY, MARCH, bills, snapshot
from deltalake import DeltaTable
from table_races import ROWS, append_until, change_together

from churn_utils import settings
from churn_utils.data import table_writes, tables
from churn_utils.errors import DataError


def test_the_same_rows_twice_change_nothing_not_even_the_version(home):
    rows = snapshot(
        {"a": 10.0, "b": None, "c": 30.0},
        note=["x", None, "z"],
        left=pd.to_datetime([JANUARY, None, None]),
    )
    assert table_writes.merge("customers", rows) == 3
    assert table_writes.merge("customers", rows.iloc[::-1]) == 0
    assert tables.version_of("customers") == 0
    assert len(tables.read("customers")) == 3


def test_changed_rows_are_updated_new_ones_inserted_and_the_others_left(home):
    table_writes.merge("customers", snapshot({"a": 10.0, "b": 20.0}))
    assert table_writes.merge("customers", snapshot({"b": 25.0, "c": 30.0})) == 2
    assert bills() == {"a": 10.0, "b": 25.0, "c": 30.0}
    assert tables.version_of("customers") == 1


@pytest.mark.parametrize("before, after", [(10.0, None), (None, 10.0)])
def test_a_value_that_vanishes_or_appears_is_a_change(home, before, after):
    table_writes.merge("customers", snapshot({"a": before, "b": 1.0}))
    assert table_writes.merge("customers", snapshot({"a": after, "b": 1.0})) == 1
    assert (
        tables.read("customers")["bill"].astype(object).where(lambda s: s.notna(), None)[0] == after
    )


def test_rows_differ_by_every_part_of_the_key(home):
    table_writes.merge("customers", snapshot({"a": 1.0}))
    table_writes.merge("customers", snapshot({"a": 2.0}, written=FEBRUARY))
    table_writes.merge("customers", snapshot({"a": 3.0}, month=FEBRUARY))
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
    table_writes.merge("customers", snapshot({"a": 1.0}))
    with pytest.raises(DataError, match=message):
        table_writes.merge("customers", change(snapshot({"b": 2.0, "c": 3.0})))
    assert bills() == {"a": 1.0} and tables.version_of("customers") == 0


@pytest.mark.parametrize(
    ("table", "name"), [("customer_features", "tip"), ("customers", "gender"), ("customers", "tip")]
)
def test_a_table_of_definitions_gains_what_is_defined_later(home, table, name):
    table_writes.merge(table, snapshot({"a": 1.0, "b": 2.0}))
    later = snapshot({"b": 2.0, "c": 3.0}).assign(**{name: ["x", "y"]})
    if (table, name) == ("customers", "tip"):  # no column of the contract
        with pytest.raises(DataError, match=r"extra \['tip'\]"):
            table_writes.merge(table, later)
        return
    assert table_writes.merge(table, later) == 2 and table_writes.merge(table, later) == 0
    assert tables.read(table)[name].tolist() == [None, "x", "y"]
    assert name not in tables.read(table, version=0)


def test_a_row_that_does_not_fit_adds_no_column(home):
    table_writes.merge("customer_features", snapshot({"a": 1.0}))
    with pytest.raises(DataError, match="do not fit"):
        table_writes.merge("customer_features", snapshot({"b": "much"}).assign(tip=1))
    assert "tip" not in tables.read("customer_features")


def test_appended_features_are_added_and_null_before(home):
    rows = pa.table({"prediction_id": ["a"], "arm": ["champion"]})
    table_writes.append("inference_log", rows)
    later = pa.table({"prediction_id": ["b"], "arm": ["champion"], "tip": [2]})
    table_writes.append("inference_log", later)
    assert tables.read("inference_log")["tip"].fillna(0).tolist() == [0, 2]


@pytest.mark.parametrize("value", ["much", pytest.param("2", id="text of a number")])
def test_text_for_a_number_is_refused(home, value):
    table_writes.merge("customers", snapshot({"a": 1.0}))
    with pytest.raises(DataError):
        table_writes.merge("customers", snapshot({"b": value}))


def test_a_fraction_never_becomes_a_whole_number(home):
    table_writes.merge("customers", snapshot({"a": 1}))
    with pytest.raises(DataError):
        table_writes.merge("customers", snapshot({"b": 1.5}))


def test_merging_no_rows_into_a_table_changes_nothing(home):
    table_writes.merge("customers", snapshot({"a": 1.0}))
    assert table_writes.merge("customers", snapshot({"a": 1.0}).head(0)) == 0
    assert bills() == {"a": 1.0} and tables.version_of("customers") == 0


def test_columns_that_hold_only_nulls_round_trip_and_can_be_filled_later(home):
    empty = {"note": [None], "ended": pd.to_datetime([None]), "score": [float("nan")]}
    table_writes.merge("customers", snapshot({"a": 1.0}, **empty))
    assert tables.read("customers")[list(empty)].isna().all(axis=None)
    assert table_writes.merge("customers", snapshot({"a": 1.0}, **empty)) == 0
    table_writes.merge("customers", snapshot({"b": 2.0}, note=["x"], ended=[MARCH], score=[0.5]))
    assert tables.read("customers").loc[1, list(empty)].tolist() == ["x", MARCH, 0.5]


def test_a_null_only_column_fits_a_table_where_it_has_a_type(home):
    table_writes.merge("customers", snapshot({"a": 1.0}, ended=[MARCH], score=[0.5]))
    table_writes.merge("customers", snapshot({"b": None}, ended=[None], score=[None]))
    assert tables.read("customers").loc[1, ["bill", "ended", "score"]].isna().all()
    assert tables.read("customers")["ended"].dtype.kind == "M"


def test_features_keep_a_change_feed_for_the_online_table(home):
    table_writes.merge("customer_features", snapshot({"a": 1.0, "b": 2.0}))
    table_writes.merge("customer_features", snapshot({"b": 3.0, "c": 4.0}))
    feed = DeltaTable(str(tables.path_of("customer_features"))).load_cdf(starting_version=1)
    changes = pa.table(feed.read_all()).select(["customer_id", "bill", "_change_type"]).to_pylist()
    assert sorted(tuple(change.values()) for change in changes) == [
        ("b", 2.0, "update_preimage"),
        ("b", 3.0, "update_postimage"),
        ("c", 4.0, "insert"),
    ]


def test_a_table_can_be_taken_back_and_its_history_stays(home):
    table_writes.merge("customers", snapshot({"a": 10.0}))
    table_writes.merge("customers", snapshot({"a": 11.0, "b": 20.0}))
    table_writes.rewind("customers", 0)
    assert bills() == {"a": 10.0} and bills(version=1) == {"a": 11.0, "b": 20.0}
    table_writes.rewind("customers", None)
    assert bills() == {} and bills(version=1) == {"a": 11.0, "b": 20.0}
    table_writes.merge("customers", snapshot({"c": 30.0}))
    assert bills() == {"c": 30.0}


def test_taking_a_table_back_to_where_it_stands_changes_nothing(home):
    table_writes.rewind("customers", None)  # it was never written
    table_writes.merge("customers", snapshot({"a": 10.0}))
    table_writes.rewind("customers", 0)
    assert tables.version_of("customers") == 0


def test_appended_rows_are_added_and_wrong_columns_refused(home):
    rows = pa.table({"prediction_id": ["a"], "arm": ["champion"]})
    for _ in range(2):
        table_writes.append("inference_log", rows)
    assert tables.read("inference_log")["prediction_id"].tolist() == ["a", "a"]
    with pytest.raises(DataError, match=r"missing \['arm'\]"):
        table_writes.append("inference_log", rows.drop_columns("arm"))


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
        table_writes.delete_all()
        time.sleep(0.02)
    stop.set()
    writer.join()
    assert errors == []
    (settings.lakehouse() / "invoices").mkdir()  # as an earlier state of the project may have left
    table_writes.delete_all()
    assert {path.suffix for path in settings.lakehouse().iterdir()} == {".lock"}
