"""Ingest what arrives at a month: corrections, the labels of the month before, the snapshot."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from churn_utils.data import delivery_checks, tables
from churn_utils.errors import DataError
from churn_utils.features import labelling, offers, publishing
from churn_utils.features.publishing import PublishedSnapshot
from churn_utils.monitoring import accepted_deliveries
from churn_utils.upstream import months
from churn_utils.upstream.months import ONE_MONTH, Arrival, MonthSource

MONTHS_COMPARED = 6  # how far back an accepted month is looked for
UNLABELLED_SHARE = 0.2  # of a month's customers, above which labels are refused


def ingest_month(as_of: pd.Timestamp, source: MonthSource) -> PublishedSnapshot:
    """Ingest what a source delivers at an as-of month; see ``ingest``."""
    return ingest(months.arrive(source, as_of))


def ingest(arrival: Arrival) -> PublishedSnapshot:
    """Ingest what arrived at a month; rows are merged, so doing it twice changes nothing.

    A delivery that does not look like a month of the same customers (``delivery_checks``) is held
    back as a whole: its rows go to ``quarantine``, unless a person has accepted them
    (``accepted_deliveries``).

    Returns:
        What became of the snapshot of the month.

    Raises:
        DataError: the month before was never ingested, or nothing describes this month (nothing is
            written then); or a delivery has no rows, or labels cannot be taken (what came before
            is kept).
    """
    as_of = arrival.as_of
    _check_order(arrival)
    for month, rows in sorted(arrival.snapshots.items()):
        if month != as_of:
            _publish(month, rows, as_of)
    for month, labels in sorted(arrival.labels.items()):
        _check_coverage(month, labels)
        labelling.record_labels(labels, month, as_of, labels["slot_id"])
    for month, rows in arrival.offers.items():
        offers.record_reported(rows, month)
    published = _publish(as_of, arrival.snapshots[as_of], as_of)
    months.record(arrival)
    return published


def _check_order(arrival: Arrival) -> None:
    as_of = arrival.as_of
    if as_of not in arrival.snapshots:
        raise DataError(
            f"no snapshot of {as_of:%Y-%m} was delivered; ask upstream for it, then run the month."
        )
    before = as_of - ONE_MONTH
    if not labelling.has_arrived(before):
        raise DataError(
            f"{as_of:%Y-%m} was delivered before {before:%Y-%m} had been ingested. Nothing was "
            f"written; ingest {before:%Y-%m} first, then deliver {as_of:%Y-%m} again."
        )


def _check_coverage(month: pd.Timestamp, labels: pd.DataFrame) -> None:
    """Refuse labels that leave out many customers, such as a list of those who left."""
    if not tables.exists("customers"):
        return
    known = tables.read("customers", snapshot_date=month, columns=["customer_id"])
    ids = known["customer_id"].drop_duplicates()
    unlabelled = int((~ids.isin(labels["customer_id"])).sum())
    strangers = labels.loc[~labels["customer_id"].isin(ids), "customer_id"]
    if unlabelled > UNLABELLED_SHARE * len(ids):
        of_strangers = f", such as {strangers.iloc[0]!r}" if len(strangers) else ""
        raise DataError(
            f"{unlabelled:,} of {len(ids):,} customers of {month:%Y-%m} have no label (at most "
            f"{UNLABELLED_SHARE:.0%} may lack one); {len(strangers):,} of {len(labels):,} labels "
            f"are of customers who are not in that month{of_strangers}. Labels need a row for each "
            "customer, Yes or No; none of these was written. Ask for the labels again."
        )


def _publish(month: pd.Timestamp, rows: pd.DataFrame, as_of: pd.Timestamp) -> PublishedSnapshot:
    """Publish the delivery of a month unless it does not look like one."""

    def find_faults(accepted: pd.DataFrame, rows_delivered: int) -> list[str]:
        return _find_faults(accepted, rows_delivered, month, as_of)

    return publishing.publish_snapshot(rows, month, as_of, find_faults)


def _find_faults(
    accepted: pd.DataFrame, rows_delivered: int, month: pd.Timestamp, as_of: pd.Timestamp
) -> list[str]:
    """Return why a delivery does not look like a month, compared with the last accepted one."""
    months_between, before = next(_iterate_accepted(month, as_of), (0, None))
    if before is None:
        return []
    faults = delivery_checks.check_delivery(accepted, before, months_between, rows_delivered)
    reasons = [fault.reason for fault in faults]
    if reasons and accepted_deliveries.is_accepted(month, accepted):
        return []
    if reasons:  # the other months are read only to name the cause
        earlier = {
            f"{month - pd.DateOffset(months=number):%Y-%m}": rows
            for number, rows in _iterate_accepted(month, as_of)
        }
        repeated = delivery_checks.find_identical_month(accepted, earlier)
        if repeated is not None:
            reasons.insert(0, f"its rows are those of {repeated}")
    return reasons


def _iterate_accepted(
    month: pd.Timestamp, as_of: pd.Timestamp
) -> Iterator[tuple[int, pd.DataFrame]]:
    """Iterate over the months before that have customers, newest first: months back, and rows."""
    if not tables.exists("customers"):
        return
    for months_back in range(1, MONTHS_COMPARED + 1):
        date = month - pd.DateOffset(months=months_back)
        rows = tables.read("customers", snapshot_date=date, as_of=as_of)
        if len(rows):
            yield months_back, rows
