"""Mend the log of a Delta table whose files were written again: their sizes and statistics."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from churn_utils.data import tables
from churn_utils.data.files import write_atomically
from churn_utils.data.table_log import LOG
from churn_utils.data.table_rows import read_file

Action = dict[str, Any]  # one of a commit, by its kind: add, cdc, remove, …


def mend_log(table: str) -> None:
    """Give the log the sizes and statistics that the files of a table have now."""
    folder = tables.path_of(table)
    for path in sorted((folder / LOG).glob("*.json")):
        lines = path.read_text().splitlines()
        mended = [_mend_line(folder, line) for line in lines]
        if mended != lines:
            write_atomically(path, "\n".join(mended) + "\n")
    for path in sorted((folder / LOG).glob("*.checkpoint*.parquet")):
        _mend_checkpoint(folder, path)


def _mend_line(folder: Path, line: str) -> str:
    """Return a line of a commit, changed where its file has changed."""
    entry = json.loads(line)
    is_changed = _mend_entry(folder, entry)
    return json.dumps(entry, separators=(",", ":")) if is_changed else line


def _mend_checkpoint(folder: Path, path: Path) -> None:
    """Mend the entries of a checkpoint, which sums up the commits before it."""
    table = pq.read_table(path)
    entries = table.to_pylist()
    changed = [_mend_entry(folder, entry) for entry in entries]
    if any(changed):
        content = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(entries, table.schema), content)
        write_atomically(path, content.getvalue().to_pybytes())


def _mend_entry(folder: Path, entry: Action) -> bool:
    """Mend the size and the statistics of the file that an entry names; tell whether they differed.

    Files that were vacuumed stay as the log has them.
    """
    found = False
    for kind in ("add", "remove", "cdc"):
        action = entry.get(kind)
        path = folder / action["path"] if action else None
        if action is None or path is None or not path.exists():
            continue
        rows = pq.read_metadata(path).num_rows
        known = json.loads(action.get("stats") or "{}").get("numRecords", rows)
        size = path.stat().st_size
        if (action.get("size") or size, known) == (size, rows):
            continue
        found = True
        action["size"] = size
        if action.get("stats"):
            action["stats"] = json.dumps(_describe(path), separators=(",", ":"))
    return found


def _describe(path: Path) -> dict[str, Any]:
    """Return the statistics of a file as Delta keeps them: rows, nulls, bounds of each column."""
    rows = read_file(path)
    lowest = _list_bounds(rows, pc.min)
    highest = _list_bounds(rows, pc.max)
    nulls = {name: rows[name].null_count for name in rows.column_names}
    return {
        "numRecords": rows.num_rows,
        "minValues": lowest,
        "maxValues": highest,
        "nullCount": nulls,
    }


def _list_bounds(rows: pa.Table, find: Callable) -> dict[str, Any]:
    """Return a bound of each column that has one; without it a reader looks into the file."""
    bounds = {}
    for name in _list_bounded(rows.schema):
        bound = find(rows[name]).as_py()
        if bound is None or (isinstance(bound, float) and not math.isfinite(bound)):
            continue
        is_date = pa.types.is_date(rows[name].type)
        bounds[name] = bound.isoformat() if is_date else bound
    return bounds


def _list_bounded(schema: pa.Schema) -> Iterable[str]:
    """Return the columns whose bounds JSON can hold as they are."""
    for field in schema:
        kind = field.type
        is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if is_number or pa.types.is_string(kind) or pa.types.is_date(kind):
            yield field.name
