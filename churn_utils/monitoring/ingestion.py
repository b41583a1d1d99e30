"""Ingest what arrives at an as-of month: corrections, the labels of the month before, the snapshot.

What the outside world sends comes from the simulator; files from elsewhere can be given instead.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from churn_utils import settings
from churn_utils.data import delivery_checks, tables
from churn_utils.errors import DataError
from churn_utils.features import offline
from churn_utils.features.offline import PublishedSnapshot
from churn_utils.monitoring import accepted_deliveries
from churn_utils.simulation import customers, deliveries
from churn_utils.simulation.scenarios import Simulation

MONTHS_COMPARED = 6  # how far back an accepted month is looked for


def ingest_month(
    as_of: pd.Timestamp,
    simulation: Simulation,
    delivered: dict[int, pd.DataFrame] | None = None,
    labels: pd.DataFrame | None = None,
) -> PublishedSnapshot:
    """Ingest what arrives at an as-of month; rows are merged, so doing it twice changes nothing.

    A delivery that does not look like a month of the same customers (``delivery_checks``) is held
    back as a whole: its rows go to ``quarantine``, unless a person has accepted them
    (``accepted_deliveries``).

    Args:
        as_of: first day of the month.
        simulation: the one that this home is bound to.
        delivered: text rows (``delivered_files.read_delivery``) by month; the simulator's by
            default.
        labels: of the month before: ``customer_id, churn`` (Yes or No), ``slot_id``; the
            simulator's by default.

    Returns:
        What became of the snapshot of ``as_of``.

    Raises:
        DataError: the month before was never ingested, or nothing describes this month (nothing is
            written then); or a delivery has no rows (what came before it is kept).
    """
    month = settings.month_of(as_of)
    if delivered is None:
        delivered = deliveries.deliver_at(month, simulation)
    _check_order(as_of, month, delivered)
    for corrected in sorted(set(delivered) - {month}):
        _ingest_correction(corrected, delivered[corrected], as_of, simulation)
    if labels is None:
        labels = _simulate_labels(month - 1, simulation)
    _record_labels(month - 1, as_of, labels)
    return _publish(month, delivered[month], as_of)


def _check_order(as_of: pd.Timestamp, month: int, delivered: dict[int, pd.DataFrame]) -> None:
    if month not in delivered:
        raise DataError(
            f"no snapshot of {as_of:%Y-%m} was delivered; ask upstream for it, then run the month."
        )
    before = settings.month_start(month - 1)
    if not offline.has_arrived(before):
        raise DataError(
            f"{as_of:%Y-%m} was delivered before {before:%Y-%m} had been ingested. Nothing was "
            f"written; ingest {before:%Y-%m} first, then deliver {as_of:%Y-%m} again."
        )


def _ingest_correction(
    month: int, rows: pd.DataFrame, as_of: pd.Timestamp, simulation: Simulation
) -> None:
    """Publish the corrected snapshot of an earlier month."""
    _publish(month, rows, as_of)
    if month < settings.month_of(as_of) - 1:
        # Its labels arrived before the correction and were quarantined: record them again.
        _record_labels(month, as_of, _simulate_labels(month, simulation))


def _publish(month: int, rows: pd.DataFrame, as_of: pd.Timestamp) -> PublishedSnapshot:
    """Publish the delivery of a month unless it does not look like one."""

    def find_faults(accepted: pd.DataFrame, rows_delivered: int) -> list[str]:
        return _find_faults(accepted, rows_delivered, month, as_of)

    return offline.publish_snapshot(rows, settings.month_start(month), as_of, find_faults)


def _find_faults(
    accepted: pd.DataFrame, rows_delivered: int, month: int, as_of: pd.Timestamp
) -> list[str]:
    """Return why a delivery does not look like a month, compared with the last accepted one."""
    last, before = next(_iterate_accepted(month, as_of), (month, None))
    if before is None:
        return []
    faults = delivery_checks.check_delivery(accepted, before, month - last, rows_delivered)
    reasons = [fault.reason for fault in faults]
    if reasons and accepted_deliveries.is_accepted(settings.month_start(month), accepted):
        return []
    if reasons:  # the other months are read only to name the cause
        earlier = {
            f"{settings.month_start(number):%Y-%m}": rows
            for number, rows in _iterate_accepted(month, as_of)
        }
        repeated = delivery_checks.find_identical_month(accepted, earlier)
        if repeated is not None:
            reasons.insert(0, f"its rows are those of {repeated}")
    return reasons


def _iterate_accepted(month: int, as_of: pd.Timestamp) -> Iterator[tuple[int, pd.DataFrame]]:
    """Iterate over the months before that have customers, newest first: number and rows."""
    if not tables.exists("customers"):
        return
    oldest = max(0, month - MONTHS_COMPARED)
    for number in reversed(range(oldest, month)):
        date = settings.month_start(number)
        rows = tables.read("customers", snapshot_date=date, as_of=as_of)
        if len(rows):
            yield number, rows


def _simulate_labels(month: int, simulation: Simulation) -> pd.DataFrame:
    return deliveries.make_labels(customers.simulate_month(month, simulation))


def _record_labels(month: int, as_of: pd.Timestamp, labels: pd.DataFrame) -> None:
    """Record the labels of a month, which arrive on the as-of date."""
    offline.record_labels(labels, settings.month_start(month), as_of, labels["slot_id"])
