"""Delta tables: which there are, and reads of a version or as of a date."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from operator import and_
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from churn_utils import causes, settings
from churn_utils.data.table_commits import read_digests
from churn_utils.data.table_digests import TableDigests
from churn_utils.errors import DataError

KEYS = {
    "customers": ["customer_id", "snapshot_date", "written_at"],
    # two rejected rows may share an id, or have none: the line in the delivery tells them apart
    "quarantine": ["customer_id", "snapshot_date", "written_at", "line"],
    "customer_features": ["customer_id", "snapshot_date", "written_at"],
    "churn_labels": ["customer_id", "snapshot_date"],
    "deployments": ["entry"],  # of the audit: several changes may fall on one simulated day
    "audit": ["entry"],  # append-only, and not rewound when a stage of the pipeline is repeated
    "predictions": ["customer_id", "snapshot_date", "model_version", "role"],
    "monitoring_metrics": ["as_of_date", "window", "model_version", "slice", "metric"],
    "decisions": ["as_of_date"],
    "inference_log": ["prediction_id"],
    "offers": ["customer_id", "snapshot_date"],  # only where offers are made
}
# deltalake 1.6 ends in a panic at some of these, and looks in another folder at the others.
NOT_IN_PATHS = re.compile(r"[\[\]\\^|?\x00-\x1f]|%[0-9A-Fa-f]{2}")


def path_of(table: str) -> Path:
    """Return the folder of a table.

    Raises:
        DataError: no such table in the design (the message lists the valid names), or a home at a
            path that Delta's library cannot read.
    """
    if table not in KEYS:
        raise DataError(f"there is no table {table!r}; the tables are {', '.join(KEYS)}.")
    folder = settings.lakehouse()
    if NOT_IN_PATHS.search(str(folder)):
        raise DataError(
            f"tables cannot be kept in {folder}: a folder there has one of []\\^|? or a code such "
            "as %20 in its name, which Delta's library cannot read. Give the home another path "
            "(--home, CHURN_HOME)."
        )
    return folder / table


def exists(table: str) -> bool:
    """Tell whether anything was ever written to the table."""
    return DeltaTable.is_deltatable(str(path_of(table)))


def read(
    table: str,
    *,
    version: int | None = None,
    as_of: pd.Timestamp | None = None,
    snapshot_date: pd.Timestamp | None = None,
    columns: list[str] | None = None,
) -> pd.DataFrame:
    """Read a table, sorted by its key; dates come back as datetime64.

    Args:
        table: name in ``KEYS``.
        version: Delta version; the latest when not given.
        as_of: only what had been written by this date, and of several writings of one row the
            latest.
        snapshot_date: only this snapshot.
        columns: which columns; all when not given.

    Returns:
        The columns of the table, or those asked for, in their order.

    Raises:
        DataError: the table, version or a column does not exist, or ``as_of`` for a table without
            ``written_at``.
    """
    if not exists(table):
        raise DataError(f"table {table} is empty or was never written in {settings.lakehouse()}.")
    key = KEYS[table]
    if as_of is not None and "written_at" not in key:
        raise DataError(f"table {table} has no written_at; it cannot be read as of a date.")
    with name_damaged(table):
        delta = _open_version(table, version)
    needed = None if columns is None else list(dict.fromkeys([*columns, *key]))
    _check_columns(table, delta, needed or key)
    with name_damaged(table):
        rows = read_rows(delta, table, needed, _build_filter(as_of, snapshot_date))
    frame = rows.to_pandas(date_as_object=False).sort_values(key, ignore_index=True)
    if as_of is not None:
        of_one_row = [name for name in key if name != "written_at"]
        frame = frame.drop_duplicates(of_one_row, keep="last", ignore_index=True)
    return frame if columns is None else frame[columns]


def read_rows(
    delta: DeltaTable, table: str, columns: list[str] | None, condition: ds.Expression | None
) -> pa.Table:
    """Read rows of an open table, after the files that may hold them were checked.

    Raises:
        DataError: one of these files, or the log, is not as it was written.
    """
    dataset = _open_dataset(delta, table)
    _check_digests(delta, table, dataset, condition)
    return dataset.to_table(columns, condition)


def _open_dataset(delta: DeltaTable, table: str) -> ds.Dataset:
    # Delta's own file system aborts the process at exit (deltalake 1.6).
    files = SubTreeFileSystem(str(path_of(table)), LocalFileSystem())
    return delta.to_pyarrow_dataset(filesystem=files)


def _check_digests(
    delta: DeltaTable, table: str, dataset: ds.Dataset, condition: ds.Expression | None = None
) -> None:
    """Check the log of a table and the files that may hold what meets a condition."""
    digests = read_digests(path_of(table), delta.version())
    if digests is not None:
        digests.check_log(delta.version())
        digests.check_files(file.path for file in dataset.get_fragments(condition))


def check_whole(table: str) -> TableDigests | None:
    """Check the log and all files of the newest version of a table.

    Returns:
        What was recorded of it; None if it is of before digests were kept.

    Raises:
        DataError: the table cannot be opened, or is not as it was written.
    """
    delta = _open_version(table, None)
    _check_digests(delta, table, _open_dataset(delta, table))
    return read_digests(path_of(table), delta.version())


def check_changes(delta: DeltaTable, table: str, since: int) -> None:
    """Check the log of an open table and the files of its commits from a version on.

    Raises:
        DataError: one of these files, or the log, is not as it was written.
    """
    digests = read_digests(path_of(table), delta.version())
    if digests is not None:
        digests.check_log(delta.version())
        for commit in digests.commits:
            if since <= commit["version"] <= delta.version():
                digests.check_files(commit["files"])


@contextmanager
def name_damaged(table: str) -> Iterator[None]:
    """Name the table when one of its files cannot be read or written.

    Raises:
        DataError: a file is missing or damaged.
    """
    try:
        yield
    except (DeltaError, pa.ArrowException, OSError) as error:
        if causes.explain_error(error) is not None:
            raise
        first_line, *_ = str(error).splitlines() or [type(error).__name__]
        raise DataError(
            f"table {table} in {settings.lakehouse()} cannot be read or written: {first_line} "
            "If a file of it is missing or damaged, restore the folder from a copy, or make a new "
            "home (run_all.py --fresh)."
        ) from error


def _open_version(table: str, version: int | None) -> DeltaTable:
    """Open a version of a table, the latest if it is None."""
    try:
        return DeltaTable(str(path_of(table)), version=version)
    except Exception as error:
        digests = read_digests(path_of(table), -1)
        if digests is not None:
            digests.check_log(digests.newest)  # says which file of it was changed
        newest = version_of(table)
        if version is not None and not 0 <= version <= newest:
            raise DataError(
                f"table {table} has no version {version}; it has 0 to {newest}."
            ) from error
        raise


def _check_columns(table: str, delta: DeltaTable, needed: list[str]) -> None:
    """Refuse a table that lacks columns, as one of an earlier state of the project may."""
    present = {field.name for field in delta.schema().fields}
    missing = sorted(set(needed) - present)
    if missing:
        raise DataError(
            f"table {table} of this home has no {', '.join(missing)}: it was written by an earlier "
            "state of this project. Make a new home (run_all.py --fresh)."
        )


def _build_filter(
    as_of: pd.Timestamp | None, snapshot_date: pd.Timestamp | None
) -> ds.Expression | None:
    """Return the filter of the rows to read; None if all are wanted."""
    conditions = []
    if as_of is not None:
        last_day = pa.scalar(as_of.date())
        conditions.append(ds.field("written_at") <= last_day)
    if snapshot_date is not None:
        month = pa.scalar(snapshot_date.date())
        conditions.append(ds.field("snapshot_date") == month)
    if not conditions:
        return None
    return reduce(and_, conditions)


def version_of(table: str) -> int:
    """Return the latest version of a table."""
    return DeltaTable(str(path_of(table))).version()


def read_change_marker(table: str) -> int:
    """Return a number that changes with every version of a table, 0 before the first.

    It costs one look at the folder of the table's log.
    """
    try:
        return (path_of(table) / "_delta_log").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def describe_tables() -> pd.DataFrame:
    """List every table that exists: ``table, key, version, rows, columns, files``."""
    found = []
    for table in filter(exists, KEYS):
        delta = DeltaTable(str(path_of(table)))
        found.append(
            {
                "table": table,
                "key": ", ".join(KEYS[table]),
                "version": delta.version(),
                "rows": delta.count(),
                "columns": len(delta.schema().fields),
                "files": len(delta.file_uris()),
            }
        )
    return pd.DataFrame(found, columns=["table", "key", "version", "rows", "columns", "files"])
