"""Checks of the parts of a version against the ledger; they answer as those in home_checks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial

from churn_utils.data import home_ledger
from churn_utils.data.home_ledger import RECORD, VERSION, Entry
from churn_utils.errors import DeploymentError
from churn_utils.registry import artifacts, gate_evidence, versions
from churn_utils.registry.home_checks import BEFORE, Check

RECORDED_TAGS = ("approval.", "trial")  # beginnings of the tags of a version that are recorded


def list_version_checks(number: int, entries: list[Entry]) -> Iterator[tuple[str, Check]]:
    """Yield the parts of a version, each with its check."""
    is_recorded = home_ledger.find(entries, VERSION, number, RECORD) is not None
    unrecorded = "" if is_recorded else BEFORE
    reads = {
        RECORD: versions.read_version,
        artifacts.MODEL: artifacts.check_files,
        artifacts.CONTRACT: artifacts.read_inputs,
    }
    for part, read in reads.items():
        yield part, partial(_check_reading, read, number, unrecorded)
    own = [entry for entry in entries if (entry.kind, entry.number) == (VERSION, number)]
    parts = {entry.part for entry in own}
    for part in sorted(parts):
        if part.startswith(gate_evidence.EVIDENCE):
            *_, digest = part.split()
            yield part, partial(_check_evidence, number, digest)
    yield "tags", partial(_check_tags, number, parts)


def _check_reading(read: Callable[[int], object], number: int, unrecorded: str) -> str:
    """Read a part of a version, which raises if it is not as it was recorded."""
    read(number)
    return unrecorded


def _check_evidence(number: int, digest: str) -> None:
    """Check that a piece of evidence has the digest under which it was recorded."""
    _, found = gate_evidence.read_evidence(number, digest)
    if found != digest:
        raise DeploymentError(f"its SHA-256 is {found} now.")


def list_recorded_tags(info: versions.ModelVersion) -> list[str]:
    """Return the names of the tags of a version that are recorded: approvals, A/B test."""
    return [tag for tag in sorted(info.tags) if tag.startswith(RECORDED_TAGS)]


def _check_tags(number: int, parts: set[str]) -> str:
    """Check approvals and A/B test of a version, and its description if the gate judged it."""
    info = versions.read_version(number)
    recorded = {part for part in parts if part.startswith(RECORDED_TAGS)}
    dropped = recorded - set(info.tags)
    if dropped:
        raise DeploymentError(f"{', '.join(sorted(dropped))} is gone.")
    tags = list_recorded_tags(info)
    for tag in tags:
        facts = json.loads(info.tags[tag])
        home_ledger.check(VERSION, number, tag, facts, DeploymentError)
    if "gate_evidence_sha256" in info.tags:
        _check_judged(info)
    unrecorded = [tag for tag in tags if tag not in parts]
    return ", ".join(unrecorded)


def _check_judged(info: versions.ModelVersion) -> None:
    """Check that a version is as the gate saw it, and that its tag has the gate's verdict."""
    evidence, _ = gate_evidence.load_evidence(info)
    changed = gate_evidence.list_changes(info, evidence)
    if changed:
        raise DeploymentError(f"{changed} changed after the gate.")
    if info.tags.get("gate") != evidence.verdict:
        raise DeploymentError(f"the gate said {evidence.verdict}, the tag says otherwise.")
