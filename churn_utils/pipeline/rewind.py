"""Repeat stages: strike their results, and take their tables and pages back.

Simulated time goes back with the tables: what a later month wrote must not be there when that
month is run again.
"""

from __future__ import annotations

from pathlib import Path

from churn_utils.data import tables
from churn_utils.pipeline.executor import executed_folder
from churn_utils.pipeline.plan import Plan
from churn_utils.pipeline.stages import BATCH, Stage
from churn_utils.pipeline.state import RunState, StageResult
from churn_utils.pipeline.timeline import expand_whole_timeline
from churn_utils.registry import deployments

STALE = "stale"  # no stage has this fingerprint


def invalidate(plan: Plan, run_state: RunState, names: list[str], reports: Path) -> None:
    """Strike stages, and those that need them, and take their tables back to before they began.

    A stage that was killed goes on where it stopped. With ``only`` the home is taken as it is, and
    what needs the stages becomes stale.

    Args:
        plan: what this call is to do.
        run_state: is changed and written.
        names: of the stages that will run.
        reports: folder of the run, whose pages of those stages are deleted.
    """
    affected = _list_affected(expand_whole_timeline(plan, run_state), names)
    if plan.only:
        for stage in affected:
            if result := run_state.results.get(stage.name):
                stale = result.model_copy(update={"fingerprint": STALE})
                run_state.results[stage.name] = stale
        _rewind(run_state, dict(run_state.unfinished_rewind))
        return
    before = dict(run_state.unfinished_rewind)
    struck: set[str] = set()
    for stage in affected:
        needs_struck = bool(struck & set(stage.needs))
        result = run_state.results.pop(stage.name, None)
        was_killed = result is None and stage.name != plan.start and not needs_struck
        struck.add(stage.name)
        if not was_killed:
            # Of several stages that changed a table the version before the first one counts.
            before = run_state.versions_at_start.pop(stage.name, {}) | before
            _delete_pages(stage, result, reports)
    _rewind(run_state, before)


def _list_affected(timeline: list[Stage], names: list[str]) -> list[Stage]:
    """Return the stages of these names and all that need one of them, in order."""
    affected: list[Stage] = []
    struck = set(names)
    for stage in timeline:
        if stage.name in struck or struck & set(stage.needs):
            struck.add(stage.name)
            affected.append(stage)
    return affected


def _rewind(run_state: RunState, before: dict[str, int | None]) -> None:
    """Take tables back; the state says so first, so that the next run completes it after a kill."""
    run_state.unfinished_rewind = before
    run_state.write()
    if "deployments" in before:
        deployments.record_rewind(before["deployments"])
    for table, version in before.items():
        tables.rewind(table, version)
    if "deployments" in before:
        deployments.realign_champion()
    run_state.unfinished_rewind = {}
    run_state.write()


def _delete_pages(stage: Stage, result: StageResult | None, reports: Path) -> None:
    """Delete what a stage that was taken back has left in the reports.

    The next retraining may come in another month, so its pages would not be replaced.
    """
    (executed_folder(reports) / f"{stage.name}.ipynb").unlink(missing_ok=True)
    (reports / f"{stage.name}.html").unlink(missing_ok=True)
    if stage.kind == BATCH:
        snapshot = dict(stage.parameters).get("SNAPSHOT", "2025-02-01")
        _delete_call_list(str(snapshot)[:7], reports)
    if result is not None and result.call_list is not None:
        _delete_call_list(result.call_list, reports)


def _delete_call_list(month: str, reports: Path) -> None:
    (reports / f"retention_list_{month}.csv").unlink(missing_ok=True)
