import time

import pandas as pd
import pyarrow as pa
import pytest
from customer_bills import FEBRUARY, JANUARY, MARCH, bills, snapshot
from deltalake import DeltaTable

from churn_utils.data import table_writes, tables
from churn_utils.errors import DataError


def test_two_times_of_one_day_share_a_key(home):
    rows = pd.concat(
        [snapshot({"a": 1.0}), snapshot({"a": 2.0}, written=JANUARY + pd.Timedelta(hours=3))]
    )
    with pytest.raises(DataError):
        table_writes.merge("customers", rows)


def test_as_of_a_date_each_row_has_its_latest_writing_up_to_then(home):
    table_writes.merge("customers", snapshot({"a": 1.0, "b": 2.0}))
    table_writes.merge("customers", snapshot({"a": 1.5}, written=MARCH))
    table_writes.merge("customers", snapshot({"a": 7.0}, written=FEBRUARY))
    assert bills(as_of=JANUARY - pd.Timedelta(days=1)) == {}
    assert bills(as_of=JANUARY) == {"a": 1.0, "b": 2.0}
    assert bills(as_of=MARCH - pd.Timedelta(days=1)) == {"a": 7.0, "b": 2.0}
    assert bills(as_of=MARCH) == {"a": 1.5, "b": 2.0}
    assert len(tables.read("customers")) == 4


def test_as_of_a_date_every_snapshot_is_kept_and_one_can_be_chosen(home):
    for month in (JANUARY, FEBRUARY):
        table_writes.merge("customers", snapshot({"a": float(month.month)}, month=month))
    table_writes.merge("customers", snapshot({"a": 9.0}, month=JANUARY, written=MARCH))
    assert tables.read("customers", as_of=MARCH)["bill"].tolist() == [9.0, 2.0]
    assert bills(as_of=MARCH, snapshot_date=JANUARY) == {"a": 9.0}
    assert bills(as_of=FEBRUARY, snapshot_date=JANUARY) == {"a": 1.0}


def test_a_version_reads_what_the_table_held_then(home):
    table_writes.merge("customers", snapshot({"a": 10.0, "b": 20.0}))
    table_writes.merge("customers", snapshot({"a": 11.0, "c": 30.0}))
    assert bills(version=0) == {"a": 10.0, "b": 20.0}
    assert bills(version=1) == bills() == {"a": 11.0, "b": 20.0, "c": 30.0}


@pytest.mark.parametrize("version", [2, 99, -1])
def test_a_version_that_never_was_is_refused_with_those_that_are(home, version):
    table_writes.merge("customers", snapshot({"a": 1.0}))
    table_writes.merge("customers", snapshot({"a": 2.0}))
    with pytest.raises(DataError, match=f"has no version {version}; it has 0 to 1"):
        tables.read("customers", version=version)


def test_a_table_that_the_design_does_not_know_is_refused_with_those_it_knows(home):
    for act in (
        tables.read,
        tables.exists,
        tables.version_of,
        lambda table: table_writes.merge(table, None),
    ):
        with pytest.raises(
            DataError, match="no table 'invoices'; the tables are customers, quarantine"
        ):
            act("invoices")


def test_a_table_that_was_never_written_is_refused_by_name_and_place(home):
    assert not tables.exists("customers")
    assert table_writes.merge("customers", snapshot({})) == 0
    assert not tables.exists("customers")
    with pytest.raises(DataError, match=f"customers is empty or was never written in {home}"):
        tables.read("customers")


def test_a_table_without_written_at_cannot_be_read_as_of_a_date(home):
    labels = snapshot({"a": 1.0}).drop(columns="written_at")
    table_writes.merge("churn_labels", labels)
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
    table_writes.merge("customers", rows)
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


def test_rows_come_sorted_by_key_and_only_with_the_columns_asked_for(home):
    table_writes.merge("customers", snapshot({"c": 3.0, "a": 1.0, "b": 2.0}))
    table_writes.merge("customers", snapshot({"aa": 1.5}))
    assert tables.read("customers")["customer_id"].tolist() == ["a", "aa", "b", "c"]
    some = tables.read("customers", columns=["bill", "customer_id"], as_of=MARCH)
    assert some.columns.tolist() == ["bill", "customer_id"] and some["bill"].tolist() == [
        1.0,
        1.5,
        2.0,
        3.0,
    ]


def test_describe_tables_lists_what_is_there(home):
    assert tables.describe_tables().empty
    table_writes.merge("customers", snapshot({"a": 1.0}))
    table_writes.merge("customers", snapshot({"b": 2.0, "c": 3.0}))
    table_writes.merge("churn_labels", snapshot({"a": 1.0}).drop(columns="written_at"))
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
    table_writes.merge("customers", snapshot({"a": 1.0}))
    table_writes.merge("customers", snapshot({"a": 2.0}))
    assert bills(version=0) == {"a": 1.0} and bills() == {"a": 2.0}


def test_the_change_marker_moves_with_every_version(home):
    assert tables.read_change_marker("inference_log") == 0
    seen = set()
    for _ in range(3):
        table_writes.append("inference_log", pa.table({"prediction_id": ["a"]}))
        seen.add(tables.read_change_marker("inference_log"))
        time.sleep(0.01)
    assert len(seen) == 3


def test_a_table_of_an_earlier_state_of_the_project_says_what_to_do(home):
    table_writes.append("deployments", pa.table({"version": [1]}))
    for columns in (None, ["version"]):
        with pytest.raises(DataError, match="deployments of this home has no entry.*--fresh"):
            tables.read("deployments", columns=columns)
