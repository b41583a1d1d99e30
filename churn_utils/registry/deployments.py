"""Who answered when: promotion bound to approval and evidence, rollback, the tables ``deployments`` and ``audit``."""

from __future__ import annotations

import pandas as pd

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.errors import DeploymentError
from churn_utils.features import offline
from churn_utils.registry import approvals, artifacts, versions

PROMOTED, ROLLED_BACK, TAKEN_BACK = "promoted", "rolled back", "taken back"
AUDIT = ["entry", "as_of", "action", "version", "replaced", "by", "reason", "evidence_sha256"]
EVIDENCE_DAYS = 31  # that may pass between what the gate saw and a promotion on it


def read_deployments() -> pd.DataFrame:
    """The ``deployments`` table in the order of its changes; empty when nothing was ever promoted.

    ``entry`` is that of the audit: several changes may fall on one simulated day.
    """
    columns = [
        "entry",
        "effective_from",
        "version",
        "effective_to",
        "action",
        "approved_by",
        "evidence_sha256",
        "reason",
    ]
    if not tables.exists("deployments"):
        return pd.DataFrame(columns=columns).astype(
            {"entry": "int64", "effective_from": "datetime64[ms]", "effective_to": "datetime64[ms]"}
        )
    return tables.read("deployments", columns=columns)


def champion_at(date: pd.Timestamp) -> int | None:
    """Version in effect at a date, or None when there was none."""
    table = read_deployments()
    ended = table["effective_to"].fillna(pd.Timestamp.max.floor("D"))
    found = table[(table["effective_from"] <= date) & (date < ended)]
    return None if found.empty else int(found["version"].iloc[-1])


def predecessor_at(date: pd.Timestamp) -> int | None:
    """Version that a rollback at a date would restore: the one in effect before, leaving out those rolled back."""
    found = _find_predecessor(date)
    return None if found is None else int(found.version)


def version_in_effect() -> int | None:
    """Version whose deployment has not ended, or None: what answers now, whatever the date is."""
    table = read_deployments()
    found = table.loc[table["effective_to"].isna(), "version"]
    return None if found.empty else int(found.iloc[-1])


@tables.hold(
    "deployments"
)  # look at what stands, then write: two at once would take the same entry
def promote(version: int, as_of: pd.Timestamp) -> pd.DataFrame:
    """Make an approved version the champion from ``as_of`` on; clear the challenger alias.

    Returns:
        The deployments table after it.

    Raises:
        DeploymentError: as ``approvals.check_newest``; or the gate compared it with another champion than the one in
            effect, more than ``EVIDENCE_DAYS`` ago, or not since it was rolled back; or a later promotion stands.
        DataError: another process goes on promoting or rolling back.
    """
    approval, evidence = approvals.check_newest(versions.read_version(version), as_of)
    table = read_deployments()
    known = (table["version"] == version) & (
        table["evidence_sha256"] == approval["evidence_sha256"]
    )
    later = table["effective_from"] > as_of
    if (
        later.any() and (known & (table["effective_from"] == as_of)).any()
    ):  # on record, and not the last word
        realign_champion()
        versions.clear_challenger(version)
        return table
    _check_latest(table, as_of)
    in_effect = table["effective_to"].isna()
    if (in_effect & known).any():  # it is the champion already, on this very evidence
        versions.set_champion(version)
    else:
        check_may_replace(version, evidence, as_of)
        take_effect(version, as_of, approval, PROMOTED)
    return read_deployments()


def check_may_replace(version: int, evidence: dict, as_of: pd.Timestamp) -> None:
    """Check that evidence lets a version answer instead of the champion in effect, for all customers or for a share.

    Raises:
        DeploymentError: the gate compared it with another champion, more than ``EVIDENCE_DAYS`` ago, or not since it was
            rolled back; or its trainer, description or artifacts are not those that the gate saw.
    """
    if changed := approvals.list_changes(version, evidence):
        raise DeploymentError(
            f"{changed} of version {version} changed after the gate. Run the gate again and have it approved again."
        )
    table = read_deployments()
    _check_not_rolled_back(table, version, evidence)
    _check_met(version, evidence, table[table["effective_to"].isna()], as_of)


