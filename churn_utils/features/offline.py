"""Publish snapshots and labels into the lakehouse; build training sets by point-in-time lookup."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from churn_utils.data import contract, tables
from churn_utils.data.columns import CUSTOMER_COLUMNS, YES_NO
from churn_utils.errors import DataError
from churn_utils.features import definitions

MAX_AGE_DAYS = (
    62  # a snapshot a month: older than two months means that a customer was missed twice
)
TRAINING_TABLES = ("customer_features", "churn_labels")
SPLITS = {"train": 0.6, "validate": 0.8, "test": 1.0}  # upper ends


def publish_snapshot(
    rows: pd.DataFrame, snapshot_date: pd.Timestamp, written_at: pd.Timestamp
) -> pd.Series:
    """Check a delivery against the contract and publish it: customers, quarantine, features.

    Args:
        rows: text as ``source.read_delivery`` returns it; a ``churn`` column is checked and left to
            ``record_labels``.
        snapshot_date: the month that the rows describe.
        written_at: simulated date on which they arrived.

    Returns:
        Counts: ``delivered, accepted, quarantined, customers_written, features_written``.

    Raises:
        DataError: no rows, or written before the month that it describes. Nothing is written then.
    """
    if rows.empty:
        raise DataError(
            f"the delivery of {snapshot_date:%Y-%m-%d} has no rows. Nothing was written; ask for it again."
        )
    if written_at < snapshot_date:
        raise DataError(
            f"a snapshot of {snapshot_date:%Y-%m-%d} cannot arrive on {written_at:%Y-%m-%d}."
        )
    accepted, rejected = contract.check_rows(rows)
    stamp = {"snapshot_date": snapshot_date, "written_at": written_at}
    customers = accepted.drop(columns="churn", errors="ignore").assign(**stamp)
    if len(rejected):
        tables.merge("quarantine", rejected.drop(columns="churn", errors="ignore").assign(**stamp))
    written = features_written = 0
    if len(accepted):
        written = tables.merge("customers", customers)
        features_written = tables.merge("customer_features", definitions.build_features(customers))
    return pd.Series(
        {
            "delivered": len(rows),
            "accepted": len(accepted),
            "quarantined": len(rejected),
            "customers_written": written,
            "features_written": features_written,
        }
    )


def split_of(slot_ids: pd.Series) -> pd.Series:
    """Assign slots to ``train`` (60 %), ``validate`` (20 %) or ``test`` (20 %) by SHA-256 of their IBM id."""
    share = slot_ids.map(
        lambda text: int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32
    )
    return pd.Series(
        np.array(list(SPLITS))[np.searchsorted(list(SPLITS.values()), share, side="right")],
        index=slot_ids.index,
        dtype=object,
    )


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
        Counts: ``delivered, labels_written`` (inserted or changed), ``quarantined``: labels of customers who are not
        in that snapshot (unknown, or with a row that broke the contract) are kept in ``quarantine``.

    Raises:
        DataError: labels that arrive before their month is over, that are neither Yes nor No, or of a
            snapshot that never arrived; slots that do not cover the rows. Nothing is written then.
    """
    if label_date <= snapshot_date:
        raise DataError(
            f"labels of {snapshot_date:%Y-%m-%d} cannot arrive on {label_date:%Y-%m-%d}."
        )
    wrong = ~rows["churn"].isin(YES_NO)
    if wrong.any():
        raise DataError(
            f"{wrong.sum()} label(s) are neither Yes nor No, such as {rows['churn'][wrong].iloc[0]!r}."
        )
    slots = rows["customer_id"] if slot_ids is None else slot_ids
    if not slots.index.equals(rows.index) or slots.isna().any():
        raise DataError(
            f"slot_ids must name a slot for each of the {len(rows)} rows, under the same index."
        )
    if not has_arrived(snapshot_date):
        raise DataError(
            f"{len(rows)} label(s) of {snapshot_date:%Y-%m-%d} arrived before that snapshot. Nothing was written; "
            "publish the snapshot first, then record its labels."
        )
    known = rows["customer_id"].isin(_customers_of(snapshot_date, "customers"))
    labels = pd.DataFrame(
        {
            "customer_id": rows["customer_id"],
            "snapshot_date": snapshot_date,
            "churned": rows["churn"] == "Yes",
            "label_date": label_date,
            "split": split_of(slots),
        }
    )
    written = tables.merge("churn_labels", labels[known])
    _quarantine_labels(rows[~known], snapshot_date, label_date)
    return pd.Series(
        {"delivered": len(rows), "labels_written": written, "quarantined": int((~known).sum())}
    )


def has_arrived(snapshot_date: pd.Timestamp) -> bool:
    """Tell whether any row of a snapshot arrived, be it accepted or quarantined."""
    return bool(
        _customers_of(snapshot_date, "customers").size
        + _customers_of(snapshot_date, "quarantine").size
    )


def _customers_of(snapshot_date: pd.Timestamp, table: str) -> pd.Series:
    if not tables.exists(table):
        return pd.Series(dtype=object)
    return tables.read(table, snapshot_date=snapshot_date, columns=["customer_id"])["customer_id"]


def _quarantine_labels(
    rows: pd.DataFrame, snapshot_date: pd.Timestamp, label_date: pd.Timestamp
) -> None:
    """Keep labels that belong to nobody; lines below 0 tell them from rows of a snapshot."""
    if rows.empty:
        return
    kept = pd.DataFrame(None, index=rows.index, columns=list(CUSTOMER_COLUMNS))
    kept = kept.assign(
        customer_id=rows["customer_id"],
        snapshot_date=snapshot_date,
        written_at=label_date,
        line=-np.arange(1, len(rows) + 1),
        failed_column="churn",
        reason="label " + rows["churn"] + " of a customer who is not in that snapshot",
    )
    tables.merge("quarantine", kept)


