"""Repeat stages: strike their results, and take their tables and pages back.

Simulated time goes back with the tables: what a later month wrote must not be there when that
month is run again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from churn_utils.data import table_writes
from churn_utils.pipeline.plan import MOST_MONTHS, Plan
from churn_utils.pipeline.schedule import executed_path
from churn_utils.pipeline.stages import BATCH, PRODUCTION, Stage, expand_timeline
from churn_utils.pipeline.state import RunState, TableVersions
from churn_utils.registry import promotion

STALE = "stale"  # no stage has this fingerprint


def invalidate(
    plan: Plan,
    run_state: RunState,
    names: list[str],
    reports: Path,
    continued: Collection[str] = (),
) -> None:
    """Strike stages, and those that need them, and take their tables back to before they began.

    A stage that was killed goes on where it stopped, and so do those in ``continued``. With
    ``only`` the home is taken as it is, and what needs the stages becomes stale. The pages of the
    stages in ``reports`` are deleted.
    """
    # Stages after the plan's last month are taken back too.
    timeline = expand_timeline(replace(plan, months=MOST_MONTHS), run_state)
    affected = _list_affected(timeline, names)
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
        needs_struck = not struck.isdisjoint(stage.needs)
        result = run_state.results.pop(stage.name, None)
        may_go_on = result is None or stage.name in continued
        goes_on = may_go_on and stage.name != plan.start and not needs_struck
        struck.add(stage.name)
        if not goes_on:
            # Of several stages that changed a table the version before the first one counts.
            before = run_state.versions_at_start.pop(stage.name, {}) | before
            _delete_pages(plan, stage, reports)
    _rewind(run_state, before)


def _list_affected(timeline: list[Stage], names: list[str]) -> list[Stage]:
    """Return the stages of these names and all that need one of them, in order."""
    affected: list[Stage] = []
    struck = set(names)
    for stage in timeline:
        if stage.name in struck or not struck.isdisjoint(stage.needs):
            struck.add(stage.name)
            affected.append(stage)
    return affected


def _rewind(run_state: RunState, before: TableVersions) -> None:
    """Take tables back; the state says so first, so that the next run completes it after a kill."""
    changes_champion = "deployments" in before
    run_state.unfinished_rewind = before
    run_state.write()
    if changes_champion:
        promotion.record_rewind(before["deployments"])
    for table, version in before.items():
        table_writes.rewind(table, version)
    if changes_champion:
        promotion.realign_champion()
    run_state.unfinished_rewind = {}
    run_state.write()


def _delete_pages(plan: Plan, stage: Stage, reports: Path) -> None:
    """Delete what a stage that was taken back has left in the reports.

    The next retraining may come in another month, so its pages would not be replaced.
    """
    files = [executed_path(reports, stage.name), reports / f"{stage.name}.html"]
    if stage.kind == BATCH:
        month = stage.month or f"{plan.second_month:%Y-%m}"
        files.append(reports / f"retention_list_{month}.csv")
    if stage.kind == PRODUCTION:
        first = stage.month or f"{plan.second_month:%Y-%m}"
        lists = reports.glob("retention_list_*.csv")
        files += [path for path in lists if path.stem.removeprefix("retention_list_") > first]
    for path in files:
        path.unlink(missing_ok=True)
