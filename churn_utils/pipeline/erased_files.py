"""Find a customer in the files of a home and its reports, and take the customer out of them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from churn_utils import settings
from churn_utils.data import source, table_rows
from churn_utils.data.columns import BY_NAME, CUSTOMER_ID
from churn_utils.data.erasure import SHORTEST_SEARCHED
from churn_utils.data.files import write_atomically
from churn_utils.upstream.folder import SLOT_NAMES

PAGES = {".html", ".ipynb", ".json", ".md", ".txt"}  # where the id is replaced
REPLACEMENT = b"(erased)"
# Of call lists, and of the copies of deliveries.
ID_COLUMNS = {CUSTOMER_ID, BY_NAME[CUSTOMER_ID].source_name, *SLOT_NAMES}


def erase_from_files(customer_id: str) -> int:
    """Take a customer out of lists and pages; return how many were changed.

    Lines of a list are removed, in a page the id is replaced. Artifacts of MLflow hold no ids; they
    are bound to approvals by their digests and stay as they are.
    """
    changed = 0
    for path in find_files(customer_id):
        content = path.read_bytes()
        if path.suffix == ".csv":
            content = _remove_lines(content, customer_id)
        elif path.suffix in PAGES and settings.mlflow_folder() not in path.parents:
            content = _pattern(customer_id).sub(REPLACEMENT, content)
        else:
            continue
        write_atomically(path, content)
        changed += 1
    return changed


def find_files(customer_id: str) -> Iterator[Path]:
    """Find the files of this home and its reports that mention a customer.

    IBM's public extract is left out. An id that is too short to be searched in text is only looked
    for in tables, and in the id columns of lists.
    """
    extract = settings.raw() / source.FILE_NAME
    for folder in (settings.home(), settings.reports()):
        for path in sorted(folder.rglob("*")):
            if path == extract or not path.is_file():
                continue
            if _is_in_file(path, customer_id):
                yield path


def _is_in_file(path: Path, customer_id: str) -> bool:
    """Tell whether a file mentions a customer."""
    if path.suffix == ".parquet":
        return _is_in_parquet(path, customer_id)
    content = path.read_bytes()
    if path.suffix == ".csv":
        return len(_remove_lines(content, customer_id)) < len(content)
    if path.suffix in PAGES:
        return _mentions(content, customer_id)
    # In a database the id may touch the next field, so it need not be a word of its own.
    return len(customer_id) >= SHORTEST_SEARCHED and customer_id.encode() in content


def _remove_lines(content: bytes, customer_id: str) -> bytes:
    """Return a CSV file without the lines that are a customer's, or mention it."""
    lines = content.splitlines(keepends=True)
    positions = _find_id_columns(lines)

    def is_of_customer(line: bytes) -> bool:
        if customer_id.encode() not in line:
            return False
        fields = _split_line(line)
        is_own = any(fields[position : position + 1] == [customer_id] for position in positions)
        return is_own or _mentions(line, customer_id)

    kept = [line for line in lines if not is_of_customer(line)]
    return b"".join(kept)


def _find_id_columns(lines: list[bytes]) -> list[int]:
    """Return the positions of the id columns, by the first line that names one."""
    for line in lines:
        names = _split_line(line)
        if not ID_COLUMNS.isdisjoint(names):
            return [position for position, name in enumerate(names) if name in ID_COLUMNS]
    return []


def _split_line(line: bytes) -> list[str]:
    """Return the fields of a line of a CSV file, without blanks around them."""
    text = line.decode("utf-8-sig", errors="replace").rstrip("\r\n")
    return [field.strip() for fields in csv.reader([text]) for field in fields]


def _is_in_parquet(path: Path, customer_id: str) -> bool:
    """Tell whether any text in a Parquet file, nested or not, mentions a customer."""
    rows = table_rows.read_file(path)
    for column in rows.columns:
        if pa.types.is_primitive(column.type):
            continue
        values = column.unique() if pa.types.is_string(column.type) else column
        if any(_mentions(str(value).encode(), customer_id) for value in values.to_pylist()):
            return True
    return False


def _mentions(content: bytes, customer_id: str) -> bool:
    """Tell whether a text has the id as a word."""
    is_long_enough = len(customer_id) >= SHORTEST_SEARCHED
    return is_long_enough and _pattern(customer_id).search(content) is not None


def _pattern(customer_id: str) -> re.Pattern[bytes]:
    """Return the pattern of an id that is not part of a longer one."""
    return re.compile(rb"(?<![\w-])" + re.escape(customer_id.encode()) + rb"(?![\w-])")
