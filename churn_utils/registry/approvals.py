"""Approve a version that passed the gate, for one scope and one piece of evidence; or refuse it."""

from __future__ import annotations

import pandas as pd

from churn_utils.errors import DeploymentError
from churn_utils.registry import aliases, artifacts, deployments, gate_evidence, versions
from churn_utils.registry.approval_checks import (
    SCOPES,
    Approval,
    check_costs,
    check_first_use,
    find_trainer,
    keep_approval,
)
from churn_utils.registry.gate_evidence import PASS, GateEvidence
from churn_utils.registry.versions import ModelVersion

APPROVAL_DAYS = 31
AUTOMATIC = "policy:all-checks-passed"  # the named policy of unattended runs; never a person


def approve(
    version: int, approver: str, reason: str, as_of: pd.Timestamp, scope: str = aliases.CHAMPION
) -> Approval:
    """Approve a version that passed the gate, for ``APPROVAL_DAYS``, on the evidence as it is now.

    If the version was promoted on this evidence before, the approval of that promotion is returned
    and no new one is written: the deployments refer to it.

    Args:
        version: number of the version in the registry.
        approver: name of the person or policy; not the trainer.
        reason: why.
        as_of: simulated date of the approval.
        scope: one of ``SCOPES``.

    Raises:
        DeploymentError: no name or reason, no such scope, the gate was not passed, evidence, model
            or record were changed since, the date is before that of the evidence, or the approver
            is the trainer.
    """
    approver, reason = approver.strip(), reason.strip()
    if not approver or not reason:
        raise DeploymentError("an approval needs the approver's name and a reason.")
    if scope not in SCOPES:
        raise DeploymentError(
            f"there is no scope {scope!r}; an approval is for {' or '.join(SCOPES)}."
        )
    info = versions.read_version(version)
    evidence, digest = gate_evidence.load_evidence(info)
    if find_trainer(approver, info, evidence):
        raise DeploymentError(
            f"{approver} trained version {version} and may not approve it; another person must."
        )
    _check_unchanged(info, evidence, digest)
    if f"{as_of:%Y-%m-%d}" < evidence.as_of:
        raise DeploymentError(
            f"version {version} was judged as of {evidence.as_of}, after {as_of:%Y-%m-%d}."
        )
    standing = _find_standing(info, scope, digest)
    if standing is not None:
        return standing
    approval = Approval(
        approver=approver,
        reason=reason,
        scope=scope,
        evidence_sha256=digest,
        approved=f"{as_of:%Y-%m-%d}",
        expires=f"{as_of + pd.Timedelta(days=APPROVAL_DAYS):%Y-%m-%d}",
    )
    keep_approval(version, approval)
    return approval


def refuse(version: int) -> None:
    """Clear the challenger alias of a version that did not pass, and tag it as refused."""
    versions.set_tags(version, {"status": "refused"})
    aliases.clear_challenger(version)


def _check_unchanged(info: ModelVersion, evidence: GateEvidence, digest: str) -> None:
    """Check that the gate was passed, and that evidence, model and record are as it left them."""
    version = info.version
    if info.tags.get("gate") != PASS or not evidence.has_passed:
        raise DeploymentError(
            f"version {version} has not passed the gate (verdict: {evidence.verdict})."
        )
    if digest != info.tags.get("gate_evidence_sha256"):
        raise DeploymentError(
            f"the evidence of version {version} was changed after the gate; run the gate again."
        )
    if artifacts.hash_model(version) != evidence.model_sha256:
        raise DeploymentError(
            f"the files of version {version} are not those that the gate judged; "
            "run the gate again."
        )
    check_costs(info, evidence)
    changed = gate_evidence.list_changes(info, evidence)
    if changed:
        raise DeploymentError(
            f"{changed} of version {version} changed after the gate; run the gate again."
        )


def _find_standing(info: ModelVersion, scope: str, digest: str) -> Approval | None:
    """Return the valid approval under which a version took effect on this evidence, or None."""
    history = deployments.list_deployments()
    own = [past for past in history if past.version == info.version]
    if not own or own[-1].evidence_sha256 != digest:
        return None
    try:
        approval = check_first_use(history, info, digest)
    except DeploymentError:
        return None
    return approval if approval.scope == scope else None
