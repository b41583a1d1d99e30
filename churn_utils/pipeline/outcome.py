"""How a run ended, in words: what a person must know, and the command to run next."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from churn_utils.errors import StageError
from churn_utils.pipeline.gate_result import record_last_gate
from churn_utils.pipeline.plan import Plan, describe_call
from churn_utils.pipeline.schedule import Schedule
from churn_utils.pipeline.stages import NEEDS_CHAMPION, Stage
from churn_utils.pipeline.state import GateResult, RunState
from churn_utils.registry import deployments
from churn_utils.reports.index import RunOutcome


def to_lines(outcome: RunOutcome) -> list[str]:
    """Return the lines that a run prints of its outcome; the command ends the last one."""
    lines = [outcome.headline, *outcome.details]
    if outcome.command:
        lines[-1] = f"{lines[-1]}  {outcome.command}"
    return lines


def describe_waiting(gate: str, call: str, reports: Path) -> RunOutcome:
    """Return the outcome of a run that waits for a person to read the page of a gate."""
    headline = (
        "Waiting for approval: the challenger passed its gate. "
        f"Read {reports / gate}.html, then go on with:"
    )
    return RunOutcome(headline, "waiting", command=f"{call} --approve-as 'YOUR NAME'")


def describe_failure(plan: Plan, error: BaseException) -> RunOutcome:
    """Return the outcome of a run that a failed stage or its user ended."""
    if not isinstance(error, StageError):
        headline = f"Stopped before its end ({type(error).__name__}); go on with:"
        return RunOutcome(headline, "failed", command=describe_call(plan))
    headline, *kept = str(error).splitlines()
    return RunOutcome(headline, "failed", [*kept, "Go on with:"], describe_call(plan))


def describe_finished(
    plan: Plan, run_state: RunState, schedule: Schedule, unfinished: list[str], reports: Path
) -> RunOutcome:
    """Return the outcome of a run that came to its end, from what its home holds now.

    Args:
        plan: what was asked for.
        run_state: with the results of the stages; learns what the last gate said.
        schedule: the stages.
        unfinished: names of stages that ``--only`` has left out of date.
        reports: folder of the run, with the call lists.
    """
    answering = _describe_champion(plan.end)
    call_list = _describe_call_list(reports)
    rest = _describe_unfinished(plan, unfinished)
    stage = record_last_gate(run_state, schedule.stages, reports)
    gate = run_state.results[stage.name].gate if stage else None
    if stage is None or gate is None or not gate.is_refusal:
        return RunOutcome(f"Done: {answering}{call_list}.", "done", rest)
    headline = _describe_refusal(stage, gate, run_state)
    if stage.month:
        rest = [f"{answering[0].upper()}{answering[1:]}{call_list}.", *rest]
    gate_name = stage.name if stage.month else "04a"
    return RunOutcome(
        headline, "refused", [*rest, "Ask again with:"], _describe_repeat(plan, gate_name)
    )


def _describe_champion(date: pd.Timestamp) -> str:
    """Say which version answers at a date, and since when."""
    version = deployments.champion_at(date)
    if version is None:
        return "no version answers yet"
    table = deployments.read_deployments()
    starts = table.loc[table["version"] == version, "effective_from"]
    if starts.empty:
        return f"version {version} answers"
    return f"version {version} answers since {starts.max():%Y-%m}"


def _describe_call_list(reports: Path) -> str:
    """Say where the newest call list is; empty when there is none."""
    lists = sorted(reports.glob("retention_list_*.csv"))
    if not lists:
        return ""
    month = lists[-1].stem.removeprefix("retention_list_")
    return f"; call list of {month}: {lists[-1]}"


def _describe_unfinished(plan: Plan, unfinished: list[str]) -> list[str]:
    if not unfinished:
        return []
    return [f"Not up to date: {', '.join(unfinished)}. They run with:  {describe_call(plan)}"]


def _describe_refusal(stage: Stage, gate: GateResult, run_state: RunState) -> str:
    refused = f"REFUSED by {gate.refused_by or 'its gate'}"
    if stage.month:
        return f"{refused}: the model of the retraining of {stage.month} was not promoted."
    left_out = [name for name in run_state.results if name.startswith(NEEDS_CHAMPION)]
    if left_out:
        return f"{refused}: no model was promoted, 05 to 08 were left out."
    return f"{refused}: no model was promoted."


def _describe_repeat(plan: Plan, gate: str) -> str:
    """Return the command that runs a gate and all after it again, with who approves."""
    words = ["--from", gate]
    if plan.approver:
        words += ["--approve-as", plan.approver]
    if plan.manual_approval:
        words.append("--manual-approval")
    return describe_call(plan, *words)
