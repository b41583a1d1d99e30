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


def promote(version: int, as_of: pd.Timestamp) -> pd.DataFrame:
    """Make an approved version the champion from ``as_of`` on; clear the challenger alias.

    Returns:
        The deployments table after it.

    Raises:
        PromotionError: the gate was not passed, there is no approval, it was given by the trainer, for other
            evidence than stands there now, for another scope, or it has expired; or a later promotion stands.
    """
    info = registry.read_version(version)
    approval = _check_approval(info, as_of)
    table = read_deployments()
    later = table[table["effective_from"] > as_of]
    if len(later):
        raise PromotionError(
            f"version {later['version'].iloc[-1]} was promoted on {later['effective_from'].iloc[-1]:%Y-%m-%d}; "
            f"version {version} cannot take effect before that, on {as_of:%Y-%m-%d}."
        )
    in_effect = table["effective_to"].isna()
    same = in_effect & (table["version"] == version) & (table["evidence_sha256"] == approval["evidence_sha256"])
    if not same.any():  # else it is the champion already, on this very evidence
        _record_promotion(version, as_of, table[in_effect], approval)
    registry.set_champion(version)
    return read_deployments()


def _record_promotion(version: int, as_of: pd.Timestamp, in_effect: pd.DataFrame, approval: dict) -> None:
    if len(in_effect):
        lakehouse.merge("deployments", in_effect.assign(effective_to=as_of))
    new = {
        "effective_from": as_of,
        "version": version,
        "effective_to": pd.NaT,
        "action": "promoted",
        "approved_by": approval["approver"],
        "evidence_sha256": approval["evidence_sha256"],
        "reason": approval["reason"],
    }
    lakehouse.merge("deployments", pd.DataFrame([new]))


def realign_champion() -> None:
    """Point the champion alias where ``deployments`` says, after that table was taken back in time."""
    table = read_deployments()
    in_effect = table.loc[table["effective_to"].isna(), "version"]
    if len(in_effect):
        registry.set_champion(int(in_effect.iloc[-1]))
    else:
        registry.clear_alias(registry.CHAMPION)


def _check_approval(info: dict, as_of: pd.Timestamp) -> dict:
    version, tags = info["version"], info["tags"]
    if tags.get("gate") != "pass":
        raise PromotionError(f"version {version} has not passed the gate (gate: {tags.get('gate', 'never run')}).")
    if "approval" not in tags:
        raise PromotionError(f"version {version} has no approval; run notebook 04b.")
    approval = json.loads(tags["approval"])
    evidence, digest = registry.read_evidence(version)
    if evidence["verdict"] != "pass" or digest != approval["evidence_sha256"]:
        raise PromotionError(
            f"the evidence of version {version} is not what {approval['approver']} approved: SHA-256 {digest}, "
            f"approved {approval['evidence_sha256']}. Run the gate again and have it approved anew."
        )
    if approval["approver"] == info["trained_by"]:
        raise PromotionError(f"version {version} was approved by its trainer, {info['trained_by']}.")
    if approval["scope"] != registry.CHAMPION:
        raise PromotionError(f"version {version} is approved for {approval['scope']!r}, not for {registry.CHAMPION!r}.")
    if as_of > pd.Timestamp(approval["expires"]):
        raise PromotionError(f"the approval of version {version} expired on {approval['expires']}.")
    return approval
