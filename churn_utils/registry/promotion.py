"""Put a version in effect: promote it under a valid approval, or roll back to the one before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from churn_utils import settings
from churn_utils.data import table_writes
from churn_utils.errors import DeploymentError
from churn_utils.features import offline
from churn_utils.registry import aliases, approval_checks, artifacts, deployments, versions
from churn_utils.registry.approval_checks import Approval
from churn_utils.registry.deployments import PROMOTED, REWOUND, ROLLED_BACK, Deployment
from churn_utils.registry.replacement import check_may_replace


# Functions that change ``deployments`` hold it: two at once would take the same entry.
@table_writes.hold("deployments")
def promote(version: int, as_of: pd.Timestamp) -> pd.DataFrame:
    """Make an approved version the champion from a date on; clear the challenger alias.

    Returns:
        The table ``deployments`` after it.

    Raises:
        DeploymentError: as ``approval_checks.check_newest`` and ``check_may_replace``; or a later
            change stands.
        DataError: another process is promoting or rolling back and does not end.
    """
    info = versions.read_version(version)
    approval, evidence = approval_checks.check_newest(info, as_of)
    history = deployments.list_deployments()
    own = [past for past in history if past.version == version]
    same = [past for past in own if past.evidence_sha256 == approval.evidence_sha256]
    has_later = any(past.effective_from > as_of for past in history)
    if has_later and any(past.effective_from == as_of for past in same):
        # This very promotion is on record, and others followed it.
        realign_champion()
        aliases.clear_challenger(version)
        return deployments.read_deployments()
    _check_latest(history, as_of)
    if deployments.find_current(same):  # it is the champion already, on this very evidence
        aliases.set_champion(version)
    else:
        check_may_replace(info, evidence, as_of, history)
        activate(version, as_of, approval, PROMOTED)
    return deployments.read_deployments()


@table_writes.hold("deployments")
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
    approval = approval_checks.check_first_use(history, info, restored.evidence_sha256)
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
    return approval_checks.check_first_use(history, versions.read_version(version), digests[-1])


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
    aliases.set_champion(version)
    what = "rolled back to" if action == ROLLED_BACK else action
    versions.set_tags(version, {"status": f"{what} on {as_of:%Y-%m-%d} by {by}"})


def realign_champion() -> None:
    """Move the champion alias to the version in effect, as ``deployments`` has it."""
    version = deployments.version_in_effect()
    if version is not None:
        aliases.set_champion(version)
    else:
        aliases.clear_alias(aliases.CHAMPION)


@table_writes.hold("deployments")
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
