"""Approvals: each is for one scope and one piece of evidence, and void once either is changed."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated

import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError

from churn_utils import settings
from churn_utils.data import home_ledger
from churn_utils.data.home_ledger import VERSION
from churn_utils.errors import DeploymentError
from churn_utils.registry import artifacts, deployments, gate_evidence, versions
from churn_utils.registry.gate_evidence import PASS, GateEvidence
from churn_utils.registry.versions import ModelVersion

APPROVAL_DAYS = 31
SCOPES = (versions.CHAMPION, versions.TRIAL)  # answer all customers, or a share of them
PROMOTION = (versions.CHAMPION,)  # the scopes that allow one
AUTOMATIC = "policy:all-checks-passed"  # the named policy of unattended runs; never a person


def _check_date(text: str) -> str:
    datetime.strptime(text, "%Y-%m-%d")
    return text


Text = Annotated[str, StringConstraints(pattern=r"\S")]
Date = Annotated[str, AfterValidator(_check_date)]


class Approval(BaseModel):
    """An approval, kept as JSON in a tag of its version.

    Attributes:
        approver: name of the person or policy.
        reason: why.
        scope: one of ``SCOPES``.
        evidence_sha256: of the evidence that was approved.
        approved: simulated date, as ``2025-02-01``.
        expires: last date on which it is valid.
    """

    model_config = ConfigDict(frozen=True)

    approver: Text
    reason: Text
    scope: Text
    evidence_sha256: Text
    approved: Date
    expires: Date


def approve(
    version: int, approver: str, reason: str, as_of: pd.Timestamp, scope: str = versions.CHAMPION
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
    if _find_trainer(approver, info, evidence):
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
    versions.clear_challenger(version)


def _find_trainer(approver: str, info: ModelVersion, evidence: GateEvidence) -> str | None:
    """Return the trainer's name, now or when the gate judged, if the approver is that person."""
    for trainer in (info.trained_by, evidence.trained_by):
        if settings.is_same_person(approver, trainer):
            return trainer
    return None


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
    _check_costs(info, evidence)
    changed = gate_evidence.list_changes(info, evidence)
    if changed:
        raise DeploymentError(
            f"{changed} of version {version} changed after the gate; run the gate again."
        )


