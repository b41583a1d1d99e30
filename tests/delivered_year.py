"""A company's months of which two are bad, one is late, one is corrected and one is missing."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from churn_utils.data import tables
from churn_utils.data.files import write_csv

SUCCESSOR = re.compile(r"-m\d+$")  # of a customer who left, at the end of the new one's id
REASON = "half of the customers were sold"


@dataclass(frozen=True)
class Step:
    """What is to be seen once the files of a step have come.

    Attributes:
        last: last month that can be run.
        waiting: begins what is waited for after it.
        decisions: by month, those that are new or made again.
        accepted: month that a person lets pass before the run; empty if none.
    """

    last: str
    waiting: str
    decisions: dict[str, str] = field(default_factory=dict)
    accepted: str = ""


@dataclass(frozen=True)
class Company:
    """Sends the months of a folder into another one, whose months are run."""

    exported: Path
    target: Path

    def send_customers(self, month, change=lambda rows: rows, name="customers", folder=None):
        rows = pd.read_csv(self.exported / month / "customers.csv", dtype=str)
        write_csv(self.target / (folder or month) / f"{name}.csv", change(rows))

    def send_labels(self, month, change=lambda rows: rows):
        rows = pd.read_csv(self.exported / month / "labels.csv", dtype=str)
        write_csv(self.target / month / "labels.csv", change(rows))


def keep_half(rows):
    """Keep the customers of half of the lines, and those who come after them."""
    first = rows["customerID"].str.replace(SUCCESSOR, "", regex=True)
    is_kept = pd.util.hash_pandas_object(first, index=False) % 2 == 0
    return rows[is_kept.to_numpy()]


def in_cents(rows):
    """Send all charges in cents."""
    charges = ["MonthlyCharges", "TotalCharges"]
    return rows.assign(**{name: rows[name].astype(float) * 100 for name in charges})


def play(company):
    """Send the months 2025-01 to 2025-08, and yield what is to be seen after each step."""
    company.send_customers("2025-01")
    company.send_labels("2025-01")
    company.send_customers("2025-02")
    yield Step("2025-02", "2025-03: ")
    company.send_labels("2025-02")
    company.send_customers("2025-03", keep_half)  # looks like a damaged delivery
    yield Step("2025-03", "2025-04: ", {"2025-03": "quarantine"})
    yield Step("2025-03", "2025-04: ", {"2025-03": "ok"}, accepted="2025-03")
    company.send_customers("2025-04", keep_half)
    yield Step("2025-03", "2025-04: its customers are there, the labels of 2025-03 are not")
    company.send_labels("2025-03", keep_half)  # late
    yield Step("2025-04", "2025-05: ", {"2025-04": "ok"})
    company.send_labels("2025-04", keep_half)
    company.send_customers("2025-05", lambda rows: in_cents(keep_half(rows)))
    yield Step("2025-05", "2025-06: ", {"2025-05": "quarantine"})
    company.send_labels("2025-05", keep_half)
    company.send_customers("2025-06", keep_half)
    company.send_customers("2025-05", keep_half, "customers-2025-05", "2025-06")  # corrected
    yield Step("2025-06", "2025-07: ", {"2025-06": "ok"})
    company.send_labels("2025-06", keep_half)
    company.send_customers("2025-08", keep_half)
    yield Step("2025-06", "2025-07: ")
    company.send_customers("2025-06", keep_half, "customers", "2025-07")  # the best that is known
    company.send_labels("2025-07", keep_half)
    yield Step("2025-08", "2025-09: ", {"2025-07": "quarantine", "2025-08": "ok"})


def find_lost(target):
    """List the delivered customers and labels that are in no table, by file."""
    quarantined = tables.read("quarantine")
    lost = {}
    for path in sorted(target.rglob("*.csv")):
        kind, _, named = path.stem.partition("-")
        month = pd.Timestamp(named or path.parent.name)
        table = {"customers": "customers", "labels": "churn_labels"}[kind]
        kept = tables.read(table, snapshot_date=month)
        held = quarantined[quarantined["snapshot_date"] == month]
        is_label = held["line"] < 0
        held = held[is_label if kind == "labels" else ~is_label]
        ids = pd.read_csv(path, dtype=str)["customerID"]
        is_lost = ~ids.isin([*kept["customer_id"], *held["customer_id"]])
        if is_lost.any():
            lost[str(path)] = ids[is_lost].tolist()
    return lost
