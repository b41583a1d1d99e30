"""Record the labels of a snapshot, and the split that each customer belongs to."""

from __future__ import annotations

import numpy as np
import pandas as pd

from churn_utils.data import erased_customers, quarantine, table_writes, tables
from churn_utils.data.columns import CUSTOMER_COLUMNS, LABEL, YES_NO
from churn_utils.data.integrity import spread_text
from churn_utils.errors import DataError

# Of the labels of a month, above which the file as a whole is taken for wrong.
ODD_LABEL_SHARE = 0.2
SPLITS = {"train": 0.6, "validate": 0.8, "test": 1.0}  # upper ends


def split_of(slot_ids: pd.Series) -> pd.Series:
    """Assign slots to ``train`` (60 %), ``validate`` (20 %) or ``test`` (20 %).

    The split follows from the SHA-256 of the slot's IBM id, so it never changes.
    """
    names = np.array(list(SPLITS))
    upper_ends = list(SPLITS.values())
    shares = slot_ids.map(spread_text)
    positions = np.searchsorted(upper_ends, shares, side="right")
    return pd.Series(names[positions], index=slot_ids.index, dtype=object)


def record_labels(
    rows: pd.DataFrame,
    snapshot_date: pd.Timestamp,
    label_date: pd.Timestamp,
    slot_ids: pd.Series | None = None,
) -> pd.Series:
    """Write the labels of a snapshot, which arrive on ``label_date``.

    Args:
        rows: ``customer_id`` and ``churn`` (Yes or No).
        snapshot_date: the month whose customers are labelled.
        label_date: simulated date on which the labels arrive; nothing may read them before.
        slot_ids: the slot of each row; its own id when not given. Decides the split.

    Returns:
        Counts: ``delivered``, ``labels_written`` (inserted or changed), ``quarantined``: labels
        that are neither Yes nor No, of customers who have several, or of customers who are not in
        that snapshot (unknown, or with a row that broke the contract) are kept in ``quarantine``.

    Raises:
        DataError: labels that arrive before their month is over or of a snapshot that never
            arrived, more than ``ODD_LABEL_SHARE`` of them odd, or slots that do not cover the rows.
            Nothing is written then.
    """
    if label_date <= snapshot_date:
        raise DataError(
            f"labels of {snapshot_date:%Y-%m-%d} cannot arrive on {label_date:%Y-%m-%d}."
        )
    if slot_ids is not None:
        _check_slots(rows, slot_ids)
    rows = rows.reset_index(drop=True).fillna({"customer_id": ""})
    slots = rows["customer_id"] if slot_ids is None else slot_ids.set_axis(rows.index)
    rows = erased_customers.drop_rows(rows)
    if not has_arrived(snapshot_date):
        raise DataError(
            f"{len(rows)} label(s) of {snapshot_date:%Y-%m-%d} arrived before that snapshot. "
            "Nothing was written; publish the snapshot first, then record its labels."
        )
    reasons = _find_odd_labels(rows, snapshot_date)
    sound = rows.drop(index=reasons.index)
    labels = pd.DataFrame(
        {
            "customer_id": sound["customer_id"],
            "snapshot_date": snapshot_date,
            "churned": sound["churn"] == "Yes",
            "label_date": label_date,
            "split": split_of(slots.loc[sound.index]),
        }
    )
    written = table_writes.merge("churn_labels", labels)
    _quarantine_labels(rows, reasons, snapshot_date, label_date)
    return pd.Series(
        {"delivered": len(rows), "labels_written": written, "quarantined": len(reasons)}
    )


def _check_slots(rows: pd.DataFrame, slots: pd.Series) -> None:
    """Refuse slots that do not cover the rows."""
    if not slots.index.equals(rows.index) or slots.isna().any():
        raise DataError(
            f"slot_ids must name a slot for each of the {len(rows)} rows, under the same index."
        )


def _find_odd_labels(rows: pd.DataFrame, snapshot_date: pd.Timestamp) -> pd.Series:
    """Return why labels cannot be taken, by position; sound ones are left out.

    Raises:
        DataError: too many of them are odd.
    """
    ids = rows["customer_id"]
    known = _customers_of(snapshot_date, "customers").drop_duplicates()
    is_wrong = ~rows[LABEL].isin(YES_NO)
    is_repeated = ids.duplicated(keep=False)
    is_unknown = ~ids.isin(known)
    found = {
        " is neither Yes nor No": is_wrong,
        " of a customer who has several": is_repeated,
        " of a customer who is not in that snapshot": is_unknown,
    }
    first_found = np.select(list(found.values()), list(found), "")
    causes = pd.Series(first_found, index=rows.index)
    causes = causes[causes != ""]
    values = rows[LABEL].loc[causes.index].astype(str)
    reasons = "label " + values + causes
    # That the customer's own row broke the contract is no fault of the label. And only as many
    # labels of strangers are odd as customers lack theirs: others may have left with a delivery.
    quarantined = _customers_of(snapshot_date, "quarantine")
    is_stranger = is_unknown & ~ids.isin(quarantined)
    unlabelled = (~known.isin(ids)).sum()
    is_faulty = is_wrong | is_repeated
    odd = int(is_faulty.sum() + min(is_stranger.sum(), unlabelled))
    if odd > ODD_LABEL_SHARE * len(rows):
        is_odd = is_faulty | is_stranger
        example = reasons[is_odd.loc[reasons.index]].iloc[0]
        raise DataError(
            f"{odd:,} of {len(rows):,} labels of {snapshot_date:%Y-%m} cannot be taken (at most "
            f"{ODD_LABEL_SHARE:.0%} may be odd), such as: {example}. Nothing was written; ask for "
            "the labels again."
        )
    return reasons


def has_arrived(snapshot_date: pd.Timestamp) -> bool:
    """Tell whether any row of a snapshot arrived, accepted or quarantined."""
    accepted = _customers_of(snapshot_date, "customers")
    quarantined = _customers_of(snapshot_date, "quarantine")
    return bool(len(accepted) or len(quarantined))


def _customers_of(snapshot_date: pd.Timestamp, table: str) -> pd.Series:
    """Return the ids in a snapshot of a table; none where the table was never written."""
    if not tables.exists(table):
        return pd.Series(dtype=object)
    rows = tables.read(table, snapshot_date=snapshot_date, columns=["customer_id"])
    return rows["customer_id"]


def _quarantine_labels(
    rows: pd.DataFrame, reasons: pd.Series, snapshot_date: pd.Timestamp, label_date: pd.Timestamp
) -> None:
    """Keep labels with a reason; their lines count from -1 downwards, unlike a snapshot's."""
    kept = pd.DataFrame(None, index=reasons.index, columns=list(CUSTOMER_COLUMNS))
    kept = kept.assign(
        customer_id=rows["customer_id"].loc[reasons.index],
        snapshot_date=snapshot_date,
        written_at=label_date,
        line=-1 - reasons.index,
        failed_column=LABEL,
        reason=reasons,
    )
    quarantine.add(kept)
