"""The gate: run the checks, keep the evidence, give a verdict; approval bound to that evidence."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pandas as pd

from churn_utils import settings
from churn_utils.errors import ChurnError, DeploymentError, UsageError
from churn_utils.evaluation.economics import Economics
from churn_utils.features import offline
from churn_utils.registry import approvals, artifacts, deployments, versions
from churn_utils.validation.challenger import FAIL, NOT_EVALUATED, PASS, Candidate
from churn_utils.validation.performance_checks import CHECKS

APPROVAL_DAYS = 31
MIN_DRAWS = 400  # five of them beyond either end of the widest interval that decides
SCOPES = (versions.CHAMPION, versions.TRIAL)  # answer everybody, or a share of customers
AUTOMATIC = "policy:all-checks-passed"  # the named policy of unattended runs; never a person


def run_gate(
    version: int,
    as_of: pd.Timestamp,
    since: pd.Timestamp | None = None,
    draws: int = 2000,
    seed: int = 0,
    economics: Economics | None = None,
) -> pd.DataFrame:
    """Put a version through every check, keep the evidence with it and tag it with the verdict.

    Args:
        version: the challenger.
        as_of: simulated date; only labels that had arrived count.
        since: only labels of months from this date on (those after a detected change).
        draws: bootstrap draws.
        seed: of the draws.
        economics: costs that hold now; the usual ones when not given.

    Returns:
        One row per check: ``check, verdict, value, lower, upper, requirement, detail``. A check that raises is
        ``not_evaluated`` with the error in ``detail``. ``champion`` is left out while there is no champion.

    Raises:
        ModelError: no such version.
        UsageError: fewer than ``MIN_DRAWS`` draws.
    """
    return judge(Candidate(version, as_of, since, draws, seed, economics or Economics()))


def judge(candidate: Candidate) -> pd.DataFrame:
    """Put a candidate through the gate, as ``run_gate`` does; what it has answered already is not asked again."""
    if candidate.draws < MIN_DRAWS:
        raise UsageError(
            f"DRAWS is {candidate.draws}; below {MIN_DRAWS} an interval is luck, and so is a verdict that rests on it."
        )
    facts = {
        "model_sha256": artifacts.hash_model(candidate.version),
        "tables": offline.current_versions(),
        **versions.describe_record(candidate.version),
    }
    findings = evaluate_checks(candidate)
    verdict = overall_verdict(findings)
    evidence = {
        "version": candidate.version,
        "run_id": candidate.info["run_id"],
        "as_of": f"{candidate.as_of:%Y-%m-%d}",
        "champion": candidate.champion,
        "verdict": verdict,
        "draws": candidate.draws,
        "seed": candidate.seed,
        "checks": json.loads(findings.to_json(orient="records")),
        "rows": _count_rows(candidate),
        **facts,
        "since": None if candidate.since is None else f"{candidate.since:%Y-%m-%d}",
        "offer_cost_usd": candidate.economics.offer_cost_usd,
        "churner_value_usd": candidate.economics.churner_value_usd,
    }
    digest = versions.write_evidence(candidate.version, evidence)
    tags = {"gate": verdict, "gate_evidence_sha256": digest}
    tags |= {f"gate.{row.check}": row.verdict for row in findings.itertuples()}
    if "answers" in candidate.__dict__:
        tags["gate_batch_cpu_ms"] = f"{candidate.answers['batch_cpu_ms']:.1f}"
        if not candidate.answers["not_compiled"]:
            tags["gate_compiled_cpu_ms"] = f"{candidate.answers['compiled_cpu_ms']:.4f}"
    versions.set_tags(candidate.version, tags)
    return findings


def _count_rows(candidate: Candidate) -> int:
    """Rows that decided; none where the table cannot say, which the checks have found out by then."""
    try:
        return len(candidate.rows)
    except ChurnError:
        return 0


def evaluate_checks(candidate: Candidate) -> pd.DataFrame:
    """Run every check that applies and return the findings, as ``run_gate`` does, without keeping them."""
    names = [name for name in CHECKS if name != "champion" or candidate.champion is not None]
    findings = pd.DataFrame(
        [{"check": name, **run_check(CHECKS[name], candidate)} for name in names]
    )
    return findings.astype({"value": float, "lower": float, "upper": float}).round(6)


def check_impostor(candidate: Candidate, probability: np.ndarray) -> pd.DataFrame:
    """Run the checks, with 500 draws at most, as if the candidate had given these probabilities; nothing is kept."""
    return evaluate_checks(candidate.with_probability(probability, draws=min(candidate.draws, 500)))


def compare_verdicts(findings: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Verdict of each check (index) for each of several models (columns)."""
    verdicts = {name: found.set_index("check")["verdict"] for name, found in findings.items()}
    return pd.DataFrame(verdicts).loc[next(iter(verdicts.values())).index]


