"""Rows on their way into a Delta table, keys and types checked, and out of one of its files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from churn_utils.errors import DataError


def check_keys(table: str, key: list[str], frame: pd.DataFrame) -> None:
    """Refuse rows that could not be told apart by the table's key.

    Raises:
        DataError: key columns missing, null or duplicated, or dates with a time of day.
    """
    missing = [name for name in key if name not in frame]
    if missing:
        raise DataError(f"rows for {table} lack the key column(s) {', '.join(missing)}.")
    nulls = frame[key].isna().any(axis=1).sum()
    if nulls:
        raise DataError(f"{nulls} row(s) for {table} have a null in the key {key}.")
    for name in frame.select_dtypes("datetime"):
        dates = frame[name].dropna()
        if (dates != dates.dt.normalize()).any():
            raise DataError(
                f"rows for {table} hold times of day in {name}; simulated time is whole days."
            )
    is_double = frame.duplicated(key, keep=False)
    if is_double.any():
        example = frame.loc[is_double, key].iloc[0].to_dict()
        raise DataError(
            f"{is_double.sum()} rows for {table} share a key with another, such as {example}."
        )


def convert_to_arrow(frame: pd.DataFrame) -> pa.Table:
    """Convert a frame; naive datetimes are simulated dates and become ``date32``."""
    rows = pa.Table.from_pandas(frame, preserve_index=False)
    for field in rows.schema:
        is_naive_date = pa.types.is_timestamp(field.type) and field.type.tz is None
        if is_naive_date:
            rows = _cast_column(rows, field.name, pa.date32())
    return rows.replace_schema_metadata(None)


def give_nulls_a_type(rows: pa.Table) -> pa.Table:
    """Make columns that hold only nulls text: nothing says yet what they will hold."""
    for field in rows.schema:
        if pa.types.is_null(field.type):
            rows = _cast_column(rows, field.name, pa.string())
    return rows


def fit_to_schema(table: str, rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Give rows the column types of a table where no value changes; delta-rs would cut 1.5 to 1.

    Raises:
        DataError: other columns than the table's, or values that do not fit their types.
    """
    missing = sorted(set(schema.names) - set(rows.column_names))
    extra = sorted(set(rows.column_names) - set(schema.names))
    if missing or extra:
        raise DataError(
            f"rows for {table} have other columns than the table: missing {missing}, extra {extra}."
        )
    try:
        for name in schema.names:
            _check_kind(name, rows.schema.field(name).type, schema.field(name).type)
        return rows.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"rows for {table} do not fit the table's column types: {error}."
        ) from error


def _cast_column(rows: pa.Table, name: str, to: pa.DataType) -> pa.Table:
    """Return the rows with one column in another type."""
    position = rows.schema.get_field_index(name)
    values = rows[name].cast(to)
    return rows.set_column(position, name, values)


def _check_kind(name: str, given: pa.DataType, wanted: pa.DataType) -> None:
    """Refuse text for a number and the other way round, which a cast would convert."""
    if pa.types.is_null(given):
        return
    if is_text(given) != is_text(wanted):
        raise pa.ArrowInvalid(f"{name} is {given}")


def is_text(kind: pa.DataType) -> bool:
    """Tell whether a type is one of Arrow's three for text."""
    texts = (pa.string(), pa.large_string(), pa.string_view())
    return kind in texts


def read_file(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a file with its texts in the type that Arrow can compare."""
    rows = pq.ParquetFile(path).read(columns)
    types = {}
    for field in rows.schema:
        types[field.name] = pa.string() if is_text(field.type) else field.type
    return rows.cast(pa.schema(types))
