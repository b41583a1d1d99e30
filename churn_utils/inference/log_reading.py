"""Read the table of the API's log: a prediction by its id, those that were shown."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable

from churn_utils.data import tables
from churn_utils.inference.log_retention import TABLE, open_table
from churn_utils.inference.log_rows import SCHEMA

UUID_WITH_TIME = 7  # version of UUID whose first 48 bits are its time in milliseconds
ID_TOLERANCE = timedelta(minutes=1)  # between an answer and its id
MOMENT = SCHEMA.field("answered_at").type


def find_written(prediction_id: str) -> dict | None:
    """Find a prediction in the table by its id.

    Returns:
        The columns of ``SCHEMA``; None if there is no such prediction.

    Raises:
        DataError: the table cannot be read, as while the home is cleared.
    """
    created = read_time_of_id(prediction_id)
    if created is None or not tables.exists(TABLE):
        return None
    # Only the files of this period are read.
    earliest = pa.scalar(created - ID_TOLERANCE, MOMENT)
    latest = pa.scalar(created + ID_TOLERANCE, MOMENT)
    answered_at = ds.field("answered_at")
    is_wanted = ds.field("prediction_id") == prediction_id
    condition = (answered_at >= earliest) & (answered_at <= latest) & is_wanted
    with tables.name_damaged(TABLE):
        rows = open_table().to_table(filter=condition).to_pylist()
    if not rows:
        return None
    lacking = dict.fromkeys(SCHEMA.names)  # an entry may be older than a column
    return {**lacking, **rows[0]}


def find_known(entries: list[dict]) -> set[str]:
    """Return the ids of those entries that the table holds."""
    if not entries or not tables.exists(TABLE):
        return set()
    ids = [entry["prediction_id"] for entry in entries]
    moments = [entry["answered_at"] for entry in entries]
    earliest = pa.scalar(min(moments), MOMENT)
    latest = pa.scalar(max(moments), MOMENT)
    answered_at = ds.field("answered_at")
    is_among_ids = ds.field("prediction_id").isin(ids)
    condition = (answered_at >= earliest) & (answered_at <= latest) & is_among_ids
    with tables.name_damaged(TABLE):
        found = open_table().to_table(["prediction_id"], condition)
    return set(found["prediction_id"].to_pylist())


def read_time_of_id(prediction_id: str) -> datetime | None:
    """Return when an id was made; None if it does not say."""
    parsed = uuid.UUID(prediction_id)
    if parsed.version != UUID_WITH_TIME:
        return None
    milliseconds = parsed.int >> 80
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except ValueError:  # after the year 9999
        return None


def read_shown_predictions(
    since: datetime, months: Sequence[date], columns: list[str]
) -> pd.DataFrame:
    """Read the predictions that were shown since a moment, about features of some months.

    Only these are read: the table grows with every request, and most predictions are about a month
    that has no labels yet.

    Args:
        since: time of the answer, UTC.
        months: of the features.
        columns: to read.

    Returns:
        ``columns``, oldest first; empty if there are none.
    """
    if not tables.exists(TABLE):
        return pd.DataFrame(columns=columns)
    is_recent = ds.field("answered_at") >= pa.scalar(since, MOMENT)
    is_of_months = ds.field("features_as_of").isin(pa.array(months, pa.date32()))
    was_shown = ds.field("arm") != "shadow"
    wanted = is_recent & is_of_months & was_shown
    with tables.name_damaged(TABLE):
        delta = DeltaTable(str(tables.path_of(TABLE)))
        found = tables.read_rows(delta, TABLE, [*columns, "answered_at", "prediction_id"], wanted)
    found = found.sort_by([("answered_at", "ascending"), ("prediction_id", "ascending")])
    return found.select(columns).to_pandas(date_as_object=False)
