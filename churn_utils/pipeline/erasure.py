"""Erase a customer from a home: tables of all versions, online store, pages and lists.

What was learned from the customer stays in the models; which of them can no longer be refitted bit
for bit is said.
"""

from __future__ import annotations

import asyncio
import csv
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from churn_utils import settings
from churn_utils.data import erased_customers, erasure, source, tables
from churn_utils.data.columns import BY_NAME, CUSTOMER_ID
from churn_utils.data.erasure import SHORTEST_SEARCHED
from churn_utils.data.files import write_atomically
from churn_utils.errors import ChurnError, UsageError
from churn_utils.features import offline, online
from churn_utils.inference.log import recover_journals
from churn_utils.pipeline.state import hold_home
from churn_utils.registry import deployments, lineage, versions
from churn_utils.upstream.folder import SLOT_NAMES

PAGES = {".html", ".ipynb", ".json", ".md", ".txt"}  # where the id is replaced
REPLACEMENT = b"(erased)"
# Of call lists, and of the copies of deliveries.
ID_COLUMNS = {CUSTOMER_ID, BY_NAME[CUSTOMER_ID].source_name, *SLOT_NAMES}


@dataclass(frozen=True)
class Erasure:
    """What was erased.

    Attributes:
        rows: removed from files of all versions, by table; those of the online store as ``online``.
        files: pages and lists that were changed.
        versions: whose training data held the customer.
        left: files that still mention the id.
    """

    rows: dict[str, int]
    files: int
    versions: list[int]
    left: list[Path]


def erase_customer(customer_id: str, by: str, reason: str) -> Erasure:
    """Erase a customer from this home and its reports, and keep an audit entry without the id.

    What is delivered later leaves the customer out. An erasure that was interrupted is completed
    when it is repeated.

    Raises:
        UsageError: an unknown customer, a blank name or reason, or one that holds the id; or a
            pipeline runs in this home.
    """
    if not customer_id.strip() or not by.strip() or not reason.strip():
        raise UsageError("an erasure needs an id, a name and a reason; one of them is blank.")
    if customer_id in f"{by} {reason}".split():
        raise UsageError("--by or --reason holds the id, and the audit is kept; leave it out.")
    with hold_home():
        recover_journals()  # of an API that was killed
        rows = erasure.count_rows(customer_id)
        if not rows and not erased_customers.is_erased(customer_id):
            raise UsageError(f"no table of {settings.home()} has a customer {customer_id!r}.")
        trained_on = _list_trained_on(customer_id)
        erased_customers.remember(customer_id)
        for table in filter(tables.exists, tables.KEYS):
            erasure.erase_rows(table, customer_id)
        rows |= _erase_online(customer_id)
        files = _erase_from_files(customer_id)
        _record(rows, by, reason)
        left = list(find_files(customer_id))
    return Erasure(rows, files, trained_on, left)


def describe(erased: Erasure) -> str:
    """Return what was erased, and what follows from it, in lines of text."""
    counts = ", ".join(f"{table} {count}" for table, count in erased.rows.items())
    lines = [
        f"Erased, in files of all versions: {counts or 'no row'}; {erased.files} page(s) and "
        "list(s). What is delivered later leaves this customer out."
    ]
    if erased.versions:
        numbers = ", ".join(map(str, erased.versions))
        lines.append(
            f"Version(s) {numbers} can no longer be refitted bit for bit: the customer was in "
            "their training data."
        )
    if erased.left:
        paths = ", ".join(map(str, erased.left))
        lines.append(f"Still mentioned in {paths}: look at what these files are, and delete them.")
    return "\n".join(lines)


def _list_trained_on(customer_id: str) -> list[int]:
    """Return the versions whose training data, as far as it can be read, holds a customer."""
    found: list[int] = []
    if not settings.mlflow_database().exists():
        return found
    for version in sorted(versions.list_versions()["version"]):
        try:
            rows = lineage.read_training_set(version)
        except ChurnError:  # it could not be refitted before either
            continue
        learned = rows[(rows["split"] != "test") & (rows["lookup_status"] == "found")]
        if learned["customer_id"].eq(customer_id).any():
            found.append(int(version))
    return found


def _erase_online(customer_id: str) -> dict[str, int]:
    """Delete a customer from the online store, if one was filled."""
    address = os.environ.get("CHURN_ONLINE_STORE", "")
    if not address and not online.sqlite_path().exists():
        return {}
    store = online.open_store(address)
    rows = store.erase(customer_id)
    asyncio.run(store.close())
    return {"online": rows} if rows else {}


def _record(rows: dict[str, int], by: str, reason: str) -> None:
    """Append the erasure to the audit, without the id."""
    has_features = tables.exists("customer_features")
    today = offline.newest_features() if has_features else settings.month_start(0)
    counts = ", ".join(f"{table} {count}" for table, count in rows.items())
    change = {"as_of": today, "action": deployments.ERASED, "by": by}
    with tables.hold("deployments"):  # whose writers number the entries of the audit too
        deployments.append_audit(change | {"reason": f"{reason} (rows: {counts or 'none'})"})


def _erase_from_files(customer_id: str) -> int:
    """Take a customer out of lists and pages; return how many were changed.

    Lines of a list are removed, in a page the id is replaced. Artifacts of MLflow hold no ids; they
    are bound to approvals by their digests and stay as they are.
    """
    changed = 0
    for path in find_files(customer_id):
        is_page = path.suffix in PAGES and settings.mlflow_folder() not in path.parents
        content = path.read_bytes()
        if path.suffix == ".csv":
            write_atomically(path, _remove_lines(content, customer_id))
        elif is_page:
            write_atomically(path, _pattern(customer_id).sub(REPLACEMENT, content))
        changed += path.suffix == ".csv" or is_page
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
    header = next((fields for fields in map(_split_line, lines) if ID_COLUMNS & set(fields)), [])
    positions = [position for position, name in enumerate(header) if name in ID_COLUMNS]

    def is_of_customer(line: bytes) -> bool:
        if customer_id.encode() not in line:
            return False
        fields = _split_line(line)
        is_own = any(fields[position : position + 1] == [customer_id] for position in positions)
        return is_own or _mentions(line, customer_id)

    return b"".join(line for line in lines if not is_of_customer(line))


def _split_line(line: bytes) -> list[str]:
    """Return the fields of a line of a CSV file, without blanks around them."""
    text = line.decode("utf-8-sig", errors="replace").rstrip("\r\n")
    return [field.strip() for fields in csv.reader([text]) for field in fields]


def _is_in_parquet(path: Path, customer_id: str) -> bool:
    """Tell whether any text in a Parquet file, nested or not, mentions a customer."""
    rows = erasure.read_file(path)
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
