"""Publish snapshots and labels into the lakehouse; build training sets by point-in-time lookup."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from churn_utils.data import contract, erased_customers, quarantine, tables
from churn_utils.data.columns import CUSTOMER_COLUMNS, LABEL, YES_NO
from churn_utils.data.delivered_files import DAMAGE
from churn_utils.data.delivery_checks import digest_rows
from churn_utils.errors import DataError
from churn_utils.features import definitions, offers

MAX_AGE_DAYS = 62  # of monthly snapshots: an older one means that a customer was missed twice
# Of the labels of a month, above which the file as a whole is taken for wrong.
ODD_LABEL_SHARE = 0.2
TRAINING_TABLES = ("customer_features", "churn_labels")
OFFERS = "offers"  # read as well where offers are made
SPLITS = {"train": 0.6, "validate": 0.8, "test": 1.0}  # upper ends


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
        customers_written = tables.merge("customers", customers)
        features_written = tables.merge("customer_features", features)
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


def split_of(slot_ids: pd.Series) -> pd.Series:
    """Assign slots to ``train`` (60 %), ``validate`` (20 %) or ``test`` (20 %).

    The split follows from the SHA-256 of the slot's IBM id, so it never changes.
    """
    names = np.array(list(SPLITS))
    upper_ends = list(SPLITS.values())
    shares = slot_ids.map(_share_of)
    positions = np.searchsorted(upper_ends, shares, side="right")
    return pd.Series(names[positions], index=slot_ids.index, dtype=object)


def _share_of(text: str) -> float:
    """Return a number from 0 to 1 that follows from a text and is spread evenly over texts."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return int(digest[:8], 16) / 2**32


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
    written = tables.merge("churn_labels", labels)
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
    causes = pd.Series(np.select(list(found.values()), list(found), ""), index=rows.index)
    causes = causes[causes != ""]
    reasons = "label " + rows[LABEL].loc[causes.index].astype(str) + causes
    # That the customer's own row broke the contract is no fault of the label. And only as many
    # labels of strangers are odd as customers lack theirs: others may have left with a delivery.
    is_stranger = is_unknown & ~ids.isin(_customers_of(snapshot_date, "quarantine"))
    unlabelled = int((~known.isin(ids)).sum())
    odd = int((is_wrong | is_repeated).sum()) + min(int(is_stranger.sum()), unlabelled)
    if odd > ODD_LABEL_SHARE * len(rows):
        example = reasons[(is_wrong | is_repeated | is_stranger).loc[reasons.index]].iloc[0]
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


def look_up_features(
    spine: pd.DataFrame, stored: pd.DataFrame, max_age_days: int = MAX_AGE_DAYS
) -> pd.DataFrame:
    """Join each row of a spine with the features that were known at its event date.

    Of the rows of ``customer_features`` that describe a month up to the event date *and* were
    written by it, the newest month wins, and of that month the newest writing. No spine row is
    dropped and their order is kept.

    Args:
        spine: ``customer_id``, ``event_date`` and anything else.
        stored: rows of ``customer_features``, any order.
        max_age_days: older features count as stale and are left empty.

    Returns:
        The spine with the stored features, ``features_as_of`` (their snapshot date),
        ``lookup_status``: ``found``, ``unknown_customer``, ``no_snapshot_yet``, ``stale`` or
        ``duplicate`` (the same customer and date are more than once in the spine), and
        ``lacks_features``: names of the features that are younger than the row that was found,
        joined by commas; empty if there is none.

    Raises:
        DataError: rows without an event date.
    """
    undated = spine["event_date"].isna().sum()
    if undated:
        raise DataError(f"{undated} of {len(spine)} rows have no event_date to be looked up as of.")
    known = _list_known(stored)
    # merge_asof wants both sides sorted by date; the order of the spine comes back afterwards.
    left = spine.assign(__position=np.arange(len(spine))).sort_values("event_date", kind="stable")
    in_both = [name for name in known.columns if name in left.columns and name != "customer_id"]
    joined = pd.merge_asof(
        left.astype({"event_date": "datetime64[ns]"}),
        known.drop(columns=in_both).astype({"__known_from": "datetime64[ns]"}),
        left_on="event_date",
        right_on="__known_from",
        by="customer_id",
    )
    joined = joined.sort_values("__position").drop(columns=["__position", "__known_from"])
    joined = joined.set_axis(spine.index)
    is_stale = (joined["event_date"] - joined["features_as_of"]).dt.days > max_age_days
    joined.loc[is_stale, definitions.STORED] = None
    joined["lookup_status"] = np.select(
        [
            spine.duplicated(["customer_id", "event_date"], keep=False),
            ~spine["customer_id"].isin(stored["customer_id"]),
            joined["features_as_of"].isna(),
            is_stale,
        ],
        ["duplicate", "unknown_customer", "no_snapshot_yet", "stale"],
        default="found",
    )
    was_found = joined["lookup_status"] == "found"
    lacking = definitions.describe_lacking(joined, definitions.STORED)
    return joined.assign(lacks_features=lacking.where(was_found, ""))


