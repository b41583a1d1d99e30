"""Verify a whole home: tables, versions, approvals, evidence, audit and deployments."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import partial

from churn_utils import settings
from churn_utils.data import home_ledger, integrity, table_commits, tables
from churn_utils.data.home_ledger import TABLE, VERSION, Entry
from churn_utils.registry import deployments, gate_evidence, versions
from churn_utils.registry.home_checks import (
    Check,
    check_audit,
    check_deployments,
    check_ledger,
    check_table,
)
from churn_utils.registry.version_checks import list_recorded_tags, list_version_checks

SOUND, UNRECORDED, WRONG = "sound", "not recorded", "wrong"  # states


@dataclass(frozen=True)
class Verified:
    """What was found of one thing."""

    subject: str
    state: str
    detail: str


def verify_home() -> list[Verified]:
    """Compare all that this home holds with what was recorded of it.

    Returns:
        One entry for each table, each part of each version, the audit and the deployments. If the
        ledger itself is wrong, versions and audit are left out: nothing tells what they were.
    """
    ledger = _verify("ledger", check_ledger)
    entries = [] if ledger.state == WRONG else home_ledger.read_entries()
    found = [ledger, *_verify_tables(entries)]
    if ledger.state == WRONG:
        return found
    found += _verify_versions(entries)
    found.append(_verify("audit", partial(check_audit, entries)))
    found.append(_verify("deployments", check_deployments))
    return found


def _verify_tables(entries: list[Entry]) -> list[Verified]:
    """Compare each table that is there, or that the ledger knows."""
    announced = {entry.part for entry in entries if entry.kind == TABLE}
    found = []
    for name in tables.KEYS:
        if tables.exists(name) or name in announced:
            check = partial(check_table, name)
            found.append(_verify(f"table {name}", check))
    return found


def _verify_versions(entries: list[Entry]) -> list[Verified]:
    """Compare each part of each version that is there, or that the ledger knows."""
    recorded = {entry.number for entry in entries if entry.kind == VERSION}
    found = []
    for number in sorted(recorded | set(versions.list_numbers())):
        for part, check in list_version_checks(number, entries):
            found.append(_verify(f"version {number}: {part}", check))
    return found


def summarise(found: list[Verified]) -> str:
    """Return how many things are in which state, and the last digest of the ledger.

    The digest, kept elsewhere, tells later whether the end of the ledger was cut.
    """
    counts = Counter(entry.state for entry in found)
    states = ", ".join(f"{counts[state]} {state}" for state in (SOUND, UNRECORDED, WRONG))
    return f"{states}. Ledger: {integrity.describe_end(settings.ledger())}"


def adopt_home() -> None:
    """Record all that has no digest as it is now, and sign all if there is a key.

    Raises:
        ChurnError: what is recorded is not whole.
    """
    integrity.sign_ledger(settings.ledger())
    for name in filter(tables.exists, tables.KEYS):
        table_commits.adopt(tables.path_of(name))
    for number in versions.list_numbers():
        versions.record_version(number)
        info = versions.read_version(number)
        for tag in list_recorded_tags(info):
            home_ledger.record(VERSION, number, tag, json.loads(info.tags[tag]))
        for digest in gate_evidence.list_digests(number):
            home_ledger.record(VERSION, number, f"{gate_evidence.EVIDENCE} {digest}")
    deployments.record_audit()


def _verify(subject: str, check: Check) -> Verified:
    """Run a check and return what it found."""
    try:
        unrecorded = check() or ""
    except Exception as error:  # noqa: BLE001 - whatever a damaged file raises is what is wrong
        return Verified(subject, WRONG, str(error) or type(error).__name__)
    state = UNRECORDED if unrecorded else SOUND
    return Verified(subject, state, unrecorded)
