"""Erase a customer from a home: tables of all versions, online store, pages and lists.

What was learned from the customer stays in the models; which of them can no longer be refitted bit
for bit is said.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from churn_utils import settings
from churn_utils.data import erased_customers, erasure, table_writes, tables
from churn_utils.errors import ChurnError, UsageError
from churn_utils.features import offline, online
from churn_utils.inference.log import recover_journals
from churn_utils.pipeline.erased_files import erase_from_files, find_files
from churn_utils.pipeline.state import hold_home
from churn_utils.registry import deployments, lineage, versions


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
        files = erase_from_files(customer_id)
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
    with table_writes.hold("deployments"):  # whose writers number the entries of the audit too
        deployments.append_audit(change | {"reason": f"{reason} (rows: {counts or 'none'})"})