def _check_costs(info: ModelVersion, evidence: GateEvidence) -> None:
    """Check that a version decides by the costs that the gate judged it under."""
    judged = evidence.economics
    if judged is not None and info.economics != judged:
        raise DeploymentError(
            f"the run of version {info.version} says {info.economics.describe()}, the gate judged "
            f"{judged.describe()}: the record was changed. Put it back, or train and register a "
            "version again."
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


def keep_approval(version: int, approval: Approval) -> None:
    """Keep an approval with a version, beside those for other scopes and other evidence."""
    tag = _name_tag(approval.scope, approval.evidence_sha256)
    facts = approval.model_dump()
    home_ledger.record(VERSION, version, tag, facts)
    versions.set_tags(version, {tag: json.dumps(facts)})


def _name_tag(scope: str, digest: str) -> str:
    return f"approval.{scope}.{digest}"


def _parse_approval(version: int, text: str) -> Approval:
    try:
        return Approval.model_validate_json(text)
    except ValidationError as error:
        places = [found["loc"] for found in error.errors()]
        lacks = sorted({str(place[0]) for place in places if place} or Approval.model_fields)
        raise DeploymentError(
            f"the approval of version {version} lacks {', '.join(lacks)}; approve it again."
        ) from error


def check_first_use(
    history: list[deployments.Deployment], info: ModelVersion, digest: str
) -> Approval:
    """Check the approval of evidence on the date on which a version first took effect on it.

    Raises:
        DeploymentError: as ``check_approval``.
    """
    first = next(
        past for past in history if past.version == info.version and past.evidence_sha256 == digest
    )
    approval, _ = check_approval(info, digest, first.effective_from)
    return approval


def check_newest(
    info: ModelVersion, as_of: pd.Timestamp, scopes: tuple[str, ...] = PROMOTION
) -> tuple[Approval, GateEvidence]:
    """Check that a version passed its last gate and that this was approved, as ``check_approval``.

    Raises:
        DeploymentError: the gate was not passed, or as ``check_approval``.
    """
    verdict = info.tags.get("gate", "never run")
    if verdict != PASS:
        raise DeploymentError(f"version {info.version} has not passed the gate (gate: {verdict}).")
    return check_approval(info, info.tags.get("gate_evidence_sha256", ""), as_of, scopes)


def check_approval(
    info: ModelVersion,
    digest: str,
    as_of: pd.Timestamp,
    scopes: tuple[str, ...] = PROMOTION,
) -> tuple[Approval, GateEvidence]:
    """Check the approval of the evidence of a digest, whatever the gate has said since.

    Args:
        info: the version.
        digest: SHA-256 of the evidence.
        as_of: simulated date on which the approval must be valid.
        scopes: what it may be approved for; the first for which it is counts.

    Returns:
        The approval and the evidence.

    Raises:
        DeploymentError: there is no approval, or it was given by the trainer, for another scope or
            for other evidence than there is now, it has expired or is of a later day, or the
            model's files or costs were changed since the gate.
    """
    version = info.version
    approval = _find_approval(info, digest, scopes)
    evidence, found = gate_evidence.load_evidence(info, digest)
    if found != digest or not evidence.has_passed:
        raise DeploymentError(
            f"the evidence of version {version} is not what {approval.approver} approved: "
            f"SHA-256 {found}, approved {digest}. Run the gate again and have it approved again."
        )
    if artifacts.hash_model(version) != evidence.model_sha256:
        raise DeploymentError(
            f"the files of version {version} are not those that the gate judged and "
            f"{approval.approver} approved. Train and register a version again, or put the files "
            "back."
        )
    _check_costs(info, evidence)
    trainer = _find_trainer(approval.approver, info, evidence)
    if trainer:
        raise DeploymentError(f"version {version} was approved by its trainer, {trainer}.")
    if as_of < pd.Timestamp(approval.approved):
        raise DeploymentError(
            f"version {version} was approved on {approval.approved}, after {as_of:%Y-%m-%d}."
        )
    if as_of > pd.Timestamp(approval.expires):
        raise DeploymentError(f"the approval of version {version} expired on {approval.expires}.")
    return approval, evidence


def _find_approval(info: ModelVersion, digest: str, scopes: tuple[str, ...]) -> Approval:
    """Return the approval for one of the scopes on the evidence of a digest.

    Raises:
        DeploymentError: there is none; the message says what the version is approved for instead.
    """
    for scope in scopes:
        tag = _name_tag(scope, digest)
        if tag in info.tags:
            approval = _parse_approval(info.version, info.tags[tag])
            # An approval that was copied from another scope or other evidence does not count.
            if (approval.scope, approval.evidence_sha256) == (scope, digest):
                facts = approval.model_dump()
                home_ledger.check(VERSION, info.version, tag, facts, DeploymentError)
                return approval
    raise DeploymentError(_explain_missing(info, digest, scopes[0]))


def _explain_missing(info: ModelVersion, digest: str, scope: str) -> str:
    """Return what a version is approved for instead of a scope on the evidence of a digest."""
    tags = [tag for tag in sorted(info.tags) if tag.startswith("approval.")]
    others = [_parse_approval(info.version, info.tags[tag]) for tag in tags]
    if not others:
        return f"version {info.version} has no approval; run notebook 04b."
    for other in others:
        if other.evidence_sha256 == digest:
            return f"version {info.version} is approved for {other.scope!r}, not for {scope!r}."
    approved = ", ".join(other.evidence_sha256 for other in others)
    return (
        f"the evidence of version {info.version} is not what {others[-1].approver} approved: "
        f"SHA-256 {digest}, approved {approved}. Have it approved again."
    )
