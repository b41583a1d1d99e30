"""Which stages to run now: those that were asked for, else those that are not up to date."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from churn_utils.errors import UsageError
from churn_utils.pipeline.parameters import Notebooks, resolve_parameters
from churn_utils.pipeline.plan import Plan, Values
from churn_utils.pipeline.stages import (
    APPROVAL,
    FEATURES,
    PRODUCTION,
    Stage,
    expand_timeline,
)
from churn_utils.pipeline.state import RunState
from churn_utils.upstream import months

NOT_FINGERPRINTED = ("APPROVER", "REASON")


@dataclass(frozen=True)
class Schedule:
    """The stages known so far in order, with the parameters and the fingerprint of each by name."""

    stages: list[Stage]
    parameters: dict[str, Values]
    fingerprints: dict[str, str]

    def select(self, names: Sequence[str]) -> list[Stage]:
        """Return the stages of these names, in order of simulated time."""
        return [stage for stage in self.stages if stage.name in names]


@dataclass(frozen=True)
class Segment:
    """Stages to run now, and those held back: an approval, first, and what needs it."""

    stages: list[Stage]
    held: list[Stage]


def executed_path(reports: Path, name: str) -> Path:
    """Return the file of a stage's executed notebook in the reports of a run."""
    return reports / "notebooks" / f"{name}.ipynb"


def make_schedule(plan: Plan, run_state: RunState, notebooks: Notebooks) -> Schedule:
    """Expand the timeline and say what each stage gets and depends on.

    Raises:
        UsageError: as ``resolve_parameters``.
    """
    stages = expand_timeline(plan, run_state)
    parameters = resolve_parameters(plan, stages, notebooks)
    fingerprints = _fingerprint_stages(plan, stages, parameters, run_state, notebooks)
    return Schedule(stages, parameters, fingerprints)


def _fingerprint_stages(
    plan: Plan,
    stages: list[Stage],
    parameters: dict[str, Values],
    run_state: RunState,
    notebooks: Notebooks,
) -> dict[str, str]:
    """Return by ``stage.name`` a hash of its notebook, parameters and the stages that it needs.

    Who approves is left out: another caller does not give a standing approval again. Months that
    ended in a retraining are the same however long the run goes on. A delivery that a person has
    let pass since, or whose file is another one, makes the stage that ingests it run again.
    """
    from churn_utils.registry import deployments  # which --help need not wait for

    accepted = deployments.list_accepted()
    source = plan.source
    fingerprints: dict[str, str] = {}
    for stage in stages:
        content: object = notebooks[stage.kind].cells
        if stage.kind == PRODUCTION:
            content = _describe_months(plan, stage, run_state)
        values = {
            name: value
            for name, value in parameters[stage.name].items()
            if name not in NOT_FINGERPRINTED
        }
        before = [fingerprints[name] for name in stage.needs]
        parts: list[object] = [content, values, before]
        ingested = _months_ingested(plan, stage, run_state)
        let_pass = [delivery for delivery in accepted if delivery[0] in ingested]
        if let_pass:
            parts.append(let_pass)
        if arrivals := months.list_arrivals(source, ingested):
            parts.append(arrivals)
        text = json.dumps(parts, sort_keys=True)
        fingerprints[stage.name] = hashlib.sha256(text.encode()).hexdigest()
    return fingerprints


def _months_ingested(plan: Plan, stage: Stage, run_state: RunState) -> set[str]:
    """Return the months, such as 2025-04, whose deliveries a stage ingests."""
    if stage.kind == FEATURES:
        return {f"{plan.first_month:%Y-%m}", f"{plan.second_month:%Y-%m}"}
    if stage.kind != PRODUCTION:
        return set()
    retraining = run_state.retraining_after(stage.name)
    last = f"{plan.end:%Y-%m}" if retraining is None else retraining.month
    first = stage.month or f"{plan.second_month:%Y-%m}"
    return set(pd.period_range(first, last, freq="M")[1:].astype(str))


def _describe_months(plan: Plan, stage: Stage, run_state: RunState) -> dict[str, object]:
    """Return what the months of a stage of production depend on."""
    retraining = run_state.retraining_after(stage.name)
    has_ended = retraining is not None and pd.Timestamp(retraining.as_of) <= plan.end
    return plan.identity.facts | {"months": None if has_ended else plan.months}


def choose_stages(plan: Plan, schedule: Schedule, finished: set[str]) -> list[str]:
    """Return the names of the stages to run, in order.

    With ``only`` these and no others; else all that are not finished, from ``start`` on also the
    finished ones, and all that need one of those.

    Raises:
        UsageError: ``only`` names months of production, or stages whose needs are not finished.
    """
    if plan.only:
        return _choose_only(plan, schedule, finished)
    if plan.start is not None:
        names = [stage.name for stage in schedule.stages]
        first = names.index(plan.start)
        finished = finished - set(names[first:])
    return list_unfinished(schedule, finished)


def list_unfinished(schedule: Schedule, finished: set[str]) -> list[str]:
    """Return the names of the stages that are not finished or need one that is not, in order."""
    unfinished: list[str] = []
    for stage in schedule.stages:
        needs_unfinished = not set(stage.needs).isdisjoint(unfinished)
        if stage.name not in finished or needs_unfinished:
            unfinished.append(stage.name)
    return unfinished


def _choose_only(plan: Plan, schedule: Schedule, finished: set[str]) -> list[str]:
    """Return the stages that ``only`` names, after checking that they may run alone."""
    stages = schedule.select(plan.only)
    chosen = [stage.name for stage in stages]
    if any(stage.kind == PRODUCTION for stage in stages):
        raise UsageError(
            "months cannot be run alone: what they ask for comes after them; use --from production."
        )
    needed = {name for stage in stages for name in stage.needs}
    missing = sorted(needed - finished - set(chosen))
    if missing:
        raise UsageError(
            f"--only {' '.join(chosen)} needs {', '.join(missing)}, which did not run yet, "
            "or not with these parameters; use --from."
        )
    return chosen


def next_segment(plan: Plan, stages: list[Stage]) -> Segment:
    """Return the stages to run before the timeline is looked at again.

    They end with the next months of production, which may ask for a retraining. With
    ``manual_approval`` an approval and all that need it are held back.
    """
    chosen: list[Stage] = []
    held: list[Stage] = []
    for stage in stages:
        is_approval = stage.kind == APPROVAL
        needs_held = any(earlier.name in stage.needs for earlier in held)
        is_held = plan.manual_approval and (is_approval or needs_held)
        if is_held:
            held.append(stage)
        else:
            chosen.append(stage)
        if stage.kind == PRODUCTION:
            break
    return Segment(chosen, held)
