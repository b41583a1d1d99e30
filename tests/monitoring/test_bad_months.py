"""Months in a folder that are not as they should be: what is said, and that no row is lost."""

import resource
from contextlib import contextmanager

import pandas as pd
import pytest

from churn_utils import causes
from churn_utils.data import tables
from churn_utils.data.files import write_csv
from churn_utils.errors import DataError
from churn_utils.features import publishing
from churn_utils.monitoring.ingestion import ingest_month
from churn_utils.upstream import intake, months
from churn_utils.upstream.folder import CUSTOMER_NAMES, LABEL_NAMES

JANUARY, FEBRUARY, MARCH = pd.date_range("2026-01", periods=3, freq="MS")
ROWS = 400
LIMIT_BYTES = 20_000  # of a file; those of a month are larger


@pytest.fixture
def folder(home, extract, tmp_path):
    """Three months of the same customers, and a home that took in the first one.

    The home is bound to the folder.
    """
    path = tmp_path / "months"
    names = {ours: name for name, ours in CUSTOMER_NAMES.items()}
    rows = extract.head(ROWS)
    for number, month in enumerate((JANUARY, FEBRUARY, MARCH)):
        write_csv(
            path / f"{month:%Y-%m}" / "customers.csv", grow(rows, number).rename(columns=names)
        )
        labels = rows.rename(columns={ours: name for name, ours in LABEL_NAMES.items()})
        write_csv(path / f"{month:%Y-%m}" / "labels.csv", labels[list(LABEL_NAMES)])
    months.bind_home(open_folder(path))
    take_first(path)
    return path


def grow(rows, number):
    """Return customers some months later, when everybody has stayed and was billed as before."""
    bills = rows["monthly_charges"].astype(float)
    total = pd.to_numeric(rows["total_charges"], errors="coerce").fillna(0) + number * bills
    tenure = rows["tenure"].astype(int) + number
    grown = rows.assign(tenure=tenure, total_charges=total.round(2).astype(object))
    grown.loc[tenure == 0, "total_charges"] = ""
    return grown[list(CUSTOMER_NAMES.values())]


def open_folder(path):
    return months.open_source("", 0, str(path))


def take_first(path):
    """Take in the first month, as notebook 01 does."""
    arrival = months.arrive(open_folder(path), JANUARY)
    publishing.publish_snapshot(arrival.snapshots[JANUARY], JANUARY, JANUARY)
    months.record(arrival)


def take(path, *dates):
    """Take in months; return what became of the last one."""
    return [ingest_month(date, open_folder(path)) for date in dates][-1]


def change(path, edit, name="customers"):
    """Edit February's file."""
    file = path / "2026-02" / f"{name}.csv"
    write_csv(file, edit(pd.read_csv(file, dtype=str, keep_default_na=False)))


def count_rows(month):
    """Return the numbers of customers who are in the tables, and of lines that are held back."""
    held = tables.read("quarantine", snapshot_date=month)
    return len(tables.read("customers", snapshot_date=month)), int((held["line"] > 0).sum())


def test_sound_months_are_taken_in(folder):
    assert not take(folder, FEBRUARY, MARCH).faults
    assert count_rows(MARCH) == (ROWS, 0)
    assert len(tables.read("churn_labels")) == 2 * ROWS


HELD_BACK = {
    "half of the rows": (lambda rows: rows.head(ROWS // 2), "200 rows, 400 the month before"),
    "a missing segment": (
        lambda rows: rows[rows["InternetService"] != "DSL"],
        "internet_service",
    ),
    "the month before": (None, "its rows are those of 2026-01"),
}


@pytest.mark.parametrize("name", HELD_BACK)
def test_what_is_no_month_is_held_back_and_the_next_goes_on(folder, name):
    edit, reason = HELD_BACK[name]
    before = pd.read_csv(folder / "2026-01" / "customers.csv", dtype=str, keep_default_na=False)
    change(folder, edit or (lambda rows: before))
    delivered = len(pd.read_csv(folder / "2026-02" / "customers.csv"))
    assert reason in "; ".join(take(folder, FEBRUARY).faults)
    assert count_rows(FEBRUARY) == (0, delivered)
    assert not take(folder, MARCH).faults


def test_rows_that_share_an_id_are_quarantined_alone(folder):
    change(folder, lambda rows: pd.concat([rows, rows.head(1).assign(MonthlyCharges="99.5")]))
    assert not take(folder, FEBRUARY).faults
    assert count_rows(FEBRUARY) == (ROWS - 1, 2)
    reasons = tables.read("quarantine", snapshot_date=FEBRUARY)["reason"]
    assert reasons.tolist() == ["customer_id is not unique"] * 2


def test_labels_of_strangers_stop_a_month_until_they_are_mended(folder):
    take(folder, FEBRUARY)
    sound = (folder / "2026-02" / "labels.csv").read_bytes()
    change(folder, lambda rows: rows.assign(customerID="X" + rows["customerID"]), "labels")
    with pytest.raises(DataError, match="400 of 400 customers of 2026-02 have no label .*'X"):
        take(folder, MARCH)
    assert {entry.as_of for entry in intake.read_entries()} == {"2026-01", "2026-02"}
    (folder / "2026-02" / "labels.csv").write_bytes(sound)
    take(folder, MARCH)
    assert len(tables.read("churn_labels", snapshot_date=FEBRUARY)) == ROWS


def test_another_header_stops_a_month_until_it_is_mended(folder):
    change(folder, lambda rows: rows.rename(columns={"Contract": "ContractType"}))
    with pytest.raises(DataError, match="'ContractType' looks like Contract"):
        take(folder, FEBRUARY)
    change(folder, lambda rows: rows.rename(columns={"ContractType": "Contract"}))
    assert take(folder, FEBRUARY).accepted == ROWS


@contextmanager
def small_disk():
    """No file can grow beyond a few bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_nothing_and_is_named(folder, home):
    with small_disk(), pytest.raises(OSError) as refused:
        take(folder, FEBRUARY)
    cause = causes.explain_error(refused.value)
    assert "deliveries/2026-02" in cause and causes.NO_ROOM in cause
    assert [entry.as_of for entry in intake.read_entries()] == ["2026-01"]
    assert list(home.rglob("*.partial")) == []
    assert take(folder, FEBRUARY).accepted == ROWS
