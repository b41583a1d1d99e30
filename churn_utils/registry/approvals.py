"""Approvals: kept with a version for one scope and one evidence each, and worth nothing once either is changed."""

from __future__ import annotations

import json

import pandas as pd

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.errors import DeploymentError
from churn_utils.registry import artifacts, versions

NEEDED = {"approver", "reason", "scope", "evidence_sha256", "approved", "expires"}
EXACT = {"format": "%Y-%m-%d", "errors": "coerce"}
APPROVAL_DAYS = 31
SCOPES = (versions.CHAMPION, versions.TRIAL)  # answer all customers, or a share of them
AUTOMATIC = "policy:all-checks-passed"  # the named policy of unattended runs; never a person


def approve(
    version: int, approver: str, reason: str, as_of: pd.Timestamp, scope: str = versions.CHAMPION
) -> dict:
    """Approve a version that passed the gate, bound to the evidence as it stands now.

    Args:
        version: number of the version in the registry.
        approver: name of the person or policy that approves; not the trainer.
        reason: why.
        as_of: simulated date of the approval.
        scope: one of ``SCOPES``.

    Returns:
        The approval: ``approver, reason, scope, evidence_sha256, approved, expires``, valid for
        ``APPROVAL_DAYS`` simulated days. If the version was promoted on this evidence before, the
        approval of that promotion is returned and no new one is written: the deployments refer to it.

    Raises:
        DeploymentError: no name or reason, no such scope, the gate was not passed, evidence, model or
            record were changed since, the date is before that of the evidence, or the approver is
            the trainer.
    """
    approver, reason = approver.strip(), reason.strip()
    if not approver or not reason:
        raise DeploymentError("an approval needs the approver's name and a reason.")
    if scope not in SCOPES:
        raise DeploymentError(
            f"there is no scope {scope!r}; an approval is for {' or '.join(SCOPES)}."
        )
    info = versions.read_version(version)
    evidence, digest = versions.read_evidence(version)
    _check_not_trainer(info, evidence, approver)
    _check_evidence_stands(info, evidence, digest)
    if f"{as_of:%Y-%m-%d}" < evidence["as_of"]:
        raise DeploymentError(
            f"version {version} was judged as of {evidence['as_of']}, after {as_of:%Y-%m-%d}."
        )
    standing = _find_standing(info, scope, digest)
    if standing is not None:
        return standing
    approval = {
        "approver": approver,
        "reason": reason,
        "scope": scope,
        "evidence_sha256": digest,
        "approved": f"{as_of:%Y-%m-%d}",
        "expires": f"{as_of + pd.Timedelta(days=APPROVAL_DAYS):%Y-%m-%d}",
    }
    keep_approval(version, approval)
    return approval


def refuse(version: int) -> None:
    """Clear the challenger alias of a version that did not pass, and tag it as refused."""
    versions.set_tags(version, {"status": "refused"})
    versions.clear_challenger(version)


def _check_not_trainer(info: versions.ModelVersion, evidence: dict, approver: str) -> None:
    for trainer in (info.trained_by, evidence.get("trained_by", "")):
        if settings.is_same_person(approver, trainer):
            raise DeploymentError(
                f"{approver} trained version {info.version} and may not approve it; "
                "another person must."
            )


def _check_evidence_stands(info: versions.ModelVersion, evidence: dict, digest: str) -> None:
    """Check that the gate was passed, and that evidence, model and record are as it left them."""
    version, tags = info.version, info.tags
    if tags.get("gate") != "pass" or not has_passed(evidence):
        raise DeploymentError(
            f"version {version} has not passed the gate (verdict: {evidence['verdict']})."
        )
    if digest != tags.get("gate_evidence_sha256"):
        raise DeploymentError(
            f"the evidence of version {version} was changed after the gate; run the gate again."
        )
    if artifacts.hash_model(version) != evidence.get("model_sha256"):
        raise DeploymentError(
            f"the files of version {version} are not those that the gate judged; "
            "run the gate again."
        )
    changed = list_changes(version, evidence)
    if changed:
        raise DeploymentError(
            f"{changed} of version {version} changed after the gate; run the gate again."
        )


