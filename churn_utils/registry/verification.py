"""Verify a whole home: tables, versions, approvals, evidence, audit and deployments."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from churn_utils import settings
from churn_utils.data import home_ledger, integrity, table_digests, tables
from churn_utils.data.home_ledger import AUDIT, RECORD, TABLE, VERSION, Entry
from churn_utils.errors import DataError, DeploymentError
from churn_utils.registry import artifacts, deployments, gate_evidence, promotion, versions

SOUND, UNRECORDED, WRONG = "sound", "not recorded", "wrong"  # states
BEFORE = "written before digests were kept"
RECORDED_TAGS = ("approval.", "trial")  # beginnings of the tags of a version that are recorded
Check = Callable[[], str | None]  # returns what is not recorded, if anything; raises what is wrong


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
    ledger = _verify("ledger", _check_ledger)
    entries = [] if ledger.state == WRONG else home_ledger.read_entries()
    found = [ledger, *_verify_tables(entries)]
    if ledger.state == WRONG:
        return found
    found += _verify_versions(entries)
    found.append(_verify("audit", partial(_check_audit, entries)))
    found.append(_verify("deployments", _check_deployments))
    return found


def _verify_tables(entries: list[Entry]) -> list[Verified]:
    """Compare each table that is there, or that the ledger knows."""
    announced = {entry.part for entry in entries if entry.kind == TABLE}
    present = [name for name in tables.KEYS if tables.exists(name) or name in announced]
    return [_verify(f"table {name}", partial(_check_table, name)) for name in present]


def _verify_versions(entries: list[Entry]) -> list[Verified]:
    """Compare each part of each version that is there, or that the ledger knows."""
    recorded = {entry.number for entry in entries if entry.kind == VERSION}
    found = []
    for number in sorted(recorded | set(versions.list_numbers())):
        for part, check in _list_checks(number, entries):
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
        table_digests.adopt(tables.path_of(name))
    for number in versions.list_numbers():
        versions.record_version(number)
        info = versions.read_version(number)
        for tag in _list_tags(info):
            home_ledger.record(VERSION, number, tag, json.loads(info.tags[tag]))
        for digest in gate_evidence.list_digests(number):
            home_ledger.record(VERSION, number, f"{gate_evidence.EVIDENCE} {digest}")
    deployments.record_audit()


def _verify(subject: str, check: Check) -> Verified:
    try:
        unrecorded = check() or ""
    except Exception as error:  # noqa: BLE001 - whatever a damaged file raises is what is wrong
        return Verified(subject, WRONG, str(error) or type(error).__name__)
    return Verified(subject, UNRECORDED if unrecorded else SOUND, unrecorded)


def _check_ledger() -> str:
    return "" if home_ledger.read_entries() else BEFORE


def _check_table(name: str) -> str:
    digests = tables.check_whole(name)
    if digests is None:
        return BEFORE
    if home_ledger.find(home_ledger.read_entries(), TABLE, 0, name) is None:
        raise DataError(f"it has digests, but {settings.ledger()} does not know of them.")
    if digests.unrecorded >= 0:
        return f"versions 0 to {digests.unrecorded} were {BEFORE}"
    return ""


def _list_checks(number: int, entries: list[Entry]) -> Iterator[tuple[str, Check]]:
    """Yield the parts of a version, each with its check."""
    is_recorded = home_ledger.find(entries, VERSION, number, RECORD) is not None
    unrecorded = "" if is_recorded else BEFORE
    for part, use in (
        (RECORD, versions.read_version),
        (artifacts.MODEL, artifacts.check_files),
        (artifacts.CONTRACT, artifacts.read_inputs),
    ):
        yield part, partial(_use, use, number, unrecorded)
    parts = {entry.part for entry in entries if (entry.kind, entry.number) == (VERSION, number)}
    for part in sorted(parts):
        if part.startswith(gate_evidence.EVIDENCE):
            yield part, partial(_check_evidence, number, part.split()[-1])
    yield "tags", partial(_check_tags, number, parts)


def _use(use: Callable[[int], object], number: int, unrecorded: str) -> str:
    use(number)
    return unrecorded


def _check_evidence(number: int, digest: str) -> None:
    _, found = gate_evidence.read_evidence(number, digest)
    if found != digest:
        raise DeploymentError(f"its SHA-256 is {found} now.")


def _list_tags(info: versions.ModelVersion) -> list[str]:
    return [tag for tag in sorted(info.tags) if tag.startswith(RECORDED_TAGS)]


def _check_tags(number: int, parts: set[str]) -> str:
    """Check approvals and A/B test of a version, and its description if the gate judged it."""
    info = versions.read_version(number)
    dropped = {part for part in parts if part.startswith(RECORDED_TAGS)} - set(info.tags)
    if dropped:
        raise DeploymentError(f"{', '.join(sorted(dropped))} is gone.")
    for tag in _list_tags(info):
        facts = json.loads(info.tags[tag])
        home_ledger.check(VERSION, number, tag, facts, DeploymentError)
    if "gate_evidence_sha256" in info.tags:
        evidence, _ = gate_evidence.load_evidence(info)
        if changed := gate_evidence.list_changes(info, evidence):
            raise DeploymentError(f"{changed} changed after the gate.")
        if info.tags.get("gate") != evidence.verdict:
            raise DeploymentError(f"the gate said {evidence.verdict}, the tag says otherwise.")
    return ", ".join(tag for tag in _list_tags(info) if tag not in parts)


def _check_audit(entries: list[Entry]) -> str:
    rows = deployments.read_audit()
    recorded = {entry.number for entry in entries if entry.kind == AUDIT}
    missing = [str(number) for number in rows["entry"] if number not in recorded]
    return f"entries {', '.join(missing)}" if missing else ""


def _check_deployments() -> None:
    """Check each deployment against the audit, and that the newest may answer."""
    audit = deployments.read_audit().set_index("entry")
    history = deployments.list_deployments()
    for past in history:
        row = audit.loc[past.entry]
        facts = (past.version, past.action, past.approved_by, past.evidence_sha256)
        if facts != (row["version"], row["action"], row["by"], row["evidence_sha256"]):
            raise DeploymentError(f"entry {past.entry} is not what the audit says.")
    current = deployments.find_current(history)
    if current is not None:
        promotion.check_deployed(current.version)
    if (current and current.version) != versions.version_with_alias(versions.CHAMPION):
        raise DeploymentError("the alias champion is not on the version in effect.")