def _list_known(stored: pd.DataFrame) -> pd.DataFrame:
    """Return for each customer what was known from which date on.

    Returns:
        ``customer_id``, the stored features, ``features_as_of`` (the month that they describe) and
        ``__known_from``, sorted by the last. A row holds until the customer's next one.
    """
    # A row is known once its month has begun and it was written.
    known = stored.assign(__known_from=stored[["snapshot_date", "written_at"]].max(axis=1))
    known = known.sort_values(["customer_id", "__known_from", "snapshot_date", "written_at"])
    # A late correction of an old month must not hide a newer month that was known before it.
    newest = known.groupby("customer_id")["snapshot_date"].cummax()
    known = known[known["snapshot_date"] >= newest]
    known = known.drop_duplicates(["customer_id", "__known_from"], keep="last")
    known = known.sort_values("__known_from").rename(columns={"snapshot_date": "features_as_of"})
    return known.drop(columns="written_at")


def read_features(
    *,
    version: int | None = None,
    as_of: pd.Timestamp | None = None,
    snapshot_date: pd.Timestamp | None = None,
) -> pd.DataFrame:
    """Read ``customer_features`` with all stored features, as ``tables.read`` takes the arguments.

    Returns:
        ``definitions.KEY`` and ``definitions.STORED``; a feature is null in rows that were written
        before it was defined.
    """
    stored = tables.read(
        "customer_features", version=version, as_of=as_of, snapshot_date=snapshot_date
    )
    return stored.reindex(columns=[*definitions.KEY, *definitions.STORED])


def republish_features() -> int:
    """Compute the features of all accepted customer rows again, and write what changes.

    It gives rows from before a feature that was defined since; they keep their dates. Versions that
    were trained before are refitted from the table versions that they recorded, so nothing changes
    for them.

    Returns:
        Number of rows written.
    """
    customers = tables.read("customers")
    return tables.merge("customer_features", definitions.build_features(customers))


def newest_features() -> pd.Timestamp:
    """Return the day on which the newest features were written, which is today for the API too.

    Raises:
        DataError: there are none.
    """
    return tables.read("customer_features", columns=["written_at"])["written_at"].max()


def current_versions() -> dict[str, int]:
    """Return the current Delta version of each table in ``TRAINING_TABLES``, and of ``offers``."""
    names = [*TRAINING_TABLES, OFFERS] if tables.exists(OFFERS) else TRAINING_TABLES
    return {table: tables.version_of(table) for table in names}


