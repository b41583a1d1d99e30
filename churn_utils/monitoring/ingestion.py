"""Ingest what arrives at an as-of month: corrections, the labels of the month before, the snapshot.

What the outside world sends comes from the simulator; files from elsewhere can be given instead.
"""

from __future__ import annotations

import pandas as pd

from churn_utils import settings
from churn_utils.errors import DataError
from churn_utils.features import offline
from churn_utils.simulation import customers, deliveries
from churn_utils.simulation.scenarios import Simulation


def ingest_month(
    as_of: pd.Timestamp,
    simulation: Simulation,
    delivered: dict[int, pd.DataFrame] | None = None,
    labels: pd.DataFrame | None = None,
) -> pd.Series:
    """Ingest what arrives at an as-of month; rows are merged, so doing it twice changes nothing.

    Args:
        as_of: first day of the month.
        simulation: the one that this home is bound to.
        delivered: text rows (``delivered_files.read_delivery``) by month; the simulator's by
            default.
        labels: of the month before: ``customer_id, churn`` (Yes or No), ``slot_id``; the
            simulator's by default.

    Returns:
        Counts of the snapshot of ``as_of``, as ``offline.publish_snapshot`` returns them.

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
    return offline.publish_snapshot(delivered[month], as_of, written_at=as_of)


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
    offline.publish_snapshot(rows, settings.month_start(month), written_at=as_of)
    if month < settings.month_of(as_of) - 1:
        # Its labels arrived before the correction and were quarantined: record them again.
        _record_labels(month, as_of, _simulate_labels(month, simulation))


def _simulate_labels(month: int, simulation: Simulation) -> pd.DataFrame:
    return deliveries.make_labels(customers.simulate_month(month, simulation))


def _record_labels(month: int, as_of: pd.Timestamp, labels: pd.DataFrame) -> None:
    """Record the labels of a month, which arrive on the as-of date."""
    offline.record_labels(labels, settings.month_start(month), as_of, labels["slot_id"])
