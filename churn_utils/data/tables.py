"""Delta tables: idempotent merge on the full key; read the latest rows, a version, or what was known on a date."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable, write_deltalake
from filelock import FileLock, Timeout
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from churn_utils import settings
from churn_utils.errors import DataError

KEYS = {
    "customers": ["customer_id", "snapshot_date", "written_at"],
    # two rejected rows may share an id, or have none: the line in the delivery tells them apart
    "quarantine": ["customer_id", "snapshot_date", "written_at", "line"],
    "customer_features": ["customer_id", "snapshot_date", "written_at"],
    "churn_labels": ["customer_id", "snapshot_date"],
    "deployments": ["entry"],  # of the audit: several changes may fall on one simulated day
    "audit": ["entry"],  # append-only, and not taken back when a stage of the pipeline is repeated
    "predictions": ["customer_id", "snapshot_date", "model_version", "role"],
    "monitoring_metrics": ["as_of_date", "window", "model_version", "slice", "metric"],
    "decisions": ["as_of_date"],
    "inference_log": ["prediction_id"],
}
CHANGE_DATA_FEED = {"customer_features"}
WAIT_SECONDS = 60.0  # for another process that changes the same table


def path_of(table: str) -> Path:
    """Folder of a table.

    Raises:
        DataError: no such table in the design; the message lists the valid names.
    """
    if table not in KEYS:
        raise DataError(f"there is no table {table!r}; the tables are {', '.join(KEYS)}.")
    return settings.lakehouse() / table


def exists(table: str) -> bool:
    """Tell whether anything was ever written to the table."""
    return DeltaTable.is_deltatable(str(path_of(table)))


def merge(table: str, frame: pd.DataFrame) -> int:
    """Insert new rows and update changed ones by the table's full key; the same rows twice change nothing.

    Args:
        table: name in ``KEYS``.
        frame: rows; naive datetimes are simulated dates (stored as ``date``).

    Returns:
        Number of rows inserted or updated; with 0 the table keeps its version.

    Raises:
        DataError: key columns missing, null or duplicated, or columns that differ from the table's.
    """
    path, key = path_of(table), KEYS[table]
    _check_rows(table, frame)
    rows = _to_arrow(frame)
    if not exists(table):
        if not frame.empty:
            for position, field in enumerate(rows.schema):
                if pa.types.is_null(
                    field.type
                ):  # nothing says what it will hold; text is what nulls are here
                    rows = rows.set_column(position, field.name, rows[field.name].cast(pa.string()))
            feed = {"delta.enableChangeDataFeed": "true"} if table in CHANGE_DATA_FEED else None
            write_deltalake(str(path), rows, configuration=feed)
        return len(frame)
    target = DeltaTable(str(path))
    rows = _fit_to_table(table, rows, target)
    others = [name for name in frame.columns if name not in key]
    changed = " OR ".join(f"(target.{name} IS DISTINCT FROM source.{name})" for name in others)
    counts = (
        target.merge(
            rows,
            predicate=" AND ".join(f"target.{name} = source.{name}" for name in key),
            source_alias="source",
            target_alias="target",
        )
        .when_matched_update_all(predicate=changed)
        .when_not_matched_insert_all()
        .execute()
    )
    return counts["num_target_rows_inserted"] + counts["num_target_rows_updated"]


def append(table: str, rows: pa.Table) -> None:
    """Add rows whose keys are new by construction, without the look at the whole table that ``merge`` takes.

    Raises:
        DataError: columns that differ from the table's.
    """
    path = path_of(table)
    if exists(table):
        rows = _fit_to_table(table, rows, DeltaTable(str(path)))
    write_deltalake(str(path), rows, mode="append")


def _check_rows(table: str, frame: pd.DataFrame) -> None:
    key = KEYS[table]
    missing = [name for name in key if name not in frame]
    if missing:
        raise DataError(f"rows for {table} lack the key column(s) {', '.join(missing)}.")
    nulls = frame[key].isna().any(axis=1).sum()
    if nulls:
        raise DataError(f"{nulls} row(s) for {table} have a null in the key {key}.")
    for name in frame.select_dtypes("datetime"):
        if (frame[name].dropna() != frame[name].dropna().dt.normalize()).any():
            raise DataError(
                f"rows for {table} hold times of day in {name}; simulated time is whole days."
            )
    doubles = frame.duplicated(key, keep=False)
    if doubles.any():
        example = frame.loc[doubles, key].iloc[0].to_dict()
        raise DataError(
            f"{doubles.sum()} rows for {table} share a key with another, such as {example}."
        )


def _fit_to_table(table: str, rows: pa.Table, target: DeltaTable) -> pa.Table:
    """Give rows the table's column types where no value changes; delta-rs itself would cut 1.5 to 1."""
    schema = pa.schema(target.schema().to_arrow())
    missing, extra = (
        set(schema.names) - set(rows.column_names),
        set(rows.column_names) - set(schema.names),
    )
    if missing or extra:
        raise DataError(
            f"rows for {table} have other columns than the table: missing {sorted(missing)}, extra {sorted(extra)}."
        )
    try:
        for name in schema.names:
            given = rows.schema.field(name).type
            if not pa.types.is_null(given) and _is_text(given) != _is_text(schema.field(name).type):
                raise pa.ArrowInvalid(f"{name} is {given}")
        return rows.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"rows for {table} do not fit the table's column types: {error}."
        ) from error