def _find_standing(info: versions.ModelVersion, scope: str, digest: str) -> dict | None:
    """Return the valid approval under which a version took effect on this evidence, or None."""
    if not tables.exists("deployments"):
        return None
    table = tables.read("deployments", columns=["version", "evidence_sha256", "effective_from"])
    recorded = table.loc[table["version"] == info.version, "evidence_sha256"]
    if recorded.empty or recorded.iloc[-1] != digest:
        return None
    try:
        approval = check_first_use(table, info, digest)
    except DeploymentError:
        return None
    return approval if approval["scope"] == scope else None


def check_first_use(deployed: pd.DataFrame, info: versions.ModelVersion, digest: str) -> dict:
    """Check the approval of some evidence on the date on which a version first took effect on it.

    Args:
        deployed: the table ``deployments`` with ``version, evidence_sha256, effective_from``.
        info: as ``versions.read_version`` returns it.
        digest: SHA-256 of the evidence.

    Returns:
        The approval, as ``approve`` returns it.

    Raises:
        DeploymentError: as ``check_approval``.
    """
    same = (deployed["version"] == info.version) & (deployed["evidence_sha256"] == digest)
    started = deployed.loc[same, "effective_from"].min()
    return check_approval(info, digest, started)[0]


def keep_approval(version: int, approval: dict) -> None:
    """Keep an approval with a version, beside those for other scopes and for other evidence."""
    tag = _name_tag(approval["scope"], approval["evidence_sha256"])
    versions.set_tags(version, {tag: json.dumps(approval)})


def find_approval(info: versions.ModelVersion, scope: str, digest: str) -> dict | None:
    """The approval of a version for a scope on the evidence of a digest; None where there is none.

    Raises:
        DeploymentError: what is kept there is none.
    """
    text = info.tags.get(_name_tag(scope, digest))
    return None if text is None else parse_approval(info.version, text)


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
            f"the approval of version {version} lacks {', '.join(sorted(lacks))}; approve it again."
        )
    return approval


def check_newest(
    info: versions.ModelVersion, as_of: pd.Timestamp, scopes: tuple[str, ...] = (versions.CHAMPION,)
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
    version, tags = info.version, info.tags
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
    info: versions.ModelVersion,
    digest: str,
    as_of: pd.Timestamp,
    scopes: tuple[str, ...] = (versions.CHAMPION,),
) -> tuple[dict, dict]:
    """Check, as ``check_newest`` does, the approval of the evidence of a digest, whatever the gate has said since."""
    version = info.version
    approval = _find_in_force(info, digest, scopes)
    evidence, found = versions.read_evidence(version, approval["evidence_sha256"])
    if found != approval["evidence_sha256"] or not has_passed(evidence):
        raise DeploymentError(
            f"the evidence of version {version} is not what {approval['approver']} approved: SHA-256 {found}, "
            f"approved {approval['evidence_sha256']}. Run the gate again and have it approved again."
        )
    if artifacts.hash_model(version) != evidence.get("model_sha256"):
        raise DeploymentError(
            f"the files of version {version} are not those that the gate judged and {approval['approver']} approved. "
            "Train and register a version again, or put the files back."
        )
    for trainer in (
        info.trained_by,
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


def _find_in_force(info: versions.ModelVersion, digest: str, scopes: tuple[str, ...]) -> dict:
    """Return the approval for one of the scopes on that evidence.

    Raises:
        DeploymentError: there is none; the message says what the version is approved for instead.
    """
    version = info.version
    for scope in scopes:
        approval = find_approval(info, scope, digest)
        if approval and approval["scope"] == scope and approval["evidence_sha256"] == digest:
            return approval
    texts = [text for tag, text in sorted(info.tags.items()) if tag.startswith("approval.")]
    if not texts:
        raise DeploymentError(f"version {version} has no approval; run notebook 04b.")
    others = [parse_approval(version, text) for text in texts]
    for other in others:
        if other["evidence_sha256"] == digest:
            raise DeploymentError(
                f"version {version} is approved for {other['scope']!r}, not for {scopes[0]!r}."
            )
    approved = ", ".join(other["evidence_sha256"] for other in others)
    raise DeploymentError(
        f"the evidence of version {version} is not what {others[-1]['approver']} approved: "
        f"SHA-256 {digest}, approved {approved}. Have it approved again."
    )


def _name_tag(scope: str, digest: str) -> str:
    return f"approval.{scope}.{digest}"
