"""Erase a customer from the Delta tables: from every version, the change data feed and the log.

Deleting the rows would leave them in the older versions, and vacuuming those would take from every
model what it was trained on. So the files that hold the customer are written again without the
rows, under their names, and the log gets their new sizes and statistics. All versions stay
readable, and each of them lacks that customer alone.
"""

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
from churn_utils.data.columns import CUSTOMER_ID
from churn_utils.data.files import write_atomically
from churn_utils.data.table_digests import record_rewriting
from churn_utils.data.table_rows import is_text

LOG = "_delta_log"
SHORTEST_SEARCHED = 6  # letters of an id that is searched within text; "1" would be found anywhere
Action = dict[str, Any]  # one of a commit, by its kind: add, cdc, remove, …


def count_rows(customer_id: str) -> dict[str, int]:
    """Return the number of a customer's rows, in files of all versions, by table that has any."""
    counts = {}
    for table in filter(tables.exists, tables.KEYS):
        rows = sum(_count_in_file(path, customer_id) for path in _list_files(table))
        if rows:
            counts[table] = rows
    return counts


def erase_rows(table: str, customer_id: str) -> None:
    """Write the files of a table again without a customer's rows; done twice it changes nothing."""
    with record_rewriting(tables.path_of(table)):
        for path in _list_files(table):
            if _count_in_file(path, customer_id):
                _write_without(path, customer_id)
        _mend_log(table)


def _list_files(table: str) -> list[Path]:
    """Return the files with rows, of all versions and of the change data feed."""
    files = sorted(tables.path_of(table).rglob("*.parquet"))
    return [path for path in files if LOG not in path.parts]


def _count_in_file(path: Path, customer_id: str) -> int:
    """Return the number of a customer's rows in a file."""
    names = pq.read_schema(path).names
    if CUSTOMER_ID not in names:
        return 0
    rows = read_file(path, names if "reason" in names else [CUSTOMER_ID])
    return pc.sum(_are_of(rows, customer_id)).as_py() or 0


def read_file(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a file with its texts in the type that Arrow can compare."""
    rows = pq.ParquetFile(path).read(columns)
    types = {field.name: field.type for field in rows.schema}
    texts = {name: pa.string() for name, kind in types.items() if is_text(kind)}
    return rows.cast(pa.schema(types | texts))


def _are_of(rows: pa.Table, customer_id: str) -> pa.ChunkedArray:
    """Tell which rows are a customer's; in quarantine the id may have slipped into any column."""
    is_own = pc.fill_null(pc.equal(rows[CUSTOMER_ID], customer_id), False)
    if "reason" not in rows.column_names or len(customer_id) < SHORTEST_SEARCHED:
        return is_own
    for field in rows.schema:
        if pa.types.is_string(field.type):
            mentions = pc.match_substring(rows[field.name], customer_id)
            is_own = pc.or_(is_own, pc.fill_null(mentions, False))
    return is_own


def _write_without(path: Path, customer_id: str) -> None:
    """Replace a file by one without a customer's rows."""
    rows = read_file(path)
    content = pa.BufferOutputStream()
    others = rows.filter(pc.invert(_are_of(rows, customer_id)))
    pq.write_table(others, content, compression="snappy")
    write_atomically(path, content.getvalue().to_pybytes())


def _mend_log(table: str) -> None:
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
        is_finite = not isinstance(bound, float) or math.isfinite(bound)
        if bound is not None and is_finite:
            bounds[name] = bound.isoformat() if pa.types.is_date(rows[name].type) else bound
    return bounds


def _list_bounded(schema: pa.Schema) -> Iterable[str]:
    """Return the columns whose bounds JSON can hold as they are."""
    for field in schema:
        kind = field.type
        is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if is_number or pa.types.is_string(kind) or pa.types.is_date(kind):
            yield field.name
