"""Who answered when: promotion bound to approval and evidence, rollback, the tables ``deployments`` and ``audit``."""

from __future__ import annotations

import json

import pandas as pd

from churn_utils import lakehouse, registry
from churn_utils.registry import RegistryError

PROMOTED, ROLLED_BACK = "promoted", "rolled back"
AUDIT = ["entry", "as_of", "action", "version", "replaced", "by", "reason", "evidence_sha256"]


class PromotionError(RegistryError):
    """A version that may not become champion."""


class RollbackError(RegistryError):
    """There is nothing to go back to, or nobody says why."""


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
    _check_latest(table, as_of, PromotionError)
    in_effect = table[table["effective_to"].isna()]
    same = (in_effect["version"] == version) & (in_effect["evidence_sha256"] == approval["evidence_sha256"])
    if not same.any():  # else it is the champion already, on this very evidence
        _check_not_rolled_back(table, version, approval["evidence_sha256"])
        row = {"version": version, "action": PROMOTED, "approved_by": approval["approver"],
               "evidence_sha256": approval["evidence_sha256"], "reason": approval["reason"]}  # fmt: skip
        _take_effect(row, as_of, in_effect)
    registry.set_champion(version)
    return read_deployments()


def find_predecessor(as_of: pd.Timestamp) -> int | None:
    """Version that a rollback would restore: the one promoted before the champion, leaving out those rolled back."""
    standing = _standing(read_deployments())
    return standing[-2] if len(standing) > 1 and champion_at(as_of) == standing[-1] else None


def rollback(as_of: pd.Timestamp, by: str, reason: str) -> pd.DataFrame:
    """Restore the champion before this one from ``as_of`` on; the champion alias follows.

    Needs no new approval: the restored version answered under one. The version that goes cannot be promoted again on
    the evidence that it was promoted on. A second rollback goes one further back, never to what was rolled back.

    Args:
        as_of: simulated date from which the restored version is in effect.
        by: name of who decides it.
        reason: why.

    Returns:
        What changed: index fact (version, family, table versions, metrics, …), columns ``before, after``.

    Raises:
        RollbackError: no name or reason, no champion in effect or none before it, or a later change stands.
        RegistryError: the version to restore is no longer there. Nothing is changed then.
    """
    by, reason = by.strip(), reason.strip()
    if not by or not reason:
        raise RollbackError("a rollback needs the name of who decides it and a reason.")
    table, current = read_deployments(), champion_at(as_of)
    _check_latest(table, as_of, RollbackError)
    previous = find_predecessor(as_of)
    if previous is None:
        now = "no version is in effect" if current is None else f"version {current} is in effect and no other stands"
        raise RollbackError(f"there is nothing to go back to on {as_of:%Y-%m-%d}: {now} before it in deployments.")
    registry.load_model(previous)  # a version that cannot answer must not be put in the place of one that does
    evidence = table.loc[table["version"] == previous, "evidence_sha256"].iloc[-1]
    row = {"version": previous, "action": ROLLED_BACK, "approved_by": by, "evidence_sha256": evidence, "reason": reason}
    _take_effect(row, as_of, table[table["effective_to"].isna()])
    registry.set_champion(previous)
    registry.set_tags(current, {"status": f"rolled back on {as_of:%Y-%m-%d} by {by}: {reason}"})
    return registry.compare_versions(current, previous)


def read_audit() -> pd.DataFrame:
    """Every promotion and rollback in the order in which they were made, with the columns ``AUDIT``.

    ``replaced`` is the version that was in effect before, missing for the first. Unlike ``deployments`` no row of it is
    ever changed, nor taken back when the pipeline repeats a stage.
    """
    if not lakehouse.exists("audit"):
        return pd.DataFrame(columns=AUDIT)
    return lakehouse.read("audit", columns=AUDIT)


def _take_effect(row: dict, as_of: pd.Timestamp, in_effect: pd.DataFrame) -> None:
    """Close what is in effect, open ``row``, and put both on record; the audit comes first, lest a kill hide it."""
    replaced = int(in_effect["version"].iloc[-1]) if len(in_effect) else None
    entry = {"entry": len(read_audit()) + 1, "as_of": as_of, "action": row["action"], "version": row["version"],
             "replaced": replaced, "by": row["approved_by"], "reason": row["reason"],
             "evidence_sha256": row["evidence_sha256"]}  # fmt: skip
    lakehouse.merge("audit", pd.DataFrame([entry]).astype({"replaced": "Int64"}))
    if len(in_effect):
        lakehouse.merge("deployments", in_effect.assign(effective_to=as_of))
    lakehouse.merge("deployments", pd.DataFrame([{**row, "effective_from": as_of, "effective_to": pd.NaT}]))


def _standing(table: pd.DataFrame) -> list[int]:
    """Promotions that no rollback has undone, oldest first; the last is in effect."""
    standing: list[int] = []
    for row in table.sort_values(["effective_from", "effective_to"], na_position="last", kind="stable").itertuples():
        if row.action == ROLLED_BACK:
            kept = standing.index(row.version) if row.version in standing else len(standing) - 1
            standing = standing[:kept]
        standing.append(row.version)
    return standing


def _check_latest(table: pd.DataFrame, as_of: pd.Timestamp, error: type[RegistryError]) -> None:
    later = table[table["effective_from"] > as_of]
    if len(later):
        last = later.iloc[-1]
        raise error(
            f"version {last['version']} was {last['action']} on {last['effective_from']:%Y-%m-%d}; nothing can take "
            f"effect before that, on {as_of:%Y-%m-%d}."
        )


def _check_not_rolled_back(table: pd.DataFrame, version: int, evidence: str) -> None:
    undone = table[(table["version"] == version) & (table["evidence_sha256"] == evidence)]
    if len(undone) and version not in _standing(table):
        raise PromotionError(
            f"version {version} was rolled back, having been promoted on this very evidence. Run the gate again, on "
            "labels that have arrived since, and have it approved anew."
        )


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