@tables.hold(
    "deployments"
)  # look at what stands, then write: two at once would take the same entry
def rollback(as_of: pd.Timestamp, by: str, reason: str) -> pd.DataFrame:
    """Restore the champion before this one from ``as_of`` on; the champion alias follows.

    Needs no new approval: the restored version answered under one, which may have run out but must still be for the
    evidence and the model that stand there. The version that goes may only come back on evidence of a later date than
    that which was undone. A second rollback goes one further back, never to what was rolled back, also when all of it
    happens on one day.

    Args:
        as_of: simulated date from which the restored version is in effect.
        by: name of who decides it.
        reason: why.

    Returns:
        What changed: index fact (version, family, table versions, metrics, …), columns ``before, after``.

    Raises:
        DeploymentError: no name or reason, no champion in effect or none before it, a later change stands, or the date
            is a year or more after the newest features and the last change.
        DeploymentError: evidence or model of the version to restore were changed since its approval.
        ModelError: the version to restore is no longer there. In each case nothing is changed.
    """
    by, reason = by.strip(), reason.strip()
    if not by or not reason:
        raise DeploymentError("a rollback needs the name of who decides it and a reason.")
    table, current = read_deployments(), champion_at(as_of)
    _check_latest(table, as_of)
    _check_reached(table, as_of)
    row = _find_predecessor(as_of)
    if row is None or current is None:
        now = (
            "no version is in effect"
            if current is None
            else f"version {current} is in effect and no other stands"
        )
        raise DeploymentError(
            f"there is nothing to roll back to on {as_of:%Y-%m-%d}: {now} before it in deployments."
        )
    previous = int(row.version)
    info = versions.read_version(previous)
    approval = approvals.check_first_use(table, info, row.evidence_sha256)
    artifacts.load_model(
        previous
    )  # a version that cannot answer must not be put in the place of one that does
    take_effect(previous, as_of, {**approval, "approver": by, "reason": reason}, ROLLED_BACK)
    versions.set_tags(current, {"status": f"rolled back on {as_of:%Y-%m-%d} by {by}: {reason}"})
    return versions.compare_versions(current, previous)


def check_deployed(version: int) -> dict:
    """Check that a version was promoted under a valid approval, on evidence and a model that still stand; return it.

    What counts is the evidence that ``deployments`` recorded, whatever the gate has said since. The approval must have
    been in force when the version took over; that it ran out since does not stop the version.

    Raises:
        DeploymentError: it never took effect, or the approval does not hold.
    """
    table = read_deployments()
    recorded = table.loc[table["version"] == version, "evidence_sha256"]
    if recorded.empty:
        raise DeploymentError(f"version {version} was never promoted.")
    return approvals.check_first_use(table, versions.read_version(version), recorded.iloc[-1])


def read_audit() -> pd.DataFrame:
    """Every promotion and rollback in the order in which they were made, with the columns ``AUDIT``.

    ``replaced`` is the version that was in effect before, missing for the first. Unlike ``deployments`` the table is
    not rewound when the pipeline repeats a stage: what answered did answer, whatever simulated time says afterwards.
    That stages were repeated is an event of its own, ``taken back``, with the version in effect from there on (missing
    when there is none).
    """
    if not tables.exists("audit"):
        return pd.DataFrame(columns=AUDIT)
    return tables.read("audit", columns=AUDIT).astype({"version": "Int64", "replaced": "Int64"})


def take_effect(version: int, as_of: pd.Timestamp, approval: dict, action: str) -> None:
    """Close what is in effect, open the version and move the alias, asking no questions: ``promote`` asks them.

    The audit comes first, lest a kill hide it; the table changes at once, so that a champion is in effect throughout.
    """
    table = read_deployments()
    in_effect = table[table["effective_to"].isna()]
    facts = {
        "version": version,
        "action": action,
        "reason": approval["reason"],
        "evidence_sha256": approval["evidence_sha256"],
    }
    replaced = int(in_effect["version"].iloc[-1]) if len(in_effect) else None
    entry = _audit({**facts, "as_of": as_of, "replaced": replaced, "by": approval["approver"]})
    row = {
        **facts,
        "entry": entry,
        "approved_by": approval["approver"],
        "effective_from": as_of,
        "effective_to": pd.NaT,
    }
    rows = pd.DataFrame([*in_effect.assign(effective_to=as_of).to_dict("records"), row])
    tables.merge("deployments", rows.astype({"effective_to": "datetime64[ms]"}))
    versions.set_champion(version)
    what = "rolled back to" if action == ROLLED_BACK else action
    versions.set_tags(version, {"status": f"{what} on {as_of:%Y-%m-%d} by {approval['approver']}"})


def _audit(what: dict) -> int:
    entry = len(read_audit()) + 1
    frame = pd.DataFrame([{"entry": entry, **what}])[AUDIT]
    tables.merge("audit", frame.astype({"version": "Int64", "replaced": "Int64"}))
    return entry


