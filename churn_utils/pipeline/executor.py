"""Execute one stage: a notebook by papermill, or months of production in the warm process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.errors import StageError
from churn_utils.features import offer_policy
from churn_utils.pipeline import kernels, warm_process
from churn_utils.pipeline.plan import Plan, Report, Values
from churn_utils.pipeline.stages import Stage
from churn_utils.pipeline.state import Retraining, StageResult
from churn_utils.upstream import months
from churn_utils.upstream.folder import ONE_MONTH

if TYPE_CHECKING:
    from churn_utils.monitoring.decision import Decision

LEAST_MARGIN = 1.1  # of what a sure churner's offer earns over its cost
KERNEL_SECONDS = 600  # to start, on a machine that is busy; one that died is noticed at once


def execute_notebook(stage: Stage, parameters: Values, target: Path, on_cell: Report) -> None:
    """Execute the notebook of a stage; ``target`` is kept also when a cell raises.

    ``on_cell`` is called with the place of each cell that starts, such as ``cell 9``.

    Raises:
        StageError: a cell raised, the kernel died or the file could not be written; the message
            names the stage and the executed notebook.
    """
    import papermill

    def report_cell(cell: dict, cell_index: int) -> None:
        on_cell(f"cell {cell_index + 1}")

    source = settings.notebooks() / f"{stage.kind}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with kernels.open_channels() as config:
            papermill.execute_notebook(
                str(source),
                str(target),
                parameters,
                kernel_name="python3",
                cwd=str(source.parent),
                progress_bar=False,
                log_output=False,
                start_timeout=KERNEL_SECONDS,
                config=config,
                on_cell_start=report_cell,
            )
    except papermill.PapermillExecutionError as error:
        raise StageError(
            f"stage {stage.name} failed: {error.ename}: {error.evalue}\n"
            f"Its executed notebook is kept: {target}"
        ) from error
    except Exception as error:  # a kernel that died, a disk that is full: name the stage
        raise StageError(
            f"stage {stage.name} failed: {type(error).__name__}: {error}\n"
            f"What was executed is kept: {target}"
        ) from error


def run_production(
    stage: Stage,
    plan: Plan,
    list_size: int,
    reports: Path,
    report: Report,
) -> StageResult:
    """Call ``run_months_and_list`` in the warm process, up to the end of a plan.

    Raises:
        StageError: a month failed; the message names the stage and the file with the traceback,
            which is kept in the folder ``reports``.
    """
    try:
        return warm_process.call_in_warm_process(
            f"{__name__}:run_months_and_list",
            f"{plan.end:%Y-%m-%d}",
            plan.scenario,
            plan.seed,
            plan.deliveries,
            list_size,
            report=report,
        )
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        kept = reports / f"{stage.name}_failed.txt"
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text("\n".join([what, *getattr(error, "__notes__", [])]))
        raise StageError(
            f"stage {stage.name} failed: {what}\nWhere it was raised is kept: {kept}"
        ) from error


def run_months_and_list(
    until: str,
    scenario: str,
    seed: int,
    deliveries: str,
    list_size: int,
    report: Report,
) -> StageResult:
    """Run the months up to ``until``, or up to one that asks for a retraining.

    When no retraining is asked for, write the call list of the last month: the months before have
    passed, and the retention team calls the customers of this one.

    Args:
        until: last as-of month, such as ``2025-07-01``.
        scenario, seed, deliveries: where the months come from, as ``months.open_source`` takes it.
        list_size: customers that the retention team can reach.
        report: called with a line for each month.
    """
    from churn_utils.monitoring import monthly_cycle  # 2 s, in the warm process only

    month = settings.as_of_date(until)
    source = months.open_source(scenario, seed, deliveries)
    asked = monthly_cycle.run_months(month, source, report)
    if asked is None:
        is_listed = month == months.first_month(source) + ONE_MONTH  # by notebook 05
        call_list = None if is_listed else _write_call_list(month, list_size)
        return StageResult(page=False, until=until, call_list=call_list)
    retraining = Retraining(
        as_of=f"{asked.as_of:%Y-%m-%d}",
        since=f"{asked.labels_from:%Y-%m-%d}",
        save_rate=_choose_save_rate(asked),
    )
    return StageResult(page=False, retrain=retraining)


def _choose_save_rate(asked: Decision) -> float | None:
    """Return the save rate that the next version is to assume; None where no offers are made.

    It is what was measured, but not below a rate at which an offer still pays for some customers:
    otherwise there would be no decision to make.
    """
    from churn_utils.registry import versions

    if offer_policy.read_policy() is None:
        return None
    measured = asked.evidence.save_rate
    if measured is None:
        return offer_policy.ASSUMED_SAVE_RATE
    costs = versions.read_version(asked.evidence.champion_version).economics
    least = LEAST_MARGIN * costs.offer_cost_usd / costs.churner_value_usd
    return round(min(max(measured.value, least), 1.0), 2)


def _write_call_list(month: pd.Timestamp, size: int) -> str | None:
    """Write the call list of a month; None when the month was quarantined and is not scored."""
    from churn_utils.inference import batch

    predictions = tables.read("predictions", snapshot_date=month)
    predictions = predictions[predictions["role"] == "champion"].reset_index(drop=True)
    if predictions.empty:
        return None
    retention = batch.build_retention_list(predictions, month, size)
    batch.write_retention_list(retention, month)
    return f"{month:%Y-%m}"
