"""Deliveries that a person lets pass although they do not look like a month."""

from __future__ import annotations

import pandas as pd

from churn_utils import settings
from churn_utils.data import contract, delivery_checks, quarantine, table_writes, tables
from churn_utils.data.columns import CUSTOMER_COLUMNS
from churn_utils.errors import ChurnError, UsageError
from churn_utils.registry import deployments


def accept_delivery(month: str, by: str, reason: str) -> str:
    """Record in ``audit`` that a month that was held back as a whole is to be taken in.

    It holds for the very rows that were held back: another delivery of that month is checked again.
    The contract for single rows is not waived.

    Args:
        month: such as 2025-04.
        by: name of the person.
        reason: why the delivery is right.

    Returns:
        A sentence that says what was accepted, and what to do next.

    Raises:
        UsageError: no such month, a month that is not held back, was accepted before, or a blank
            name or reason.
    """
    if not by.strip() or not reason.strip():
        raise UsageError("a delivery is accepted by name and reason; one of them is blank.")
    date = _parse_month(month)
    rows = _read_held_back(date)
    digest = delivery_checks.digest_rows(rows)
    with table_writes.hold("deployments"):  # whose writers number the entries of the audit too
        earlier = deployments.list_accepted()
        if (f"{date:%Y-%m}", digest) in earlier:
            raise UsageError(f"the delivery of {date:%Y-%m} was accepted before; see the audit.")
        change = {"as_of": date, "action": deployments.ACCEPTED, "by": by, "reason": reason}
        deployments.append_audit(change | {"evidence_sha256": digest})
    return (
        f"{len(rows):,} rows of {date:%Y-%m} are accepted by {by}. The next run_all.py takes them "
        "in, decides that month again, and the months after it."
    )


def is_accepted(date: pd.Timestamp, rows: pd.DataFrame) -> bool:
    """Tell whether a person accepted these rows, which passed the contract, as those of a month."""
    of_month = [digest for month, digest in deployments.list_accepted() if month == f"{date:%Y-%m}"]
    return bool(of_month) and delivery_checks.digest_rows(rows) in of_month


def _parse_month(text: str) -> pd.Timestamp:
    """Return the first day of a month."""
    try:
        return settings.as_of_date(text.strip())
    except ChurnError as error:
        raise UsageError(f"{text!r} is no month; write one such as 2025-04.") from error


def _read_held_back(date: pd.Timestamp) -> pd.DataFrame:
    """Return the rows, typed, of the newest delivery of a month if that was held back."""
    month = f"{date:%Y-%m}"
    delivered = _read_newest("quarantine", date)
    held_back = delivered[delivered["failed_column"] == quarantine.WHOLE_DELIVERY]
    accepted = _read_newest("customers", date)
    if delivered.empty and accepted.empty:
        raise UsageError(f"no delivery of {month} has arrived in {settings.home()}.")
    if held_back.empty:
        raise UsageError(
            f"{month} is not held back as a whole. Rows that break the contract cannot be let "
            "pass; ask for a corrected file."
        )
    if len(accepted) and accepted["written_at"].max() >= held_back["written_at"].max():
        raise UsageError(f"{month} is not held back any more: {len(accepted):,} rows are in.")
    # Of two deliveries of one day the later one has replaced the earlier line by line.
    of_last = held_back["reason"] == held_back.sort_values("line")["reason"].iloc[0]
    rows, _ = contract.check_rows(held_back[of_last].set_index("line")[list(CUSTOMER_COLUMNS)])
    return rows


def _read_newest(table: str, date: pd.Timestamp) -> pd.DataFrame:
    """Return the rows of a month that were written last, without those of labels."""
    if not tables.exists(table):
        return pd.DataFrame(columns=["written_at", "failed_column"])
    rows = tables.read(table, snapshot_date=date)
    if "line" in rows:
        rows = rows[rows["line"] > 0]  # labels have lines below 0
    return rows[rows["written_at"] == rows["written_at"].max()]
