"""Who answered when: promotion bound to approval and evidence, rollback, the tables ``deployments`` and ``audit``."""

from __future__ import annotations

import json

import pandas as pd

from churn_utils import lakehouse, registry, settings
from churn_utils.registry import RegistryError

PROMOTED, ROLLED_BACK, TAKEN_BACK = "promoted", "rolled back", "taken back"
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
    """Version that a rollback at a date would restore: the one in effect before, leaving out those rolled back."""
    table = read_deployments()
    standing = _standing(table[table["effective_from"] <= date])
    return standing[-2] if len(standing) > 1 and champion_at(date) == standing[-1] else None


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
    later = table["effective_from"] > as_of
    if later.any() and (known & (table["effective_from"] == as_of)).any():  # on record, and not the last word
        realign_champion()
        registry.clear_challenger(version)
        return table
    _check_latest(table, as_of, PromotionError)
    in_effect = table["effective_to"].isna()
    if not (in_effect & known).any():  # else it is the champion already, on this very evidence
        _check_not_rolled_back(table, version, approval["evidence_sha256"])
        _take_effect(version, as_of, table[in_effect], approval, PROMOTED)
    registry.set_champion(version)
    return read_deployments()


def rollback(as_of: pd.Timestamp, by: str, reason: str) -> pd.DataFrame:
    """Restore the champion before this one from ``as_of`` on; the champion alias follows.

    Needs no new approval: the restored version answered under one, which may have run out but must still be for the
    evidence that stands there. The version that goes cannot be promoted again on the evidence that it was promoted on.
    A second rollback goes one further back, never to what was rolled back.

    Args:
        as_of: simulated date from which the restored version is in effect.
        by: name of who decides it.
        reason: why.

    Returns:
        What changed: index fact (version, family, table versions, metrics, …), columns ``before, after``.

    Raises:
        RollbackError: no name or reason, no champion in effect or none before it, or a later change stands.
        PromotionError: the evidence of the version to restore was changed since its approval.
        RegistryError: the version to restore is no longer there. In each case nothing is changed.
    """
    by, reason = by.strip(), reason.strip()
    if not by or not reason:
        raise RollbackError("a rollback needs the name of who decides it and a reason.")
    table, current = read_deployments(), champion_at(as_of)
    _check_latest(table, as_of, RollbackError)
    previous = predecessor_at(as_of)
    if previous is None:
        now = "no version is in effect" if current is None else f"version {current} is in effect and no other stands"
        raise RollbackError(f"there is nothing to roll back to on {as_of:%Y-%m-%d}: {now} before it in deployments.")
    approval = check_deployed(previous)
    registry.load_model(previous)  # a version that cannot answer must not be put in the place of one that does
    in_effect = table[table["effective_to"].isna()]
    _take_effect(previous, as_of, in_effect, {**approval, "approver": by, "reason": reason}, ROLLED_BACK)
    registry.set_champion(previous)
    registry.set_tags(current, {"status": f"rolled back on {as_of:%Y-%m-%d} by {by}: {reason}"})
    return registry.compare_versions(current, previous)


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


def read_audit() -> pd.DataFrame:
    """Every promotion and rollback in the order in which they were made, with the columns ``AUDIT``.

    ``replaced`` is the version that was in effect before, missing for the first. Unlike ``deployments`` the table is
    not rewound when the pipeline repeats a stage: what answered did answer, whatever simulated time says afterwards.
    That stages were repeated is an event of its own, ``taken back``, with the version in effect from there on (missing
    when there is none).
    """
    if not lakehouse.exists("audit"):
        return pd.DataFrame(columns=AUDIT)
    return lakehouse.read("audit", columns=AUDIT).astype({"version": "Int64", "replaced": "Int64"})


def _take_effect(version: int, as_of: pd.Timestamp, in_effect: pd.DataFrame, approval: dict, action: str) -> None:
    """Close what is in effect, open the version, and put both on record; the audit comes first, lest a kill hide it."""
    what = {"version": version, "action": action, "reason": approval["reason"],
            "evidence_sha256": approval["evidence_sha256"]}  # fmt: skip
    replaced = int(in_effect["version"].iloc[-1]) if len(in_effect) else None
    _audit({**what, "as_of": as_of, "replaced": replaced, "by": approval["approver"]})
    if len(in_effect):
        lakehouse.merge("deployments", in_effect.assign(effective_to=as_of))
    row = {**what, "approved_by": approval["approver"], "effective_from": as_of, "effective_to": pd.NaT}
    lakehouse.merge("deployments", pd.DataFrame([row]))


def _audit(entry: dict) -> None:
    frame = pd.DataFrame([{"entry": len(read_audit()) + 1, **entry}])[AUDIT]
    lakehouse.merge("audit", frame.astype({"version": "Int64", "replaced": "Int64"}))


def _standing(table: pd.DataFrame) -> list[int]:
    """Promotions that no rollback has undone, oldest first; the last is in effect."""
    standing: list[int] = []
    for row in table.sort_values(["effective_from", "effective_to"], na_position="last", kind="stable").itertuples():
        if row.action == ROLLED_BACK:
            kept = [place for place, version in enumerate(standing) if version == row.version]
            standing = standing[: kept[-1] if kept else -1]  # restored on the day of its promotion it has one row
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
    """Point the champion alias where ``deployments`` says."""
    version = version_in_effect()
    if version is not None:
        registry.set_champion(version)
    else:
        registry.clear_alias(registry.CHAMPION)


def record_rewind(version: int | None) -> None:
    """Before ``deployments`` is taken back to a version of the table (None: no rows), say in ``audit`` what goes."""
    now = read_deployments()
    then = now.iloc[:0] if version is None or now.empty else lakehouse.read("deployments", version=version)
    gone, stays = (table.loc[table["effective_to"].isna()].tail(1) for table in (now, then))
    if gone.empty or gone["version"].tolist() == stays["version"].tolist():
        return
    gone = gone.iloc[0]
    restored = None if stays.empty else stays["version"].iloc[0]
    _audit({"as_of": gone["effective_from"], "action": TAKEN_BACK, "version": restored,
            "replaced": gone["version"], "by": settings.user(), "reason": "its stage of the pipeline is repeated",
            "evidence_sha256": gone["evidence_sha256"]})  # fmt: skip


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
    approval = parse_approval(version, tags["approval"])
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


def parse_approval(version: int, text: str) -> dict:
    """Read an approval as it is kept with a version.

    Raises:
        PromotionError: it lacks something, or is none at all.
    """
    needed = {"approver", "reason", "scope", "evidence_sha256", "expires"}
    try:
        approval = json.loads(text)
        missing = needed - set(approval)
    except (ValueError, TypeError):
        approval, missing = {}, needed
    if missing:
        raise PromotionError(f"the approval of version {version} lacks {', '.join(sorted(missing))}; approve it anew.")
    return approval