def run_check(check: Callable[[Candidate], dict], candidate: Candidate) -> dict:
    """Run one check; whatever it raises makes it ``not_evaluated``, with the error as its detail."""
    try:
        return check(candidate)
    except Exception as error:  # noqa: BLE001 - whatever a challenger raises, it has not passed
        return {
            "verdict": NOT_EVALUATED,
            "value": None,
            "lower": None,
            "upper": None,
            "requirement": check.__doc__.strip().splitlines()[0],
            "detail": f"{type(error).__name__}: {error}",
        }


def overall_verdict(findings: pd.DataFrame) -> str:
    """``pass`` only when there are checks and all pass; ``fail`` when one fails; else ``not_evaluated``."""
    verdicts = set(findings["verdict"])
    if verdicts == {PASS}:
        return PASS
    return FAIL if FAIL in verdicts else NOT_EVALUATED


def approve(
    version: int, approver: str, reason: str, as_of: pd.Timestamp, scope: str = versions.CHAMPION
) -> dict:
    """Approve a version that passed the gate, bound to the evidence as it stands now.

    Returns:
        The approval: ``approver, reason, scope, evidence_sha256, approved, expires`` (31 simulated days later); the
        standing one, if the version was promoted under it already.

    Raises:
        DeploymentError: no name or reason, no such scope, the gate was not passed, evidence, model or record were
            changed since, the date is before that of the evidence, or the approver is the trainer.
    """
    approver, reason = approver.strip(), reason.strip()
    if not approver or not reason:
        raise DeploymentError("an approval needs the approver's name and a reason.")
    if scope not in SCOPES:
        raise DeploymentError(
            f"there is no scope {scope!r}; an approval is for {' or '.join(SCOPES)}."
        )
    info = versions.read_version(version)
    evidence, digest = versions.read_evidence(version)
    if any(
        settings.is_same_person(approver, name)
        for name in (info["trained_by"], evidence.get("trained_by", ""))
    ):
        raise DeploymentError(
            f"{approver} trained version {version} and may not approve it; another person must."
        )
    if info["tags"].get("gate") != PASS or not approvals.has_passed(evidence):
        raise DeploymentError(
            f"version {version} has not passed the gate (verdict: {evidence['verdict']})."
        )
    if digest != info["tags"].get("gate_evidence_sha256"):
        raise DeploymentError(
            f"the evidence of version {version} was changed after the gate; run the gate again."
        )
    if artifacts.hash_model(version) != evidence.get("model_sha256"):
        raise DeploymentError(
            f"the files of version {version} are not those that the gate judged; run the gate again."
        )
    if changed := approvals.list_changes(version, evidence):
        raise DeploymentError(
            f"{changed} of version {version} changed after the gate; run the gate again."
        )
    if f"{as_of:%Y-%m-%d}" < evidence["as_of"]:
        raise DeploymentError(
            f"version {version} was judged as of {evidence['as_of']}, after {as_of:%Y-%m-%d}."
        )
    if standing := _read_standing(version, scope, digest):
        return (
            standing  # it answered customers under that name; what looks back at that must find it
        )
    approval = {
        "approver": approver,
        "reason": reason,
        "scope": scope,
        "evidence_sha256": digest,
        "approved": f"{as_of:%Y-%m-%d}",
        "expires": f"{as_of + pd.Timedelta(days=APPROVAL_DAYS):%Y-%m-%d}",
    }
    approvals.keep_approval(version, approval)
    return approval


def _read_standing(version: int, scope: str, digest: str) -> dict | None:
    """The approval under which a version took effect on that evidence; None where there is none that holds."""
    try:
        approval = deployments.check_deployed(version)
    except DeploymentError:
        return None
    return approval if (approval["scope"], approval["evidence_sha256"]) == (scope, digest) else None


def refuse(version: int) -> None:
    """Clear the challenger alias of a version that did not pass, and say so in its tags."""
    versions.set_tags(version, {"status": "refused"})
    versions.clear_challenger(version)
