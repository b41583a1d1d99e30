"""How a run ended, in words: what a person must know, and the command to run next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from churn_utils.errors import StageError
from churn_utils.monitoring import history
from churn_utils.monitoring.decision import QUARANTINE
from churn_utils.pipeline.execution import Execution
from churn_utils.pipeline.gate_result import record_last_gate
from churn_utils.pipeline.plan import Plan, describe_call
from churn_utils.pipeline.stages import NEEDS_CHAMPION, Stage
from churn_utils.pipeline.state import GateResult, RunState
from churn_utils.registry import deployments
from churn_utils.reports.index import RunOutcome


def to_lines(outcome: RunOutcome) -> list[str]:
    """Return the lines that a run prints of its outcome; the command ends the last one."""
    lines = [outcome.headline, *outcome.details]
    if outcome.command:
        last = lines.pop()
        lines.append(f"{last}  {outcome.command}")
    return lines


def describe_failure(plan: Plan, error: BaseException) -> RunOutcome:
    """Return the outcome of a run that a failed stage, or its user, has ended."""
    command = describe_call(plan)
    if isinstance(error, StageError):
        headline, *kept = str(error).splitlines()
        return RunOutcome(headline, "failed", [*kept, "Go on with:"], command)
    name = type(error).__name__
    headline = f"Stopped before its end ({name}); go on with:"
    return RunOutcome(headline, "failed", command=command)


def describe_finished(execution: Execution) -> RunOutcome:
    """Return the outcome of a run that came to its end, from what its home holds now.

    The last gate decides: when it refused its challenger, that comes first, with the command that
    runs it again; else the version that answers, and where the newest call list is.
    """
    plan = execution.plan
    run_state = execution.run_state
    champion = _describe_champion(plan.end) + _describe_call_list(execution.reports)
    details = []
    if unfinished := execution.list_unfinished():  # after --only
        names = ", ".join(unfinished)
        details.append(f"Not up to date: {names}. They run with:  {describe_call(plan)}")
    details += _describe_held_back(plan)
    stage = record_last_gate(run_state, execution.schedule.stages, execution.reports)
    gate = run_state.results[stage.name].gate if stage else None
    if stage is None or gate is None or not gate.is_refusal:
        return _end_with_wait(plan, RunOutcome(f"Done: {champion}.", "done", details))
    if plan.waiting_for:
        details.append(f"waiting for {plan.waiting_for}")
    if stage.month:
        details.insert(0, f"Still in effect: {champion}.")
    return RunOutcome(
        headline=_describe_refusal(stage, gate, run_state),
        status="refused",
        details=[*details, "Ask again with:"],
        command=_describe_repetition(plan, stage),
    )


def _end_with_wait(plan: Plan, outcome: RunOutcome) -> RunOutcome:
    """Return the outcome with the month that is waited for as its end, if there is one."""
    if not plan.waiting_for:
        return outcome
    waiting = f"waiting for {plan.waiting_for}; once it has come, go on with:"
    return replace(outcome, details=[*outcome.details, waiting], command=describe_call(plan))


def _describe_held_back(plan: Plan) -> list[str]:
    """Say why the last month was not scored, and what can be done; nothing if it was."""
    decided = history.read_decisions()
    of_last = decided[decided["as_of_date"] == plan.end]
    if of_last.empty or of_last["decision"].iloc[0] != QUARANTINE:
        return []
    month = f"{plan.end:%Y-%m}"
    accept = describe_call(plan, "--accept-delivery", month, "--by", "NAME", "--reason", "TEXT")
    return [
        f"{month} is held back and has no call list: {of_last['why'].iloc[0]}. Deliver it again; "
        f"or, if it is right although it does not look like a month, let it pass with:  {accept}"
    ]


def _describe_champion(date: pd.Timestamp) -> str:
    """Say which version answers at a date, and since when."""
    version = deployments.champion_at(date)
    if version is None:
        return "no version answers yet"
    table = deployments.read_deployments()
    is_champion = table["version"] == version
    starts = table.loc[is_champion, "effective_from"]
    if starts.empty:
        return f"version {version} answers"
    return f"version {version} answers since {starts.max():%Y-%m}"


def _describe_call_list(reports: Path) -> str:
    """Say where the newest call list is; empty when there is none."""
    paths = sorted(reports.glob("retention_list_*.csv"))
    if not paths:
        return ""
    newest = paths[-1]
    name = newest.stem
    month = name.removeprefix("retention_list_")
    return f"; call list of {month}: {newest}"


def _describe_refusal(
    stage: Stage,
    gate: GateResult,
    run_state: RunState,
) -> str:
    """Say what refused a challenger, and what follows from it."""
    refused = f"REFUSED by {gate.refused_by or 'its gate'}"
    if stage.month:
        return f"{refused}: the model of the retraining of {stage.month} was not promoted."
    was_left_out = any(name.startswith(NEEDS_CHAMPION) for name in run_state.results)
    if was_left_out:
        return f"{refused}: no model was promoted, 05 to 08 were left out."
    return f"{refused}: no model was promoted."


def _describe_repetition(plan: Plan, gate: Stage) -> str:
    """Return the command that runs a gate and all after it again, with who approves."""
    first = gate.name if gate.month else "04a"
    words = ["--from", first]
    if plan.approver:
        words.append("--approve-as")
        words.append(plan.approver)
    if plan.manual_approval:
        words.append("--manual-approval")
    return describe_call(plan, *words)
