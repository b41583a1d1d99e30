"""Publish a snapshot: customers, their features, and what breaks the contract."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import pandas as pd

from churn_utils.data import contract, erased_customers, quarantine, table_writes, tables
from churn_utils.data.columns import LABEL
from churn_utils.data.delivered_files import DAMAGE
from churn_utils.data.delivery_checks import digest_rows
from churn_utils.errors import DataError
from churn_utils.features import definitions


@dataclass(frozen=True)
class PublishedSnapshot:
    """What became of the rows of a delivery; numbers of rows, and why it was held back."""

    delivered: int
    accepted: int
    quarantined: int
    customers_written: int = 0
    features_written: int = 0
    faults: tuple[str, ...] = ()  # empty if the delivery as a whole looks like a month

    def to_series(self) -> pd.Series:
        """Return the numbers of rows by name."""
        numbers = asdict(self)
        del numbers["faults"]
        return pd.Series(numbers)


def publish_snapshot(
    rows: pd.DataFrame,
    snapshot_date: pd.Timestamp,
    written_at: pd.Timestamp,
    find_faults: Callable[[pd.DataFrame, int], list[str]] | None = None,
) -> PublishedSnapshot:
    """Check a delivery against the contract and publish it: customers, quarantine, features.

    A delivery in which ``find_faults`` finds something is held back: all of its rows go to
    ``quarantine``, and neither customers nor features are written.

    Args:
        rows: text as ``delivered_files.read_delivery`` returns it; a ``churn`` column is checked
            and left to ``record_labels``.
        snapshot_date: the month that the rows describe.
        written_at: simulated date on which they arrived.
        find_faults: takes the rows that keep the contract and the number of delivered rows;
            returns why the delivery as a whole does not look like a month. Nothing is compared
            when not given.

    Raises:
        DataError: no rows, or written before the month that it describes. Nothing is written then.
    """
    if rows.empty:
        raise DataError(
            f"the delivery of {snapshot_date:%Y-%m-%d} has no rows. Nothing was written; ask for "
            "it again."
        )
    if written_at < snapshot_date:
        raise DataError(
            f"a snapshot of {snapshot_date:%Y-%m-%d} cannot arrive on {written_at:%Y-%m-%d}."
        )
    rows = erased_customers.drop_rows(rows)
    accepted, rejected = contract.check_rows(rows)
    stamp = {"snapshot_date": snapshot_date, "written_at": written_at}
    faults = find_faults(accepted, len(rows)) if find_faults and len(accepted) else []
    if faults:
        held_back = _hold_back(rows.loc[accepted.index], faults, digest_rows(accepted))
        accepted = accepted.head(0)
        rejected = pd.concat([rejected, held_back])
    unlabelled = rejected.drop(columns=LABEL, errors="ignore")
    quarantine.add(unlabelled.assign(**stamp))
    customers_written = 0
    features_written = 0
    if len(accepted):
        customers = accepted.drop(columns=LABEL, errors="ignore").assign(**stamp)
        features = definitions.build_features(customers)
        customers_written = table_writes.merge("customers", customers)
        features_written = table_writes.merge("customer_features", features)
    return PublishedSnapshot(
        delivered=len(rows),
        accepted=len(accepted),
        quarantined=len(rejected),
        customers_written=customers_written,
        features_written=features_written,
        faults=tuple(faults),
    )


def _hold_back(rows: pd.DataFrame, faults: list[str], digest: str) -> pd.DataFrame:
    """Return sound rows as they go to ``quarantine`` when their delivery is held back.

    The digest tells them from those of a longer delivery that was held back on the same day.
    """
    rows = rows.drop(columns=DAMAGE, errors="ignore")
    reason = f"the delivery: {'; '.join(faults)} (delivery {digest[:12]})"
    held_back = rows.assign(failed_column=quarantine.WHOLE_DELIVERY, reason=reason)
    return held_back.rename_axis("line").reset_index()


def republish_features() -> int:
    """Compute the features of all accepted customer rows again, and write what changes.

    It gives rows from before a feature that was defined since; they keep their dates. Versions that
    were trained before are refitted from the table versions that they recorded, so nothing changes
    for them.

    Returns:
        Number of rows written.
    """
    customers = tables.read("customers")
    return table_writes.merge("customer_features", definitions.build_features(customers))