def _list_standing(table: pd.DataFrame) -> list:
    """Rows of the promotions that no rollback has undone, oldest first; the last one's version is in effect."""
    standing: list = []
    for row in table.sort_values("entry").itertuples():
        if row.action == ROLLED_BACK:
            while standing and standing[-1].version != row.version:
                standing.pop()
        if row.action != ROLLED_BACK or not standing:
            standing.append(row)
    return standing


def _find_predecessor(date: pd.Timestamp):
    """Row of the promotion that a rollback at a date would restore, or None."""
    table = read_deployments()
    standing = _list_standing(table[table["effective_from"] <= date])
    return standing[-2] if len(standing) > 1 and champion_at(date) == standing[-1].version else None


def _check_latest(table: pd.DataFrame, as_of: pd.Timestamp) -> None:
    """Refuse a change that would take effect before one that stands."""
    later = table[table["effective_from"] > as_of]
    if later.empty:
        return
    last = later.iloc[-1]
    raise DeploymentError(
        f"version {last['version']} was {last['action']} on {last['effective_from']:%Y-%m-%d}; "
        f"nothing can take effect before that, on {as_of:%Y-%m-%d}."
    )


def _check_reached(table: pd.DataFrame, as_of: pd.Timestamp) -> None:
    newest = max(offline.newest_features(), table["effective_from"].max())
    if as_of >= newest + pd.DateOffset(years=1):
        raise DeploymentError(
            f"nothing is known here of a time after {newest:%Y-%m-%d}; a rollback on {as_of:%Y-%m-%d}, a year or more "
            "ahead, would bar all changes until then. Is the date right?"
        )


def _check_not_rolled_back(table: pd.DataFrame, version: int, evidence: dict) -> None:
    standing = [row.entry for row in _list_standing(table)]
    undone = table[
        (table["version"] == version)
        & (table["action"] == PROMOTED)
        & ~table["entry"].isin(standing)
    ]
    for digest in undone["evidence_sha256"].unique():
        before, found = versions.read_evidence(version, digest)
        if found != digest:
            raise DeploymentError(
                f"the evidence {digest}, on which version {version} was promoted before, was changed."
            )
        if evidence["as_of"] <= before["as_of"]:
            raise DeploymentError(
                f"version {version} was rolled back, having been promoted on evidence of {before['as_of']}; that of "
                f"{evidence['as_of']} is no later. Run the gate again, on labels that have arrived since, and have it "
                "approved again."
            )


def _check_met(version: int, evidence: dict, in_effect: pd.DataFrame, as_of: pd.Timestamp) -> None:
    """Check that the gate compared a version with the very champion that it would replace, and not long ago."""
    met = evidence["champion"]
    now = int(in_effect["version"].iloc[-1]) if len(in_effect) else None
    if now == version:
        raise DeploymentError(
            f"version {version} is in effect already, on other evidence; there is nothing to promote."
        )
    if met != now:
        raise DeploymentError(
            f"the gate judged version {version} against {_name_champion(met)}, while {_name_champion(now)} is in "
            "effect. Run the gate again and have it approved again."
        )
    age = (as_of - pd.Timestamp(evidence["as_of"])).days
    if not 0 <= age <= EVIDENCE_DAYS:
        raise DeploymentError(
            f"the gate judged version {version} as of {evidence['as_of']}, which is not within {EVIDENCE_DAYS} days "
            f"before {as_of:%Y-%m-%d}. Run the gate again and have it approved again."
        )


def _name_champion(version: int | None) -> str:
    return "no champion" if version is None else f"version {version}"


def realign_champion() -> None:
    """Point the champion alias where ``deployments`` says."""
    version = version_in_effect()
    if version is not None:
        versions.set_champion(version)
    else:
        versions.clear_alias(versions.CHAMPION)


@tables.hold(
    "deployments"
)  # look at what stands, then write: two at once would take the same entry
def record_rewind(version: int | None) -> None:
    """Before ``deployments`` is taken back to a version of the table (None: no rows), say in ``audit`` what goes."""
    now = read_deployments()
    then = (
        now.iloc[:0]
        if version is None or now.empty
        else tables.read("deployments", version=version)
    )
    gone, stays = (table.loc[table["effective_to"].isna()].tail(1) for table in (now, then))
    if gone.empty or gone["version"].tolist() == stays["version"].tolist():
        return
    gone = gone.iloc[0]
    restored = None if stays.empty else stays["version"].iloc[0]
    _audit(
        {
            "as_of": gone["effective_from"],
            "action": TAKEN_BACK,
            "version": restored,
            "replaced": gone["version"],
            "by": settings.user(),
            "reason": "its stage of the pipeline is repeated",
            "evidence_sha256": gone["evidence_sha256"],
        }
    )
