"""Checks of a home against its ledger.

Each returns what is not recorded, empty if all is, and raises what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable

from churn_utils import settings
from churn_utils.data import home_ledger, tables
from churn_utils.data.home_ledger import AUDIT, TABLE, Entry
from churn_utils.errors import DataError, DeploymentError
from churn_utils.registry import aliases, deployments, promotion

BEFORE = "written before digests were kept"
Check = Callable[[], str | None]  # returns what is not recorded, if anything; raises what is wrong


def check_ledger() -> str:
    """Check that every line of the ledger is whole."""
    return "" if home_ledger.read_entries() else BEFORE


def check_table(name: str) -> str:
    """Check the files and the log of a table."""
    digests = tables.check_whole(name)
    if digests is None:
        return BEFORE
    if home_ledger.find(home_ledger.read_entries(), TABLE, 0, name) is None:
        raise DataError(f"it has digests, but {settings.ledger()} does not know of them.")
    if digests.unrecorded >= 0:
        return f"versions 0 to {digests.unrecorded} were {BEFORE}"
    return ""


def check_audit(entries: list[Entry]) -> str:
    """Check that each entry of the audit is as it was written."""
    rows = deployments.read_audit()
    recorded = {entry.number for entry in entries if entry.kind == AUDIT}
    missing = [str(number) for number in rows["entry"] if number not in recorded]
    return f"entries {', '.join(missing)}" if missing else ""


def check_deployments() -> None:
    """Check each deployment against the audit, and that the newest may answer."""
    audit = deployments.read_audit().set_index("entry")
    history = deployments.list_deployments()
    for past in history:
        row = audit.loc[past.entry]
        audited = (row["version"], row["action"], row["by"], row["evidence_sha256"])
        if audited != (past.version, past.action, past.approved_by, past.evidence_sha256):
            raise DeploymentError(f"entry {past.entry} is not what the audit says.")
    current = deployments.find_current(history)
    if current is not None:
        promotion.check_deployed(current.version)
    version = current.version if current is not None else None
    if version != aliases.version_with_alias(aliases.CHAMPION):
        raise DeploymentError("the alias champion is not on the version in effect.")