def _is_text(kind: pa.DataType) -> bool:
    return (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _to_arrow(frame: pd.DataFrame) -> pa.Table:
    rows = pa.Table.from_pandas(frame, preserve_index=False)
    for position, field in enumerate(rows.schema):
        if pa.types.is_timestamp(field.type) and field.type.tz is None:
            rows = rows.set_column(position, field.name, rows[field.name].cast(pa.date32()))
    return rows.replace_schema_metadata(None)


@contextmanager
def hold(table: str) -> Iterator[None]:
    """Keep other processes from changing a table while one looks at what stands and writes what follows from it.

    Raises:
        DataError: another one has held it for ``WAIT_SECONDS``.
    """
    path = path_of(table).with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(path).acquire(timeout=WAIT_SECONDS)
    except Timeout as error:
        raise DataError(
            f"another process has been changing {table} in {settings.home()} for {WAIT_SECONDS:.0f} s: nothing was "
            "written here; look at what it did, then try again."
        ) from error
    with lock:
        yield


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
        as_of: only what had been written by this date, and of several writings of one row the latest.
        snapshot_date: only this snapshot.
        columns: which columns; all when not given.

    Raises:
        DataError: the table, version or a column does not exist, or ``as_of`` for one without ``written_at``.
    """
    if not exists(table):
        raise DataError(f"table {table} is empty or was never written in {settings.lakehouse()}.")
    if as_of is not None and "written_at" not in KEYS[table]:
        raise DataError(f"table {table} has no written_at; it cannot be read as of a date.")
    try:
        rows = DeltaTable(str(path_of(table)), version=version)
    except Exception as error:
        newest = version_of(table)
        if version is not None and not 0 <= version <= newest:
            raise DataError(
                f"table {table} has no version {version}; it has 0 to {newest}."
            ) from error
        raise
    condition = None
    for name, bound, operator in (
        ("written_at", as_of, "__le__"),
        ("snapshot_date", snapshot_date, "__eq__"),
    ):
        if bound is not None:
            part = getattr(ds.field(name), operator)(pa.scalar(bound.date()))
            condition = part if condition is None else condition & part
    wanted = None if columns is None else list(dict.fromkeys([*columns, *KEYS[table]]))
    missing = set(wanted or KEYS[table]) - {field.name for field in rows.schema().fields}
    if missing:
        raise DataError(
            f"table {table} of this home has no {', '.join(sorted(missing))}: it was written by an "
            "earlier state of this project. Start anew (run_all.py --fresh)."
        )
    files = SubTreeFileSystem(
        str(path_of(table)), LocalFileSystem()
    )  # the plain way aborts at exit (deltalake 1.6)
    frame = (
        rows.to_pyarrow_dataset(filesystem=files)
        .to_table(wanted, condition)
        .to_pandas(date_as_object=False)
    )
    frame = frame.sort_values(KEYS[table], ignore_index=True)
    if as_of is not None:
        frame = frame.drop_duplicates(
            [k for k in KEYS[table] if k != "written_at"], keep="last", ignore_index=True
        )
    return frame if columns is None else frame[columns]


def version_of(table: str) -> int:
    """Latest version of a table."""
    return DeltaTable(str(path_of(table))).version()


def rewind(table: str, version: int | None) -> None:
    """Take a table back to what it held at a version, or to no rows (None); its history stays readable."""
    if not exists(table):
        return
    delta = DeltaTable(str(path_of(table)))
    if version is None:
        delta.delete()
    elif version != delta.version():
        delta.restore(version)


def read_change_marker(table: str) -> int:
    """What changes with every version of a table, at the price of a look at its log's folder; 0 before the first."""
    folder = path_of(table) / "_delta_log"
    return folder.stat().st_mtime_ns if folder.exists() else 0


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
