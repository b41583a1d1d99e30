"""Approvals: kept with a version for one scope and one evidence each, and worth nothing once either is changed."""

from __future__ import annotations

import json

import pandas as pd

from churn_utils import settings
from churn_utils.errors import DeploymentError
from churn_utils.registry import artifacts, versions

NEEDED = {"approver", "reason", "scope", "evidence_sha256", "approved", "expires"}
EXACT = {"format": "%Y-%m-%d", "errors": "coerce"}


def keep_approval(version: int, approval: dict) -> None:
    """Keep an approval with a version, beside those for other scopes and for other evidence."""
    tag = _name_tag(approval["scope"], approval["evidence_sha256"])
    versions.set_tags(version, {tag: json.dumps(approval)})


def find_approval(info: dict, scope: str, digest: str) -> dict | None:
    """The approval of a version for a scope on the evidence of a digest; None where there is none.

    Raises:
        DeploymentError: what is kept there is none.
    """
    text = info["tags"].get(_name_tag(scope, digest))
    return None if text is None else parse_approval(info["version"], text)


def parse_approval(version: int, text: str) -> dict:
    """Read an approval as it is kept with a version.

    Raises:
        DeploymentError: it lacks something, or is none at all.
    """
    try:
        approval = dict(json.loads(text))
        lacks = {
            name
            for name in NEEDED
            if not isinstance(approval.get(name), str) or not approval[name].strip()
        }
        lacks |= {
            name
            for name in {"approved", "expires"} - lacks
            if pd.isna(pd.to_datetime(approval[name], **EXACT))
        }
    except (ValueError, TypeError):
        approval, lacks = {}, NEEDED
    if lacks:
        raise DeploymentError(
            f"the approval of version {version} lacks {', '.join(sorted(lacks))}; approve it anew."
        )
    return approval


def check_newest(
    info: dict, as_of: pd.Timestamp, scopes: tuple[str, ...] = (versions.CHAMPION,)
) -> tuple[dict, dict]:
    """Check that a version passed its last gate and holds an approval of that for one of ``scopes`` on a date.

    Args:
        info: as ``registry.read_version`` returns it.
        as_of: simulated date on which the approval must not have expired.
        scopes: what it may be approved for; the first that it is counts.

    Returns:
        The approval and the evidence.

    Raises:
        DeploymentError: the gate was not passed; there is no approval, it was given by the trainer, for another scope
            or for other evidence than stands there now, it has expired or is of a later day; the model's files were
            changed since the gate.
    """
    version, tags = info["version"], info["tags"]
    if tags.get("gate") != "pass":
        raise DeploymentError(
            f"version {version} has not passed the gate (gate: {tags.get('gate', 'never run')})."
        )
    return check_approval(info, tags.get("gate_evidence_sha256", ""), as_of, scopes)


def has_passed(evidence: dict) -> bool:
    """Tell whether evidence says pass, and each check in it does: the verdict alone is one word."""
    verdicts = [check.get("verdict") for check in evidence.get("checks", [])]
    return evidence.get("verdict") == "pass" and set(verdicts) == {"pass"}


def list_changes(version: int, evidence: dict) -> str:
    """What of a version's record is not as the gate judged it, in words; empty when all of it is."""
    now = versions.describe_record(version)
    return ", ".join(
        name.removesuffix("_sha256") for name, value in now.items() if evidence.get(name) != value
    )


def check_approval(
    info: dict, digest: str, as_of: pd.Timestamp, scopes: tuple[str, ...] = (versions.CHAMPION,)
) -> tuple[dict, dict]:
    """Check, as ``check_newest`` does, the approval of the evidence of a digest, whatever the gate has said since."""
    version = info["version"]
    approval = _find_in_force(info, digest, scopes)
    evidence, found = versions.read_evidence(version, approval["evidence_sha256"])
    if found != approval["evidence_sha256"] or not has_passed(evidence):
        raise DeploymentError(
            f"the evidence of version {version} is not what {approval['approver']} approved: SHA-256 {found}, "
            f"approved {approval['evidence_sha256']}. Run the gate again and have it approved anew."
        )
    if artifacts.hash_model(version) != evidence.get("model_sha256"):
        raise DeploymentError(
            f"the files of version {version} are not those that the gate judged and {approval['approver']} approved. "
            "Train and register a version anew, or put the files back."
        )
    for trainer in (
        info["trained_by"],
        evidence.get("trained_by", ""),
    ):  # as it stands now, and as it was judged
        if settings.is_same_person(approval["approver"], trainer):
            raise DeploymentError(f"version {version} was approved by its trainer, {trainer}.")
    if as_of < pd.Timestamp(approval["approved"]):
        raise DeploymentError(
            f"version {version} was approved on {approval['approved']}, after {as_of:%Y-%m-%d}."
        )
    if as_of > pd.Timestamp(approval["expires"]):
        raise DeploymentError(
            f"the approval of version {version} expired on {approval['expires']}."
        )
    return approval, evidence


def _find_in_force(info: dict, digest: str, scopes: tuple[str, ...]) -> dict:
    """The approval for one of the scopes on that evidence; else an error that says what there is instead."""
    version = info["version"]
    for scope in scopes:
        approval = find_approval(info, scope, digest)
        if approval and approval["scope"] == scope and approval["evidence_sha256"] == digest:
            return approval
    others = [text for tag, text in sorted(info["tags"].items()) if tag.startswith("approval.")]
    if not others:
        raise DeploymentError(f"version {version} has no approval; run notebook 04b.")
    others = [parse_approval(version, text) for text in others]
    for other in others:
        if other["evidence_sha256"] == digest:
            raise DeploymentError(
                f"version {version} is approved for {other['scope']!r}, not for {scopes[0]!r}."
            )
    raise DeploymentError(
        f"the evidence of version {version} is not what {others[-1]['approver']} approved: SHA-256 {digest}, approved "
        f"{', '.join(other['evidence_sha256'] for other in others)}. Have it approved anew."
    )


def _name_tag(scope: str, digest: str) -> str:
    return f"approval.{scope}.{digest}"