def look_up_features(
    spine: pd.DataFrame, stored: pd.DataFrame, max_age_days: int = MAX_AGE_DAYS
) -> pd.DataFrame:
    """Join each row of a spine with the features that were known at its event date.

    Of the rows of ``customer_features`` that describe a month up to the event date *and* were written by it, the
    newest month wins, and of that month the newest writing. No spine row is dropped and their order is kept.

    Args:
        spine: ``customer_id``, ``event_date`` and anything else.
        stored: rows of ``customer_features``, any order.
        max_age_days: older features count as stale and are left empty.

    Returns:
        The spine with the stored features, ``features_as_of`` (their snapshot date) and ``lookup_status``:
        ``found``, ``unknown_customer``, ``no_snapshot_yet``, ``stale`` or ``duplicate`` (the same customer and
        date stand more than once in the spine).

    Raises:
        DataError: rows without an event date.
    """
    undated = spine["event_date"].isna().sum()
    if undated:
        raise DataError(f"{undated} of {len(spine)} rows have no event_date to be looked up as of.")
    known = stored.assign(__known_from=stored[["snapshot_date", "written_at"]].max(axis=1))
    known = known.sort_values(["customer_id", "__known_from", "snapshot_date", "written_at"])
    # A correction of an old month that arrives late must not hide a newer month that was known before it.
    newest = known.groupby("customer_id")["snapshot_date"].cummax()
    known = known[known["snapshot_date"] >= newest].drop_duplicates(
        ["customer_id", "__known_from"], keep="last"
    )
    known = known.sort_values("__known_from").rename(columns={"snapshot_date": "features_as_of"})
    left = spine.assign(__position=np.arange(len(spine))).sort_values("event_date", kind="stable")
    clash = [name for name in known.columns if name in left.columns and name != "customer_id"]
    joined = pd.merge_asof(
        left.astype({"event_date": "datetime64[ns]"}),
        known.drop(columns=["written_at", *clash]).astype({"__known_from": "datetime64[ns]"}),
        left_on="event_date",
        right_on="__known_from",
        by="customer_id",
    )
    joined = (
        joined.sort_values("__position")
        .drop(columns=["__position", "__known_from"])
        .set_axis(spine.index)
    )
    age = (joined["event_date"] - joined["features_as_of"]).dt.days
    stale = age > max_age_days
    joined.loc[stale, definitions.STORED] = None
    joined["lookup_status"] = np.select(
        [
            spine.duplicated(["customer_id", "event_date"], keep=False),
            ~spine["customer_id"].isin(stored["customer_id"]),
            joined["features_as_of"].isna(),
            stale,
        ],
        ["duplicate", "unknown_customer", "no_snapshot_yet", "stale"],
        default="found",
    )
    return joined


def newest_features() -> pd.Timestamp:
    """Day of the newest features, which is today for the API too.

    Raises:
        DataError: there are none.
    """
    return tables.read("customer_features", columns=["written_at"])["written_at"].max()


def current_versions() -> dict[str, int]:
    """Delta versions of the tables that a training set is built from, to be read and recorded together."""
    return {table: tables.version_of(table) for table in TRAINING_TABLES}


def build_training_set(
    as_of: pd.Timestamp, versions: dict[str, int] | None = None, since: pd.Timestamp | None = None
) -> pd.DataFrame:
    """Build the labelled rows known at ``as_of`` with all model inputs.

    Args:
        as_of: no label that arrived later enters; features enter as known at their label's snapshot date.
        versions: Delta version of ``customer_features`` and ``churn_labels`` to read; the latest when not given.
        since: only labels of snapshots from this date on.

    Returns:
        One row per label, in key order: ``customer_id, event_date, churned (bool), label_date, split``, the model
        inputs, ``features_as_of, lookup_status``. Rows whose status is not ``found`` are there, without
        features; ``training_rows`` leaves them out and says how many.

    Raises:
        DataError: no label had arrived by ``as_of``.
    """
    versions = versions or {}
    labels = tables.read("churn_labels", version=versions.get("churn_labels"))
    labels = labels[labels["label_date"] <= as_of]
    if since is not None:
        labels = labels[labels["snapshot_date"] >= since]
    if labels.empty:
        raise DataError(
            f"no label had arrived by {as_of:%Y-%m-%d}; label dates start one month after a snapshot."
        )
    spine = labels.rename(columns={"snapshot_date": "event_date"}).reset_index(drop=True)
    stored = tables.read("customer_features", version=versions.get("customer_features"))
    return definitions.add_on_demand(look_up_features(spine, stored))


def training_rows(training_set: pd.DataFrame, split: str) -> pd.DataFrame:
    """Rows of one split whose features were found.

    Raises:
        DataError: an unknown split, or none of its rows has features.
    """
    if split not in SPLITS:
        raise DataError(f"there is no split {split!r}; the splits are {', '.join(SPLITS)}.")
    rows = training_set[training_set["split"] == split]
    found = rows[rows["lookup_status"] == "found"]
    if found.empty:
        counts = rows["lookup_status"].value_counts().to_dict()
        raise DataError(f"split {split!r} has no row with features (status of its rows: {counts}).")
    return found.astype({name: "int64" for name in definitions.INTEGER}).reset_index(drop=True)
