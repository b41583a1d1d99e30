"""Execute one stage: a notebook by papermill, or months of production in the warm process."""

from __future__ import annotations

from pathlib import Path

from churn_utils import settings
from churn_utils.errors import StageError
from churn_utils.pipeline import kernels, warm_process
from churn_utils.pipeline.plan import Plan, Report, Values
from churn_utils.pipeline.stages import Stage
from churn_utils.pipeline.state import Retraining


def execute_notebook(stage: Stage, parameters: Values, target: Path, on_cell: Report) -> None:
    """Execute the notebook of a stage.

    Args:
        stage: names the notebook.
        parameters: by name, injected behind the notebook's own.
        target: file of the executed notebook; it is kept when a cell raises.
        on_cell: called with the place of each cell that starts, such as ``cell 9``.

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
    stage: Stage, plan: Plan, list_size: int, reports: Path, report: Report
) -> tuple[Retraining | None, str | None]:
    """Run months of production up to the plan's end, or to one that asks for a retraining.

    Args:
        stage: names the months in messages.
        plan: with their end, scenario and seed.
        list_size: customers of the last month's call list.
        reports: folder that keeps where an error was raised.
        report: called with a line for each month.

    Returns:
        The retraining that was asked for, or None; and the month whose call list was written, or
        None.

    Raises:
        StageError: a month failed; the message names the stage and the file with the traceback.
    """
    try:
        return warm_process.call_in_warm_process(
            "churn_utils.pipeline.production:run_months_and_list",
            f"{plan.end:%Y-%m-%d}",
            plan.scenario,
            plan.seed,
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
