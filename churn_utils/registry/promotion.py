"""Put a version in effect: promote it under a valid approval, or roll back to the one before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.errors import DeploymentError
from churn_utils.features import offline
from churn_utils.registry import approvals, artifacts, deployments, gate_evidence, versions
from churn_utils.registry.approvals import Approval
from churn_utils.registry.deployments import PROMOTED, REWOUND, ROLLED_BACK, Deployment
from churn_utils.registry.gate_evidence import GateEvidence
from churn_utils.registry.versions import ModelVersion

EVIDENCE_DAYS = 31  # that may pass between the gate and a promotion on its evidence


# Functions that change ``deployments`` hold it: two at once would take the same entry.
@tables.hold("deployments")
def promote(version: int, as_of: pd.Timestamp) -> pd.DataFrame:
    """Make an approved version the champion from a date on; clear the challenger alias.

    Returns:
        The table ``deployments`` after it.

    Raises:
        DeploymentError: as ``approvals.check_newest`` and ``check_may_replace``; or a later change
            stands.
        DataError: another process is promoting or rolling back and does not end.
    """
    info = versions.read_version(version)
    approval, evidence = approvals.check_newest(info, as_of)
    history = deployments.list_deployments()
    same = [
        past
        for past in history
        if (past.version, past.evidence_sha256) == (version, approval.evidence_sha256)
    ]
    has_later = any(past.effective_from > as_of for past in history)
    if has_later and any(past.effective_from == as_of for past in same):
        # This very promotion is on record, and others followed it.
        realign_champion()
        versions.clear_challenger(version)
        return deployments.read_deployments()
    _check_latest(history, as_of)
    if deployments.find_current(same):  # it is the champion already, on this very evidence
        versions.set_champion(version)
    else:
        _check_may_replace(info, evidence, as_of, history)
        activate(version, as_of, approval, PROMOTED)
    return deployments.read_deployments()


def check_may_replace(version: int, evidence: GateEvidence, as_of: pd.Timestamp) -> None:
    """Check that evidence lets a version answer instead of the champion in effect.

    Raises:
        DeploymentError: the gate compared it with another champion, more than ``EVIDENCE_DAYS``
            ago, or not since it was rolled back; or its trainer, description or artifacts are not
            those that the gate saw.
    """
    history = deployments.list_deployments()
    _check_may_replace(versions.read_version(version), evidence, as_of, history)


def _check_may_replace(
    info: ModelVersion, evidence: GateEvidence, as_of: pd.Timestamp, history: list[Deployment]
) -> None:
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


@tables.hold("deployments")
def rollback(as_of: pd.Timestamp, by: str, reason: str) -> pd.DataFrame:
    """Restore the champion before the current one from a date on.

    The restored version needs no new approval: it answered under one, which may have expired but
    must be for the evidence and the model that are there. The version that goes may come back only
    on evidence of a later date. A second rollback goes one further back, never to a version that
    was rolled back, also if all of it happens on one day.

    Args:
        as_of: simulated date from which the restored version is in effect.
        by: name of the person who decides it.
        reason: why.

    Returns:
        As ``versions.compare_versions`` of the version that goes and the one that is restored.

    Raises:
        DeploymentError: no name or reason, no champion in effect or none before it, a later change
            stands, the date is a year or more after the newest features and the last change, or
            evidence or model of the version to restore were changed since its approval.
        ModelError: the model of the version to restore cannot be loaded.
    """
    by, reason = by.strip(), reason.strip()
    if not by or not reason:
        raise DeploymentError("a rollback needs the name of who decides it and a reason.")
    history = deployments.list_deployments()
    current = deployments.champion_at(as_of)
    _check_latest(history, as_of)
    _check_plausible(history, as_of)
    restored = deployments.find_predecessor(history, as_of)
    if restored is None or current is None:
        now = "no version is in effect"
        if current is not None:
            now = f"version {current} is in effect and no other stands"
        raise DeploymentError(
            f"there is nothing to roll back to on {as_of:%Y-%m-%d}: {now} before it in deployments."
        )
    info = versions.read_version(restored.version)
    approval = approvals.check_first_use(history, info, restored.evidence_sha256)
    artifacts.load_model(restored.version)  # a version that cannot answer must not be restored
    decision = approval.model_copy(update={"approver": by, "reason": reason})
    activate(restored.version, as_of, decision, ROLLED_BACK)
    versions.set_tags(current, {"status": f"rolled back on {as_of:%Y-%m-%d} by {by}: {reason}"})
    return versions.compare_versions(current, restored.version)


def check_deployed(version: int) -> Approval:
    """Return the approval under which a version was promoted, if it still stands.

    The evidence that ``deployments`` recorded counts, whatever the gate has said since. The
    approval must have been valid when the version took over; it may have expired since.

    Raises:
        DeploymentError: it never took effect, or the approval does not hold.
    """
    history = deployments.list_deployments()
    digests = [past.evidence_sha256 for past in history if past.version == version]
    if not digests:
        raise DeploymentError(f"version {version} was never promoted.")
    return approvals.check_first_use(history, versions.read_version(version), digests[-1])


def activate(version: int, as_of: pd.Timestamp, approval: Approval, action: str) -> None:
    """Put a version in effect without asking whether it may be; ``promote`` asks.

    The audit is written first, so that a killed process cannot hide the change; ``deployments``
    changes in one commit, so that a champion is in effect throughout.
    """
    current = deployments.find_current(deployments.list_deployments())
    facts: dict[str, Any] = {
        "version": version,
        "action": action,
        "reason": approval.reason,
        "evidence_sha256": approval.evidence_sha256,
    }
    by = approval.approver
    replaced = None if current is None else current.version
    entry = deployments.append_audit({"as_of": as_of, "replaced": replaced, "by": by, **facts})
    activated = Deployment(
        entry=entry, effective_from=as_of, effective_to=pd.NaT, approved_by=by, **facts
    )
    ended = [] if current is None else [replace(current, effective_to=as_of)]
    deployments.write_deployments([*ended, activated])
    versions.set_champion(version)
    what = "rolled back to" if action == ROLLED_BACK else action
    versions.set_tags(version, {"status": f"{what} on {as_of:%Y-%m-%d} by {by}"})


def realign_champion() -> None:
    """Move the champion alias to the version in effect, as ``deployments`` has it."""
    version = deployments.version_in_effect()
    if version is not None:
        versions.set_champion(version)
    else:
        versions.clear_alias(versions.CHAMPION)


@tables.hold("deployments")
def record_rewind(table_version: int | None) -> None:
    """Record in ``audit`` that ``deployments`` is about to be rewound.

    Args:
        table_version: Delta version that the table goes back to; None for no rows.
    """
    current = deployments.find_current(deployments.list_deployments())
    if current is None:
        return
    remaining = [] if table_version is None else deployments.list_deployments(table_version)
    restored = deployments.find_current(remaining)
    if restored is not None and restored.version == current.version:
        return
    deployments.append_audit(
        {
            "as_of": current.effective_from,
            "action": REWOUND,
            "version": None if restored is None else restored.version,
            "replaced": current.version,
            "by": settings.user(),
            "reason": "its stage of the pipeline is repeated",
            "evidence_sha256": current.evidence_sha256,
        }
    )


def _check_latest(history: list[Deployment], as_of: pd.Timestamp) -> None:
    """Check that no change stands that took effect after a date."""
    later = [past for past in history if past.effective_from > as_of]
    if later:
        last = later[-1]
        raise DeploymentError(
            f"version {last.version} was {last.action} on {last.effective_from:%Y-%m-%d}; "
            f"nothing can take effect before that, on {as_of:%Y-%m-%d}."
        )


def _check_plausible(history: list[Deployment], as_of: pd.Timestamp) -> None:
    """Check that the date of a rollback is less than a year ahead of all that is known."""
    known = [offline.newest_features(), *(past.effective_from for past in history)]
    newest = max(known)
    if as_of >= newest + pd.DateOffset(years=1):
        raise DeploymentError(
            f"nothing is known here of a time after {newest:%Y-%m-%d}; a rollback on "
            f"{as_of:%Y-%m-%d}, a year or more ahead, would bar all changes until then. Is the "
            "date right?"
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
