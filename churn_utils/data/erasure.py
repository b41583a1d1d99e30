"""Erase a customer from the Delta tables: from every version, the change data feed and the log.

Deleting the rows would leave them in the older versions, and vacuuming those would take from every
model what it was trained on. So the files that hold the customer are written again without the
rows, under their names, and the log gets their new sizes and statistics. All versions stay
readable, and each of them lacks that customer alone.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from churn_utils.data import tables
from churn_utils.data.columns import CUSTOMER_ID
from churn_utils.data.files import write_atomically
from churn_utils.data.log_mending import mend_log
from churn_utils.data.table_commits import record_rewriting
from churn_utils.data.table_log import LOG
from churn_utils.data.table_rows import read_file

SHORTEST_SEARCHED = 6  # letters of an id that is searched within text; "1" would be found anywhere


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
        mend_log(table)


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
