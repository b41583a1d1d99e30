"""Approvals as they are kept with a version; one is void once its evidence or model changed."""

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
from churn_utils.registry import aliases, artifacts, deployments, gate_evidence, versions
from churn_utils.registry.gate_evidence import PASS, GateEvidence
from churn_utils.registry.versions import ModelVersion

SCOPES = (aliases.CHAMPION, versions.TRIAL)  # answer all customers, or a share of them
PROMOTION = (aliases.CHAMPION,)  # the scopes that allow one


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


def find_trainer(approver: str, info: ModelVersion, evidence: GateEvidence) -> str | None:
    """Return the trainer's name, now or when the gate judged, if the approver is that person."""
    for trainer in (info.trained_by, evidence.trained_by):
        if settings.is_same_person(approver, trainer):
            return trainer
    return None


def check_costs(info: ModelVersion, evidence: GateEvidence) -> None:
    """Check that a version decides by the costs that the gate judged it under."""
    judged = evidence.economics
    if judged is not None and info.economics != judged:
        raise DeploymentError(
            f"the run of version {info.version} says {info.economics.describe()}, the gate judged "
            f"{judged.describe()}: the record was changed. Put it back, or train and register a "
            "version again."
        )


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
    check_costs(info, evidence)
    trainer = find_trainer(approval.approver, info, evidence)
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
