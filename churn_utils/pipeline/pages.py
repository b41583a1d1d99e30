"""The pages of a run: one for each executed notebook, and the index."""

from __future__ import annotations

from pathlib import Path

from churn_utils.pipeline.executor import executed_folder
from churn_utils.pipeline.plan import Plan
from churn_utils.pipeline.schedule import Schedule
from churn_utils.pipeline.state import RunState
from churn_utils.reports import html, index
from churn_utils.reports.index import RunOutcome


def export_page(
    name: str, plan: Plan, schedule: Schedule, run_state: RunState, reports: Path
) -> None:
    """Write the page of a stage's executed notebook, with its parameters, time and duration."""
    result = run_state.results.get(name)
    facts = {
        "run": plan.identity.run,
        "finished": result.finished if result else "failed",
        "seconds": result.seconds if result else "unknown",
        **schedule.parameters[name],
    }
    html.export_notebook(executed_folder(reports) / f"{name}.ipynb", reports, facts)


def write_pages(
    plan: Plan, schedule: Schedule, run_state: RunState, reports: Path, outcome: RunOutcome
) -> Path:
    """Write the pages that are missing or older than their notebook, then the index.

    Returns:
        Path of the index.
    """
    paths = [executed_folder(reports) / f"{stage.name}.ipynb" for stage in schedule.stages]
    executed = [path for path in paths if path.exists()]
    for notebook in executed:
        page = reports / f"{notebook.stem}.html"
        if not page.exists() or page.stat().st_mtime < notebook.stat().st_mtime:
            export_page(notebook.stem, plan, schedule, run_state, reports)
    html.copy_assets(reports)
    facts = {"run": plan.identity.run, **plan.identity.model_dump()}
    return index.write_index(reports, executed, facts, outcome)
