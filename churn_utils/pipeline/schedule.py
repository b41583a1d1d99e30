"""Which stages to run now: those that were asked for, else those that are not up to date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from churn_utils import settings
from churn_utils.errors import UsageError
from churn_utils.pipeline.fingerprints import fingerprint_stages
from churn_utils.pipeline.parameters import Notebooks, resolve_parameters
from churn_utils.pipeline.plan import Plan, Values
from churn_utils.pipeline.stages import (
    APPROVAL,
    PRODUCTION,
    Stage,
    expand_timeline,
)
from churn_utils.pipeline.state import RunState


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
    fingerprints = fingerprint_stages(plan, stages, parameters, run_state, notebooks)
    return Schedule(stages, parameters, fingerprints)


def list_continued(plan: Plan, run_state: RunState, notebooks: Notebooks) -> set[str]:
    """Return the stages of production that only lack months which came after their last one.

    They go on where they ended: what they did until then would be done again alike.
    """
    continued = set()
    for name, result in run_state.results.items():
        until = pd.Timestamp(result.until)
        if pd.isna(until) or until >= plan.end:
            continue
        last = settings.month_of(until) - settings.month_of(plan.first_month)
        before = replace(plan, months=last)
        fingerprints = make_schedule(before, run_state, notebooks).fingerprints
        if fingerprints.get(name) == result.fingerprint:
            continued.add(name)
    return continued


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
