"""The pages of a run: those of its executed notebooks, and the index."""

from __future__ import annotations

from pathlib import Path

from churn_utils.pipeline.execution import Execution
from churn_utils.pipeline.schedule import executed_path
from churn_utils.reports import html, index
from churn_utils.reports.index import RunOutcome


def write_pages(execution: Execution, outcome: RunOutcome) -> Path:
    """Write the pages that are missing or older than their notebook; return the index."""
    reports = execution.reports
    executed = []
    for stage in execution.schedule.stages:
        notebook = executed_path(reports, stage.name)
        if not notebook.exists():
            continue
        executed.append(notebook)
        page = reports / f"{stage.name}.html"
        written = page.stat().st_mtime if page.exists() else 0.0
        if written < notebook.stat().st_mtime:
            execution.export_page(stage.name)
    html.copy_assets(reports)
    identity = execution.plan.identity
    facts = {"run": identity.run, **identity.facts}
    return index.write_index(reports, executed, facts, outcome)
