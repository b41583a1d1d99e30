"""The notebooks as one parameterised pipeline: choose stages, run them with papermill, resume, report."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from churn_utils import deployments, kernels, reporting, settings
from churn_utils.stages import (
    APPROVAL,
    BATCH,
    GATE,
    NAMES,
    STAGES,
    Plan,
    StageError,
    UsageError,
    fingerprint_stages,
    read_state,
    resolve_parameters,
    write_state,
)

DONE, FAILED, WRONG_USAGE, WAITING = 0, 1, 2, 3
WORKERS = 2  # cores that the design counts on


def choose_stages(plan: Plan, state: dict, fingerprints: dict[str, str], reports: Path) -> list[str]:
    """Stages to execute, in order: those asked for, else those that are not finished as the plan wants them.

    Raises:
        UsageError: ``--only`` names stages whose forerunners have not run.
    """
    finished = {
        name for name, entry in state["stages"].items()
        if entry["fingerprint"] == fingerprints.get(name) and (reports / "notebooks" / f"{name}.ipynb").exists()
    }  # fmt: skip
    if plan.only:
        chosen = [name for name in NAMES if name in plan.only]
        missing = sorted({n for s in STAGES if s.name in chosen for n in s.needs} - finished - set(chosen))
        if missing:
            raise UsageError(
                f"--only {' '.join(chosen)} needs {', '.join(missing)}, which did not run yet; use --from."
            )
        return chosen
    if plan.start:
        finished -= set(NAMES[NAMES.index(plan.start) :])
    stale: set[str] = set()
    for stage in STAGES:
        if stage.name not in finished or stale & set(stage.needs):
            stale.add(stage.name)
    return [name for name in NAMES if name in stale]


def clear_home(plan: Plan, reports: Path) -> None:
    """Delete what runs made in this home and this run's reports; delivered files in ``raw`` stay."""
    for name in ("lakehouse", "mlflow", "optuna", "pipeline"):
        shutil.rmtree(settings.home() / name, ignore_errors=True)
    shutil.rmtree(reports, ignore_errors=True)


def run(
    plan: Plan, say: Callable[[str], None] = print, watch: Callable[[list[str], int, int], None] | None = None
) -> int:
    """Run the pipeline as planned; stages that do not need each other run side by side.

    Args:
        plan: what to do.
        say: called with lines for the user.
        watch: called with the names of the running stages, how many are done, and of how many.

    Returns:
        Exit code: 0 done, 3 waiting for an approval.

    Raises:
        UsageError: the plan does not fit the notebooks or the home (exit code 2).
        StageError: a notebook raised (exit code 1); the message names the executed notebook.
    """
    if plan.approver and plan.approver.strip() == settings.user():
        raise UsageError(f"--approve-as {plan.approver}: a trainer may not approve, and that is who trains here.")
    parameters = resolve_parameters(plan)
    reports = settings.reports() / plan.run
    if plan.fresh:
        clear_home(plan, reports)
    state = read_state()
    if state["world"] not in (None, plan.world):
        raise UsageError(
            f"{settings.home()} holds another world: {state['world']}, asked for {plan.world}. "
            "Use --home DIR for a second one, or --fresh to replace it."
        )
    fingerprints = fingerprint_stages(parameters)
    names = choose_stages(plan, state, fingerprints, reports)
    if not names:
        say(f"Run {plan.run} is finished; nothing to do. Open {reports / 'index.html'} (--fresh runs it anew).")
        return DONE
    held = _hold_for_approval(plan, names)
    names = [name for name in names if name not in held]
    state["world"] = plan.world
    write_state(state)
    _prepare_environment(reports)
    reporting.copy_assets(reports)
    execution = _Execution(plan, parameters, fingerprints, state, reports, say, watch or (lambda *_: None))
    execution.run(names)
    index = reporting.write_index(reports, _executed(reports), {"run": plan.run, **plan.world})
    if held and reporting.read_summary(reports / "notebooks" / f"{GATE}.ipynb").get("gate") == "pass":
        say(
            "Waiting for approval: the challenger passed its gate. Read "
            f"{reports / GATE}.html, then go on with:  run_all.py --approve-as 'YOUR NAME'"
        )
        return WAITING
    if held:
        say("The challenger was refused by its gate; there is nothing to approve.")
        execution.run(held)
        index = reporting.write_index(reports, _executed(reports), {"run": plan.run, **plan.world})
    say(f"Done. Open {index}")
    return DONE