def build_training_set(
    as_of: pd.Timestamp, versions: dict[str, int] | None = None, since: pd.Timestamp | None = None
) -> pd.DataFrame:
    """Build the labelled rows known at ``as_of`` with all model inputs, to learn from or to judge.

    Args:
        as_of: labels that arrived later are left out; features are those known at the snapshot date
            of their label.
        versions: Delta version of ``customer_features``, ``churn_labels`` and, where offers were
            made, ``offers`` to read; the latest when not given.
        since: only labels of snapshots from this date on.

    Returns:
        One row per label, in key order: ``customer_id, event_date, churned`` (bool), ``label_date,
        split, group, weight``, the model inputs, ``features_as_of, lookup_status,
        lacks_features``. Rows whose status is not ``found`` are there without features, and those
        of customers who got an offer with weight 0 (``offers.add_weights``); ``training_rows``
        leaves both out.

    Raises:
        DataError: no label had arrived by ``as_of``, or offers were made and no customer was kept
            as control.
    """
    rows = read_labelled(as_of, versions, since)
    without_control = offers.list_months_without_control(rows, "event_date")
    if without_control:
        raise DataError(f"{offers.describe_missing_control(without_control)}.")
    return rows


def read_labelled(
    as_of: pd.Timestamp, versions: dict[str, int] | None = None, since: pd.Timestamp | None = None
) -> pd.DataFrame:
    """Return the rows of ``build_training_set``, those of months without control group too.

    Raises:
        DataError: no label had arrived by ``as_of``.
    """
    labels = tables.read("churn_labels", version=(versions or {}).get("churn_labels"))
    labels = labels[labels["label_date"] <= as_of]
    if since is not None:
        labels = labels[labels["snapshot_date"] >= since]
    if labels.empty:
        raise DataError(
            f"no label had arrived by {as_of:%Y-%m-%d}; label dates start one month after a "
            "snapshot."
        )
    labels = offers.add_weights(labels, _read_offers(labels["snapshot_date"], versions))
    spine = labels.rename(columns={"snapshot_date": "event_date"}).reset_index(drop=True)
    stored = read_features(version=(versions or {}).get("customer_features"))
    return definitions.add_on_demand(look_up_features(spine, stored))


def _read_offers(months: pd.Series, versions: dict[str, int] | None) -> pd.DataFrame:
    """Return the offers of labelled months, at the version recorded; none if none was recorded."""
    made = offers.read_offers((versions or {}).get(OFFERS))
    if versions is not None and OFFERS not in versions:
        made = made.head(0)
    return made[made["snapshot_date"].isin(months)]


def training_rows(
    training_set: pd.DataFrame, split: str, inputs: Iterable[str] = definitions.MODEL_INPUTS
) -> pd.DataFrame:
    """Return the rows of one split whose features were found, with all of the inputs.

    Args:
        training_set: as ``build_training_set`` returns it.
        split: one of ``SPLITS``.
        inputs: of the model that is trained or evaluated; one that was trained before needs fewer.

    Returns:
        The columns of ``build_training_set``, whole numbers among the inputs as int64. Rows that
        lack an input are left out and counted in the log; rows after an offer are left out.

    Raises:
        DataError: an unknown split, or none of its rows has the features.
    """
    if split not in SPLITS:
        raise DataError(f"there is no split {split!r}; the splits are {', '.join(SPLITS)}.")
    rows = offers.keep_untreated(training_set[training_set["split"] == split])
    found = rows[rows["lookup_status"] == "found"]
    if found.empty:
        counts = rows["lookup_status"].value_counts().to_dict()
        raise DataError(f"split {split!r} has no row with features (status of its rows: {counts}).")
    names = list(inputs)
    undefined = [name for name in names if name not in training_set]
    if undefined:
        listed = ", ".join(undefined)
        raise DataError(
            f"the model needs {listed}; features/definitions.py no longer defines that."
        )
    complete = definitions.drop_incomplete(found, names, f"split {split!r}")
    if complete.empty:
        lacking = found["lacks_features"].value_counts().to_dict()
        raise DataError(
            f"split {split!r} has no row with all features: its {len(found)} rows were written "
            f"before some were defined {lacking}. Run `python -m churn_utils republish-features`, "
            "or wait for labels of newer months."
        )
    whole_numbers = [name for name in names if name in definitions.INTEGER]
    return complete.astype(dict.fromkeys(whole_numbers, "int64")).reset_index(drop=True)
