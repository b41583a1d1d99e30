"""Whether a version may answer instead of the champion in effect."""

from __future__ import annotations

import pandas as pd

from churn_utils.errors import DeploymentError
from churn_utils.registry import deployments, gate_evidence
from churn_utils.registry.deployments import PROMOTED, Deployment
from churn_utils.registry.gate_evidence import GateEvidence
from churn_utils.registry.versions import ModelVersion

EVIDENCE_DAYS = 31  # that may pass between the gate and a promotion on its evidence


def check_may_replace(
    info: ModelVersion, evidence: GateEvidence, as_of: pd.Timestamp, history: list[Deployment]
) -> None:
    """Check that evidence lets a version answer instead of the champion in effect.

    Raises:
        DeploymentError: the gate compared it with another champion, more than ``EVIDENCE_DAYS``
            ago, or not since it was rolled back; or its trainer, description or artifacts are not
            those that the gate saw.
    """
    version = info.version
    changed = gate_evidence.list_changes(info, evidence)
    if changed:
        raise DeploymentError(
            f"{changed} of version {version} changed after the gate. Run the gate again and have "
            "it approved again."
        )
    _check_not_rolled_back(history, info, evidence)
    _check_compared(version, evidence, deployments.find_current(history))
    age = (as_of - pd.Timestamp(evidence.as_of)).days
    if not 0 <= age <= EVIDENCE_DAYS:
        raise DeploymentError(
            f"the gate judged version {version} as of {evidence.as_of}, which is not within "
            f"{EVIDENCE_DAYS} days before {as_of:%Y-%m-%d}. Run the gate again and have it "
            "approved again."
        )


def _check_not_rolled_back(
    history: list[Deployment], info: ModelVersion, evidence: GateEvidence
) -> None:
    """Check that evidence is later than any on which the version was promoted and rolled back."""
    version = info.version
    standing = {past.entry for past in deployments.list_standing(history)}
    undone = [
        past.evidence_sha256
        for past in history
        if past.version == version and past.action == PROMOTED and past.entry not in standing
    ]
    for digest in dict.fromkeys(undone):
        before, found = gate_evidence.load_evidence(info, digest)
        if found != digest:
            raise DeploymentError(
                f"the evidence {digest}, on which version {version} was promoted before, was "
                "changed."
            )
        if evidence.as_of <= before.as_of:
            raise DeploymentError(
                f"version {version} was rolled back, having been promoted on evidence of "
                f"{before.as_of}; that of {evidence.as_of} is no later. Run the gate again, on "
                "labels that have arrived since, and have it approved again."
            )


def _check_compared(version: int, evidence: GateEvidence, current: Deployment | None) -> None:
    """Check that the gate compared a version with the very champion that it would replace."""
    champion = None if current is None else current.version
    if champion == version:
        raise DeploymentError(
            f"version {version} is in effect already, on other evidence; there is nothing to "
            "promote."
        )
    if evidence.champion != champion:
        raise DeploymentError(
            f"the gate judged version {version} against {_name_champion(evidence.champion)}, while "
            f"{_name_champion(champion)} is in effect. Run the gate again and have it approved "
            "again."
        )


def _name_champion(version: int | None) -> str:
    return "no champion" if version is None else f"version {version}"
