"""The gate: run the checks, keep the evidence, give a verdict."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pandas as pd

from churn_utils.errors import ChurnError, UsageError
from churn_utils.evaluation.economics import Economics
from churn_utils.features import offline
from churn_utils.registry import artifacts, versions
from churn_utils.validation.challenger import FAIL, NOT_EVALUATED, PASS, Candidate
from churn_utils.validation.performance_checks import CHECKS

MIN_DRAWS = 400  # five of them beyond either end of the widest interval that decides


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
        "run_id": candidate.info.run_id,
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
