"""What a run's last gate said, and in words which checks refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from churn_utils.errors import ModelError
from churn_utils.pipeline import warm_process
from churn_utils.pipeline.plan import Report
from churn_utils.pipeline.schedule import executed_path
from churn_utils.pipeline.stages import GATE, Stage
from churn_utils.pipeline.state import GateResult, RunState
from churn_utils.registry import gate_evidence
from churn_utils.registry.gate_evidence import CheckResult
from churn_utils.reports.summary import read_summary

PASS, FAIL = "pass", "fail"  # verdicts; importing the gate for them would cost every call 2 s


def read_verdict(name: str, reports: Path) -> GateResult:
    """Return version and verdict that the executed notebook of a gate's stage ended with."""
    numbers = read_summary(executed_path(reports, name)).numbers
    said = {"version": numbers.get("challenger"), "verdict": numbers.get("gate")}
    return GateResult.model_validate(said)


def record_last_gate(run_state: RunState, stages: list[Stage], reports: Path) -> Stage | None:
    """Return the stage of the last gate that was run, or None; keep what it said with its result.

    What refused is read from the registry's evidence once and written to ``run_state``, so that a
    second call, which has nothing to do, need not load MLflow.
    """
    gates = [stage for stage in stages if stage.kind == GATE and stage.name in run_state.results]
    if not gates:
        return None
    stage = gates[-1]
    result = run_state.results[stage.name]
    if result.gate is None:
        gate = read_verdict(stage.name, reports)
        if gate.is_refusal and gate.version is not None:
            refused_by = warm_process.call_in_warm_process(
                f"{__name__}:read_refusal", gate.version, report=print
            )
            gate = gate.model_copy(update={"refused_by": refused_by})
        run_state.results[stage.name] = result.model_copy(update={"gate": gate})
        run_state.write()
    return stage


def read_refusal(version: int, report: Report) -> str:
    """Describe what refused a version, from its newest evidence; runs in the warm process.

    ``report`` is not used; every function that is called there gets it.
    """
    try:
        evidence, _ = gate_evidence.read_evidence(version)
    except ModelError as error:
        return f"its gate ({error})"
    return describe_refusal(evidence.checks)


def describe_refusal(checks: Sequence[CheckResult]) -> str:
    """Name the checks that failed, with figures and requirements; else those without a result."""
    failed = []
    without_result = []
    names = []
    for check in checks:
        if check.verdict == FAIL:
            failed.append(_describe_check(check))
        elif check.verdict != PASS:
            without_result.append(_describe_check(check))
            names.append(check.check)
    if not failed:
        return "; ".join(without_result)
    if names:
        failed.append(f"not evaluated: {', '.join(names)}")
    return "; ".join(failed)


def _describe_check(check: CheckResult) -> str:
    """Return name, figure and requirement, as ``auc_floor (0.55 [0.5, 0.6]; required: …)``."""
    found = []
    if check.value is not None:
        found.append(f"{check.value:.4g}")
    if check.lower is not None:
        found.append(f"[{check.lower:.4g}, {check.upper:.4g}]")
    if check.detail:
        found.append(check.detail)
    return f"{check.check} ({' '.join(found)}; required: {check.requirement})"
