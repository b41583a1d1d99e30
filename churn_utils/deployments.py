"""Who answered when: promotion bound to approval and evidence, and the ``deployments`` table."""

from __future__ import annotations

import json

import pandas as pd

from churn_utils import lakehouse, registry
from churn_utils.registry import RegistryError


class PromotionError(RegistryError):
    """A version that may not become champion."""


def read_deployments() -> pd.DataFrame:
    """The ``deployments`` table, oldest first; empty when nothing was ever promoted."""
    columns = [
        "effective_from",
        "version",
        "effective_to",
        "action",
        "approved_by",
        "evidence_sha256",
        "reason",
    ]
    if not lakehouse.exists("deployments"):
        return pd.DataFrame(columns=columns).astype(
            {"effective_from": "datetime64[ms]", "effective_to": "datetime64[ms]"}
        )
    return lakehouse.read("deployments", columns=columns)


def champion_at(date: pd.Timestamp) -> int | None:
    """Version in effect at a date, or None when there was none."""
    table = read_deployments()
    ended = table["effective_to"].fillna(pd.Timestamp.max.floor("D"))
    found = table[(table["effective_from"] <= date) & (date < ended)]
    return None if found.empty else int(found["version"].iloc[-1])


def predecessor_at(date: pd.Timestamp) -> int | None:
    """Version that the champion in effect at a date took over from, or None."""
    table = read_deployments()
    current = table[(table["effective_from"] <= date) & (table["version"] == champion_at(date))]
    before = table[table["effective_to"] == current["effective_from"].max()]
    return None if before.empty else int(before["version"].iloc[-1])


def version_in_effect() -> int | None:
    """Version whose deployment has not ended, or None: what answers now, whatever the date is."""
    table = read_deployments()
    found = table.loc[table["effective_to"].isna(), "version"]
    return None if found.empty else int(found.iloc[-1])


def promote(version: int, as_of: pd.Timestamp) -> pd.DataFrame:
    """Make an approved version the champion from ``as_of`` on; clear the challenger alias.

    Returns:
        The deployments table after it.

    Raises:
        PromotionError: the gate was not passed, there is no approval, it was given by the trainer, for other
            evidence than stands there now, for another scope, or it has expired; or a later promotion stands.
    """
    info = registry.read_version(version)
    approval = check_approval(info, as_of)
    table = read_deployments()
    known = (table["version"] == version) & (table["evidence_sha256"] == approval["evidence_sha256"])
    later = table[table["effective_from"] > as_of]
    if len(later) and (known & (table["effective_from"] == as_of)).any():  # on record already, and not the last word
        realign_champion()
        registry.clear_challenger(version)
        return table
    if len(later):
        raise PromotionError(
            f"version {later['version'].iloc[-1]} was promoted on {later['effective_from'].iloc[-1]:%Y-%m-%d}; "
            f"version {version} cannot take effect before that, on {as_of:%Y-%m-%d}."
        )
    in_effect = table["effective_to"].isna()
    if not (in_effect & known).any():  # else it is the champion already, on this very evidence
        _record(version, as_of, table[in_effect], approval, "promoted")
    registry.set_champion(version)
    return read_deployments()


def roll_back(as_of: pd.Timestamp, by: str, reason: str) -> pd.DataFrame:
    """Give the champion's place back to the version that had it before; its own approval need not run any more.

    Args:
        as_of: simulated date from which the earlier version answers again.
        by: name of the person who takes responsibility.
        reason: why.

    Returns:
        The deployments table after it.

    Raises:
        PromotionError: no name or reason, nothing to go back to, or the earlier version's evidence was changed.
    """
    if not by.strip() or not reason.strip():
        raise PromotionError("a rollback needs the name of whoever decides it, and a reason.")
    table = read_deployments()
    in_effect = table["effective_to"].isna()
    now = table[in_effect]
    before = table[~in_effect & ~table["version"].isin(now["version"])]
    start = now["effective_from"].max()
    before = before[(before["effective_from"] <= start) & (before["effective_to"] <= start)]
    if before.empty:
        raise PromotionError("no other version was in effect before; there is nothing to roll back to.")
    version = int(before.sort_values(["effective_to", "effective_from", "version"])["version"].iloc[-1])
    approval = check_deployed(version)
    _record(version, as_of, now, {**approval, "approver": by, "reason": reason}, "rolled back")
    registry.set_champion(version)
    return read_deployments()


def check_deployed(version: int) -> dict:
    """Check that a version was promoted under a valid approval, on the evidence that stands there now; return it.

    The approval must have been in force when the version took over; that it ran out since does not stop the version.

    Raises:
        PromotionError: it never took effect, or the approval does not hold.
    """
    table = read_deployments()
    starts = table.loc[table["version"] == version, "effective_from"]
    if starts.empty:
        raise PromotionError(f"version {version} was never promoted.")
    return check_approval(registry.read_version(version), starts.min())


def _record(version: int, as_of: pd.Timestamp, in_effect: pd.DataFrame, approval: dict, action: str) -> None:
    if len(in_effect):
        lakehouse.merge("deployments", in_effect.assign(effective_to=as_of))
    new = {
        "effective_from": as_of,
        "version": version,
        "effective_to": pd.NaT,
        "action": action,
        "approved_by": approval["approver"],
        "evidence_sha256": approval["evidence_sha256"],
        "reason": approval["reason"],
    }
    lakehouse.merge("deployments", pd.DataFrame([new]))


def realign_champion() -> None:
    """Point the champion alias where ``deployments`` says, after that table was taken back in time."""
    version = version_in_effect()
    if version is not None:
        registry.set_champion(version)
    else:
        registry.clear_alias(registry.CHAMPION)


def check_approval(info: dict, as_of: pd.Timestamp, scopes: tuple[str, ...] = (registry.CHAMPION,)) -> dict:
    """Check that a version passed its gate and holds an approval of one of ``scopes`` on a date; return it.

    Args:
        info: as ``registry.read_version`` returns it.
        as_of: simulated date on which the approval must not have expired.
        scopes: what it may be approved for.

    Raises:
        PromotionError: as ``promote``.
    """
    version, tags = info["version"], info["tags"]
    if tags.get("gate") != "pass":
        raise PromotionError(f"version {version} has not passed the gate (gate: {tags.get('gate', 'never run')}).")
    if "approval" not in tags:
        raise PromotionError(f"version {version} has no approval; run notebook 04b.")
    approval = _parse_approval(version, tags["approval"])
    evidence, digest = registry.read_evidence(version)
    if evidence["verdict"] != "pass" or digest != approval["evidence_sha256"]:
        raise PromotionError(
            f"the evidence of version {version} is not what {approval['approver']} approved: SHA-256 {digest}, "
            f"approved {approval['evidence_sha256']}. Run the gate again and have it approved anew."
        )
    if approval["approver"] == info["trained_by"]:
        raise PromotionError(f"version {version} was approved by its trainer, {info['trained_by']}.")
    if approval["scope"] not in scopes:
        raise PromotionError(f"version {version} is approved for {approval['scope']!r}, not for {scopes[0]!r}.")
    if as_of > pd.Timestamp(approval["expires"]):
        raise PromotionError(f"the approval of version {version} expired on {approval['expires']}.")
    return approval


def _parse_approval(version: int, text: str) -> dict:
    needed = {"approver", "reason", "scope", "evidence_sha256", "expires"}
    try:
        approval = json.loads(text)
        missing = needed - set(approval)
    except (ValueError, TypeError):
        approval, missing = {}, needed
    if missing:
        raise PromotionError(f"the approval of version {version} lacks {', '.join(sorted(missing))}; approve it anew.")
    return approval
