"""Features as they were known at a date, and the training sets built from them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from churn_utils.data import tables
from churn_utils.errors import DataError
from churn_utils.features import definitions, model_inputs, offers
from churn_utils.features.labelling import SPLITS

MAX_AGE_DAYS = 62  # of monthly snapshots: an older one means that a customer was missed twice
TRAINING_TABLES = ("customer_features", "churn_labels")
OFFERS = "offers"  # read as well where offers are made


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
    lacking = model_inputs.describe_lacking(joined, definitions.STORED)
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
    complete = model_inputs.drop_incomplete(found, names, f"split {split!r}")
    if complete.empty:
        lacking = found["lacks_features"].value_counts().to_dict()
        raise DataError(
            f"split {split!r} has no row with all features: its {len(found)} rows were written "
            f"before some were defined {lacking}. Run `python -m churn_utils republish-features`, "
            "or wait for labels of newer months."
        )
    whole_numbers = [name for name in names if name in definitions.INTEGER]
    return complete.astype(dict.fromkeys(whole_numbers, "int64")).reset_index(drop=True)
