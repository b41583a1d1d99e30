"""Which version was in effect when: the tables ``deployments`` and ``audit``."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pandas as pd

from churn_utils.data import home_ledger, table_writes, tables
from churn_utils.data.home_ledger import AUDIT as AUDITED
from churn_utils.data.home_ledger import RECORD
from churn_utils.errors import DeploymentError

# Actions, as both tables hold them; those of the second line stand in the audit alone.
PROMOTED, ROLLED_BACK = "promoted", "rolled back"
REWOUND, ACCEPTED, ERASED = "taken back", "accepted delivery", "erased customer"
AUDIT = ["entry", "as_of", "action", "version", "replaced", "by", "reason", "evidence_sha256"]


@dataclass(frozen=True)
class Deployment:
    """A version that took effect on a date; a row of the table ``deployments``.

    Attributes:
        entry: that of the audit, in which several changes may fall on one simulated day.
        effective_from: first date.
        version: number of the version.
        effective_to: date from which another version is in effect; NaT for the current one.
        action: ``promoted`` or ``rolled back``.
        approved_by: name of the person or policy that approved it, or rolled back to it.
        evidence_sha256: of the gate's evidence that it was approved on.
        reason: why.
    """

    entry: int
    effective_from: pd.Timestamp
    version: int
    effective_to: pd.Timestamp
    action: str
    approved_by: str
    evidence_sha256: str
    reason: str

    @property
    def is_current(self) -> bool:
        """Whether it has not ended."""
        return pd.isna(self.effective_to)

    def is_in_effect_on(self, date: pd.Timestamp) -> bool:
        """Tell whether it is in effect on a date."""
        if date < self.effective_from:
            return False
        return self.is_current or date < self.effective_to


def read_deployments(table_version: int | None = None) -> pd.DataFrame:
    """Read the table ``deployments``, by default its newest Delta version.

    Returns:
        One row per change in their order, with the columns of ``Deployment``; none when nothing was
        ever promoted.
    """
    columns = [field.name for field in fields(Deployment)]
    if not tables.exists("deployments"):
        types = {
            "entry": "int64",
            "effective_from": "datetime64[ms]",
            "effective_to": "datetime64[ms]",
        }
        return pd.DataFrame(columns=columns).astype(types)
    return tables.read("deployments", version=table_version, columns=columns)


def list_deployments(table_version: int | None = None) -> list[Deployment]:
    """Return the rows of ``deployments`` in the order of the changes."""
    table = read_deployments(table_version)
    return [Deployment(*row) for row in table.itertuples(index=False)]


def find_current(history: list[Deployment]) -> Deployment | None:
    """Return the deployment that has not ended, or None."""
    return next((past for past in reversed(history) if past.is_current), None)


def version_in_effect() -> int | None:
    """Return the version whose deployment has not ended, whatever the date is, or None."""
    current = find_current(list_deployments())
    return None if current is None else current.version


def champion_at(date: pd.Timestamp) -> int | None:
    """Return the version in effect on a date, or None."""
    found = find_in_effect(list_deployments(), date)
    return None if found is None else found.version


def find_in_effect(history: list[Deployment], date: pd.Timestamp) -> Deployment | None:
    """Return the deployment in effect on a date, or None."""
    return next((past for past in reversed(history) if past.is_in_effect_on(date)), None)


def predecessor_at(date: pd.Timestamp) -> int | None:
    """Return the version that a rollback on a date would restore, or None."""
    found = find_predecessor(list_deployments(), date)
    return None if found is None else found.version


def find_predecessor(history: list[Deployment], date: pd.Timestamp) -> Deployment | None:
    """Return the promotion that a rollback on a date would restore, or None.

    It is the one in effect before, leaving out those that were rolled back.
    """
    until_then = [past for past in history if past.effective_from <= date]
    standing = list_standing(until_then)
    champion = find_in_effect(history, date)
    if len(standing) < 2 or champion is None or champion.version != standing[-1].version:
        return None
    return standing[-2]


def list_standing(history: list[Deployment]) -> list[Deployment]:
    """Return the promotions that no rollback has undone; the last one's version is in effect."""
    standing: list[Deployment] = []
    for deployment in history:
        if deployment.action == ROLLED_BACK:
            while standing and standing[-1].version != deployment.version:
                standing.pop()
        if deployment.action != ROLLED_BACK or not standing:
            standing.append(deployment)
    return standing


def write_deployments(changed: list[Deployment]) -> None:
    """Merge rows into ``deployments`` in one commit."""
    rows = pd.DataFrame(changed).astype({"effective_to": "datetime64[ms]"})
    table_writes.merge("deployments", rows)


def read_audit() -> pd.DataFrame:
    """Read every change in the order in which it was made, from the table ``audit``.

    It is append-only: unlike ``deployments`` it is not rewound when the pipeline repeats a stage,
    because what answered did answer. That a stage was repeated is an entry of its own.

    Returns:
        One row per change with the columns ``AUDIT``; ``version`` is in effect from ``as_of`` on
        and ``replaced`` was before, each missing where there is none.

    Raises:
        DeploymentError: an entry was dropped or changed.
    """
    rows = pd.DataFrame(columns=AUDIT)
    if tables.exists("audit"):
        rows = tables.read("audit", columns=AUDIT)
        rows = rows.astype({"version": "Int64", "replaced": "Int64"})
    entries = home_ledger.read_entries()
    recorded = {entry.number for entry in entries if entry.kind == AUDITED}
    dropped = sorted(recorded - set(rows["entry"]))
    if dropped:
        raise DeploymentError(
            f"entries {dropped} of the audit are gone. Restore the home from a copy."
        )
    for row in rows.to_dict("records"):
        entry, facts = row["entry"], _describe(row)
        if entry in recorded:  # the newest may not be: its process may have been killed
            home_ledger.check(AUDITED, entry, RECORD, facts, DeploymentError, entries)
    return rows


def record_audit() -> pd.DataFrame:
    """Record the entries of the audit that are not recorded yet; return the audit."""
    audit = read_audit()
    recorded = {entry.number for entry in home_ledger.read_entries() if entry.kind == AUDITED}
    for row in audit.to_dict("records"):
        if row["entry"] not in recorded:
            home_ledger.record(AUDITED, row["entry"], RECORD, _describe(row))
    return audit


def _describe(row: dict) -> dict[str, str]:
    return {name: "" if pd.isna(value) else str(value) for name, value in row.items()}


def append_audit(change: dict) -> int:
    """Append a change, with the columns ``AUDIT`` but ``entry``, to the audit; return its entry."""
    entry = len(record_audit()) + 1
    row = pd.DataFrame([{"entry": entry, **change}], columns=AUDIT)
    row = row.astype({"version": "Int64", "replaced": "Int64"})
    table_writes.merge("audit", row)
    record_audit()
    return entry


def list_accepted() -> list[tuple[str, str]]:
    """Return month (such as 2025-04) and digest of the deliveries that were accepted, in order."""
    audit = read_audit()
    accepted = audit[audit["action"] == ACCEPTED]
    months = pd.to_datetime(accepted["as_of"]).dt.strftime("%Y-%m")
    return list(zip(months, accepted["evidence_sha256"], strict=True))
