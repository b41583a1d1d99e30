"""Write Delta tables: idempotent merge on the full key, appending, deleting, going back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pandas as pd
import pyarrow as pa
from deltalake import DeltaTable, Schema, write_deltalake

from churn_utils import settings
from churn_utils.data import integrity
from churn_utils.data.columns import BY_NAME
from churn_utils.data.files import delete_folder
from churn_utils.data.table_commits import hold_commits, record_commits
from churn_utils.data.table_rows import (
    check_keys,
    convert_to_arrow,
    fit_to_schema,
    give_nulls_a_type,
)
from churn_utils.data.tables import KEYS, check_whole, exists, name_damaged, path_of

CHANGE_DATA_FEED = {"customer_features"}
# Tables whose columns follow from definitions: a column that is defined later is added to them, and
# rows from before hold null there. Every other table refuses columns that it does not know.
TABLES_OF_COLUMNS = {"customers", "quarantine"}  # take what ``columns`` defines
TABLES_OF_FEATURES = {"customer_features", "inference_log"}  # take any feature
WAIT_SECONDS = integrity.WAIT_SECONDS


def merge(table: str, frame: pd.DataFrame) -> int:
    """Insert new rows and update changed ones by the table's full key.

    The same rows twice change nothing.

    Args:
        table: name in ``KEYS``.
        frame: rows; naive datetimes are simulated dates (stored as ``date``).

    Returns:
        Number of rows inserted or updated; with 0 the table keeps its version.

    Raises:
        DataError: key columns missing, null or duplicated, or columns that differ from the table's
            and cannot be added to it.
    """
    path_of(table)  # a table that the design does not know is refused first
    check_keys(table, KEYS[table], frame)
    rows = convert_to_arrow(frame)
    with _record_commits(table, copies_rows=True):  # Delta refuses the second of two merges at once
        return _merge(table, rows)


def _merge(table: str, rows: pa.Table) -> int:
    """Merge rows into a table that is held; return the number inserted or updated."""
    if not exists(table):
        if len(rows):
            _create(table, rows)
        return len(rows)
    rows = _fit_to_table(table, rows)
    target = DeltaTable(str(path_of(table)))
    key = KEYS[table]
    is_same_key = " AND ".join(f"target.{name} = source.{name}" for name in key)
    others = [name for name in rows.column_names if name not in key]
    is_changed = " OR ".join(f"(target.{name} IS DISTINCT FROM source.{name})" for name in others)
    merger = target.merge(
        rows,
        predicate=is_same_key,
        source_alias="source",
        target_alias="target",
    )
    merger = merger.when_matched_update_all(predicate=is_changed).when_not_matched_insert_all()
    with name_damaged(table):
        counts = merger.execute()
    return counts["num_target_rows_inserted"] + counts["num_target_rows_updated"]


def _create(table: str, rows: pa.Table) -> None:
    """Write the first rows of a table."""
    configuration = None
    if table in CHANGE_DATA_FEED:
        configuration = {"delta.enableChangeDataFeed": "true"}
    path = path_of(table)
    write_deltalake(str(path), give_nulls_a_type(rows), configuration=configuration)


def append(table: str, rows: pa.Table) -> None:
    """Add rows whose keys are new by construction, without the search that ``merge`` makes.

    Raises:
        DataError: columns that differ from the table's.
    """
    with _record_commits(table):
        if exists(table):
            rows = _fit_to_table(table, rows)
        write_deltalake(str(path_of(table)), rows, mode="append")


def compact(table: str) -> None:
    """Put the small files of many writes together."""
    with _record_commits(table, copies_rows=True):
        DeltaTable(str(path_of(table))).optimize.compact()


def delete_rows(table: str, condition: str) -> int:
    """Delete the rows that meet a condition, which is one of SQL; return their number.

    They stay in the files of earlier versions until ``delete_replaced_files``.
    """
    with _record_commits(table, copies_rows=True):
        with name_damaged(table):
            counts = DeltaTable(str(path_of(table))).delete(condition)
        return counts["num_deleted_rows"]


def delete_replaced_files(table: str, hours: int) -> None:
    """Delete the files that the newest version has not, if they were replaced so long ago.

    Earlier versions can no longer be read: only for a table whose versions nothing refers to.
    """
    with _record_commits(table):
        DeltaTable(str(path_of(table))).vacuum(
            retention_hours=hours, dry_run=False, enforce_retention_duration=False, full=True
        )


@contextmanager
def _record_commits(table: str, copies_rows: bool = False) -> Iterator[None]:
    """Record what is committed to a table within, while no other process commits.

    Args:
        table: its name.
        copies_rows: whether rows are copied into new files, so that the old ones must be sound.
    """
    path = path_of(table)
    with hold_commits(path):
        if copies_rows and exists(table):
            check_whole(table)
        with record_commits(path):
            yield


def _fit_to_table(table: str, rows: pa.Table) -> pa.Table:
    """Give rows the columns and types of a table; add the columns that were defined since."""
    target = DeltaTable(str(path_of(table)))
    schema = pa.schema(target.schema().to_arrow())
    new = [name for name in rows.column_names if name not in schema.names]
    if not new or not _may_gain(table, new):
        return fit_to_schema(table, rows, schema)
    added = give_nulls_a_type(rows).select(new).schema
    widened = pa.schema([*schema, *added])
    fitted = fit_to_schema(table, rows, widened)
    target.alter.add_columns(Schema.from_arrow(added).fields)
    return fitted


def _may_gain(table: str, names: list[str]) -> bool:
    """Tell whether columns may be added to a table."""
    if table in TABLES_OF_COLUMNS:
        return set(names) <= set(BY_NAME)
    return table in TABLES_OF_FEATURES


@contextmanager
def hold(table: str) -> Iterator[None]:
    """Keep other processes from changing a table between a read and the write that follows from it.

    Every change holds its table; one that holds it already may change it.

    Raises:
        DataError: another one has held it for ``WAIT_SECONDS``.
    """
    with integrity.hold(path_of(table).with_suffix(".lock"), WAIT_SECONDS):
        yield


def rewind(table: str, version: int | None) -> None:
    """Restore a table to a version, or to no rows (None); its history stays readable."""
    if not exists(table):
        return
    with _record_commits(table):
        delta = DeltaTable(str(path_of(table)))
        if version is None:
            delta.delete()
        elif version != delta.version():
            delta.restore(version)


def delete_all() -> None:
    """Delete every table as a whole: what writes one at the same time does so before or after.

    The files of their locks stay, for what waits for one.
    """
    for folder in settings.lakehouse().glob("*/"):
        is_known = folder.name in KEYS  # else of an earlier state of the project
        with hold(folder.name) if is_known else nullcontext():
            delete_folder(folder)
