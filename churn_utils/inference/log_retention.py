"""What becomes of the inference log with time: old answers are removed, small files joined.

Each step is one commit of the table, so that a process that is killed between two of them loses
nothing; the next tidying does the rest. No version of a model refers to a version of this table, so
the files of earlier ones are deleted.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from churn_utils.data import table_writes, tables

TABLE = "inference_log"
# A file that was replaced stays this long: somebody may be reading it.
HOURS_BEFORE_DELETION = 1


class Tidied(NamedTuple):
    """What a tidying changed."""

    removed: int  # entries
    files_before: int
    files_after: int


def oldest_kept(months: int, now: datetime | None = None) -> datetime:
    """Return the moment before which answers are too old to be kept."""
    today = pd.Timestamp(now or datetime.now(UTC))
    return (today - pd.DateOffset(months=months)).to_pydatetime()


def tidy(
    months: int,
    now: datetime | None = None,
    hours_before_deletion: int = HOURS_BEFORE_DELETION,
) -> Tidied:
    """Remove answers older than some months, put small files together, delete replaced ones.

    Args:
        months: that answers are kept.
        now: from which they count; the time of the clock unless given.
        hours_before_deletion: that files stay after they were replaced.

    Raises:
        DataError: the table is not as it was written.
    """
    if not tables.exists(TABLE):
        return Tidied(0, 0, 0)
    files_before = _count_files()
    removed = _remove_older(oldest_kept(months, now))
    table_writes.compact(TABLE)
    table_writes.delete_replaced_files(TABLE, hours_before_deletion)
    return Tidied(removed, files_before, _count_files())


def _remove_older(moment: datetime) -> int:
    """Remove the answers of before a moment; return their number.

    Deleting checks every file, so it is done only if there are any.
    """
    answered_at = ds.field("answered_at")
    is_older = answered_at < pa.scalar(moment, pa.timestamp("us", "UTC"))
    if not open_table().count_rows(filter=is_older):
        return 0
    text = moment.astimezone(UTC).replace(tzinfo=None).isoformat()
    # Delta compares the column with a timestamp of its own unit alone
    condition = f"answered_at < arrow_cast('{text}', 'Timestamp(Microsecond, Some(\"UTC\"))')"
    return table_writes.delete_rows(TABLE, condition)


def open_table() -> ds.Dataset:
    """Open the table as a dataset, which reads only what a filter asks for."""
    path = str(tables.path_of(TABLE))
    filesystem = SubTreeFileSystem(path, LocalFileSystem())
    return DeltaTable(path).to_pyarrow_dataset(filesystem=filesystem)


def _count_files() -> int:
    table = DeltaTable(str(tables.path_of(TABLE)))
    return len(table.file_uris())
