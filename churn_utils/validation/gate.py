"""The gate: run the checks, give a verdict, keep the evidence.

To add a check, write a function ``(Challenger) -> Finding`` in the module of its subject and enter
it in ``CHECKS``. Its docstring says what it protects from; the first line is shown as the
requirement when the check cannot be evaluated.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from churn_utils.errors import ChurnError, UsageError
from churn_utils.features import offline
from churn_utils.registry import artifacts, gate_evidence, versions
from churn_utils.registry.gate_evidence import GateEvidence
from churn_utils.validation import (
    behaviour_checks,
    performance_checks,
    record_checks,
    slice_check,
)
from churn_utils.validation.challenger import Challenger
from churn_utils.validation.finding import FAIL, NOT_EVALUATED, PASS, Finding

MIN_DRAWS = 400  # five of them beyond either end of the widest interval that decides
IMPOSTOR_DRAWS = 500  # at most; what is tried for show need not be as exact as a verdict
Check = Callable[[Challenger], Finding]

# Checks that need no predictions come first: the isolated process takes time to start. The lineage
# comes last: the model is trained again while the other checks are computed.
CHECKS: dict[str, Check] = {
    "documentation": record_checks.check_documentation,
    "signature": record_checks.check_signature,
    "artifacts": record_checks.check_artifacts,
    "economics": record_checks.check_economics,
    "label_freshness": record_checks.check_label_freshness,
    "leakage": record_checks.check_leakage,
    "prediction": behaviour_checks.check_prediction,
    "robustness": behaviour_checks.check_robustness,
    "latency": behaviour_checks.check_latency,
    "auc_floor": performance_checks.check_auc_floor,
    "value_floor": performance_checks.check_value_floor,
    "calibration": performance_checks.check_calibration,
    "overfitting": performance_checks.check_overfitting,
    "slices": slice_check.check_slices,
    "champion": performance_checks.check_champion,
    "lineage": record_checks.check_lineage,
}


def evaluate_gate(challenger: Challenger) -> pd.DataFrame:
    """Put a challenger through every check, keep the evidence and tag the version with the verdict.

    Returns:
        The findings, as ``evaluate_checks`` returns them.

    Raises:
        ModelError: no such version.
        UsageError: fewer than ``MIN_DRAWS`` draws.
    """
    if challenger.draws < MIN_DRAWS:
        raise UsageError(
            f"DRAWS is {challenger.draws}; below {MIN_DRAWS} an interval is luck, and so is a "
            "verdict that rests on it."
        )
    # Model and record are hashed before they are judged: a later change must show.
    origin = {
        "model_sha256": artifacts.hash_model(challenger.version),
        "tables": offline.current_versions(),
        **gate_evidence.describe_record(versions.read_version(challenger.version)),
    }
    findings = evaluate_checks(challenger)
    verdict = overall_verdict(findings)
    evidence = _compile_evidence(challenger, findings, verdict, origin)
    digest = gate_evidence.write_evidence(challenger.version, evidence)
    tags = {"gate": verdict, "gate_evidence_sha256": digest}
    for row in findings.itertuples():
        tags[f"gate.{row.check}"] = row.verdict
    tags |= _describe_cpu_times(challenger)
    versions.set_tags(challenger.version, tags)
    return findings


def applicable_checks(challenger: Challenger) -> dict[str, Check]:
    """Return the checks by name; ``champion`` only if there is a champion to compare with."""
    if challenger.champion is not None:
        return CHECKS
    return {name: check for name, check in CHECKS.items() if name != "champion"}


def run_check(check: Check, challenger: Challenger) -> Finding:
    """Run one check; whatever it raises makes it ``not_evaluated``, with the error as detail."""
    try:
        return check(challenger)
    except Exception as error:  # noqa: BLE001 - whatever a challenger raises, it has not passed
        requirement = (check.__doc__ or check.__name__).strip().splitlines()[0]
        return Finding.not_evaluated(requirement, error)


def evaluate_checks(challenger: Challenger) -> pd.DataFrame:
    """Run every check that applies to a challenger; nothing is kept.

    Returns:
        One row per check: ``check, verdict, value, lower, upper, requirement, detail``. A check
        that raised is ``not_evaluated`` with the error in ``detail``. There is no row ``champion``
        while there is no champion.
    """
    rows = []
    for name, check in applicable_checks(challenger).items():
        found = run_check(check, challenger)
        rows.append({"check": name, **asdict(found)})
    findings = pd.DataFrame(rows)
    return findings.astype({"value": float, "lower": float, "upper": float}).round(6)


def evaluate_predictions(challenger: Challenger, probability: np.ndarray) -> pd.DataFrame:
    """Run the checks as if the challenger had predicted other probabilities; nothing is kept.

    Returns:
        The findings, as ``evaluate_checks`` returns them, from at most 500 draws.
    """
    draws = min(challenger.draws, IMPOSTOR_DRAWS)
    return evaluate_checks(challenger.with_parts(probability=probability, draws=draws))


def tabulate_verdicts(findings: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return verdicts, index ``check``, a column for each model, from the findings of models."""
    verdicts = {name: found.set_index("check")["verdict"] for name, found in findings.items()}
    order = next(iter(verdicts.values())).index
    return pd.DataFrame(verdicts).loc[order]


def overall_verdict(findings: pd.DataFrame) -> str:
    """Return ``pass`` if all findings pass, ``fail`` if one fails, else ``not_evaluated``."""
    verdicts = set(findings["verdict"])
    if FAIL in verdicts:
        return FAIL
    if verdicts == {PASS}:
        return PASS
    return NOT_EVALUATED


def _compile_evidence(
    challenger: Challenger, findings: pd.DataFrame, verdict: str, origin: dict[str, Any]
) -> GateEvidence:
    """Return what an approval is bound to; the origin are the digests and the table versions."""
    since = challenger.since
    return GateEvidence(
        version=challenger.version,
        run_id=challenger.info.run_id,
        as_of=f"{challenger.as_of:%Y-%m-%d}",
        champion=challenger.champion,
        verdict=verdict,
        draws=challenger.draws,
        seed=challenger.seed,
        checks=json.loads(findings.to_json(orient="records")),
        rows=_count_rows(challenger),
        since=None if since is None else f"{since:%Y-%m-%d}",
        offer_cost_usd=challenger.economics.offer_cost_usd,
        churner_value_usd=challenger.economics.churner_value_usd,
        save_rate=challenger.economics.save_rate,
        **origin,
    )


def _count_rows(challenger: Challenger) -> int:
    """Return the number of rows that decided: 0 if they cannot be read."""
    try:
        return len(challenger.rows)
    except ChurnError:
        return 0


def _describe_cpu_times(challenger: Challenger) -> dict[str, str]:
    """Return the CPU times as tags: never the same twice, they must not be part of the evidence."""
    if not challenger.has_probe_results():
        return {}
    results = challenger.probe_results
    tags = {"gate_batch_cpu_ms": f"{results.batch_cpu_ms:.1f}"}
    if results.compiled_cpu_ms is not None:
        tags["gate_compiled_cpu_ms"] = f"{results.compiled_cpu_ms:.4f}"
    return tags