def _hold_for_approval(plan: Plan, names: list[str]) -> list[str]:
    if not plan.manual_approval or APPROVAL not in names:
        return []
    return [name for name in names if name in (APPROVAL, BATCH)]


def _prepare_environment(reports: Path) -> None:
    """Hand this run's folders to the kernels, which inherit the environment."""
    os.environ.update(
        CHURN_HOME=str(settings.home()),
        MLFLOW_DISABLE_TELEMETRY="true",
        DO_NOT_TRACK="true",
        PLOTLY_RENDERER="plotly_mimetype",
        PYDEVD_DISABLE_FILE_VALIDATION="1",
        CHURN_RUN_REPORTS=str(reports),
    )


def _executed(reports: Path) -> list[Path]:
    return [path for name in NAMES if (path := reports / "notebooks" / f"{name}.ipynb").exists()]


@dataclass
class _Execution:
    """One pass over stages with two workers; state is written after each stage, so a killed run can go on."""

    plan: Plan
    parameters: dict[str, dict]
    fingerprints: dict[str, str]
    state: dict
    reports: Path
    say: Callable[[str], None]
    watch: Callable[[list[str], int, int], None]

    def run(self, names: list[str]) -> None:
        """Execute stages as soon as what they need is done; raise the first failure after the others ended."""
        waiting = {stage.name: set(stage.needs) & set(names) for stage in STAGES if stage.name in names}
        running: dict[Future, str] = {}
        exports: list[Future] = []
        failure: Exception | None = None
        done: set[str] = set()
        kernels.use_forked_kernels()
        with ThreadPoolExecutor(WORKERS) as workers, ThreadPoolExecutor(1) as exporter:
            while waiting or running:
                ready = [name for name, needs in waiting.items() if needs <= done]
                for name in ready[: WORKERS - len(running)] if failure is None else []:
                    del waiting[name]
                    if self._is_skipped(name):
                        done.add(name)
                        continue
                    running[workers.submit(self._execute, name)] = name
                self.watch(list(running.values()), len(done), len(names))
                if not running:
                    if failure is not None:
                        break
                    continue
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    name = running.pop(future)
                    if future.exception() is None:
                        done.add(name)
                        exports.append(exporter.submit(self._export, name))
                    else:
                        failure = failure or future.exception()
            self.watch([], len(done), len(names))
            for export in exports:
                export.result()
        if failure is not None:
            raise failure

    def _is_skipped(self, name: str) -> bool:
        """Batch scoring is left out while no challenger has ever passed; a refusal is a result, not a failure."""

        if name != BATCH or deployments.champion_at(settings.as_of_date(self.parameters[name]["AS_OF"])) is not None:
            return False
        self.say(f"{name}: left out, because no model has been promoted yet (the challenger was refused).")
        return True

    def _execute(self, name: str) -> None:
        import papermill

        source = settings.notebooks() / f"{name}.ipynb"
        target = self.reports / "notebooks" / f"{name}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        self.state["stages"].pop(name, None)
        started = time.perf_counter()
        try:
            papermill.execute_notebook(
                str(source), str(target), self.parameters[name], kernel_name="python3", cwd=str(source.parent),
                progress_bar=False, log_output=False,
            )  # fmt: skip
        except papermill.PapermillExecutionError as error:
            raise StageError(
                f"stage {name} failed: {error.ename}: {error.evalue}\nIts executed notebook is kept: {target}"
            ) from error
        seconds = round(time.perf_counter() - started, 2)
        self.state["stages"][name] = {
            "fingerprint": self.fingerprints[name],
            "seconds": seconds,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "parameters": self.parameters[name],
        }
        write_state(self.state)
        self.say(f"{name}  {seconds:.1f} s")

    def _export(self, name: str) -> None:
        entry = self.state["stages"][name]
        facts = {
            "run": self.plan.run,
            "finished": entry["finished"],
            "seconds": entry["seconds"],
            **entry["parameters"],
        }
        reporting.export_notebook(self.reports / "notebooks" / f"{name}.ipynb", self.reports, facts)
