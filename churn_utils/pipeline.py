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
    hold_home,
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
        if entry["fingerprint"] == fingerprints.get(name)
        and (entry.get("skipped") or (reports / "notebooks" / f"{name}.ipynb").exists())
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


def clear_home(reports: Path) -> None:
    """Delete what runs made in this home and this run's reports; delivered files in ``raw`` stay."""
    for name in ("lakehouse", "mlflow", "optuna"):
        shutil.rmtree(settings.home() / name, ignore_errors=True)
    (settings.home() / "pipeline" / "state.json").unlink(missing_ok=True)
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
    parameters = resolve_parameters(plan)
    fingerprints = fingerprint_stages(parameters)
    reports = settings.reports() / plan.run
    with hold_home():
        state = read_state() if not plan.fresh else {"world": None, "stages": {}}
        if state["world"] not in (None, plan.world):
            raise UsageError(
                f"{settings.home()} holds another world: {state['world']}, asked for {plan.world}. "
                "Use --home DIR for a second one, or --fresh to replace it."
            )
        names = choose_stages(plan, state, fingerprints, reports)
        if plan.fresh:
            clear_home(reports)
        state["world"] = plan.world
        execution = _Execution(plan, parameters, fingerprints, state, reports, say, watch or (lambda *_: None))
        return _run_stages(execution, names)


def _run_stages(execution: _Execution, names: list[str]) -> int:
    """Run stages up to an approval that is waited for, or all of them; write the pages in any case."""
    plan, say, reports = execution.plan, execution.say, execution.reports
    held = [name for name in names if plan.manual_approval and APPROVAL in names and name in (APPROVAL, BATCH)]
    try:
        execution.run([name for name in names if name not in held])
        if held and execution.gate_verdict() == "pass":
            say(
                "Waiting for approval: the challenger passed its gate. Read "
                f"{reports / GATE}.html, then go on with:  run_all.py --approve-as 'YOUR NAME'"
            )
            return WAITING
        if held:
            say("The challenger was refused by its gate; there is nothing to approve.")
            execution.run(held)
    finally:
        index = execution.write_pages()
    if names:
        say(f"Done. Open {index}")
    else:
        say(f"Run {plan.run} is finished; nothing to do. Open {index} (--fresh runs it anew).")
    return DONE


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
        if not names:
            return
        self._forget(names)
        _prepare_environment(self.reports)
        kernels.use_forked_kernels()
        waiting = {stage.name: set(stage.needs) & set(names) for stage in STAGES if stage.name in names}
        running: dict[Future, str] = {}
        failures: list[BaseException] = []
        with ThreadPoolExecutor(WORKERS) as workers, ThreadPoolExecutor(1) as exporter:
            while running or (waiting and not failures):
                ready = [name for name, needs in waiting.items() if not needs & {*waiting, *running.values()}]
                for name in ready[: WORKERS - len(running)] if not failures else []:
                    del waiting[name]
                    if not self._leave_out(name):
                        running[workers.submit(self._execute, name)] = name
                self.watch(list(running.values()), len(names) - len(waiting) - len(running), len(names))
                finished, _ = wait(running, return_when=FIRST_COMPLETED) if running else ((), ())
                for future in finished:
                    name = running.pop(future)
                    if future.exception() is None:
                        self._remember(name, {"seconds": future.result()})
                        exporter.submit(self._export, name)
                    else:
                        failures.append(future.exception())
            self.watch([], len(names) - len(waiting), len(names))
        if failures:
            raise failures[0]

    def _forget(self, names: list[str]) -> None:
        """Strike stages, and those that need them, from the state before any of them changes what it left behind."""
        struck = set(names)
        for stage in STAGES:
            if stage.name in struck or struck & set(stage.needs):
                struck.add(stage.name)
                self.state["stages"].pop(stage.name, None)
        write_state(self.state)

    def _remember(self, name: str, entry: dict) -> None:
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        self.state["stages"][name] = {"fingerprint": self.fingerprints[name], "finished": finished, **entry}
        write_state(self.state)
        self.say(f"{name}  {entry['seconds']:.1f} s")

    def _leave_out(self, name: str) -> bool:
        """Leave batch scoring out while no challenger has ever passed; a refusal is a result, not a failure."""
        if name != BATCH or deployments.champion_at(settings.as_of_date(self.parameters[name]["AS_OF"])) is not None:
            return False
        self.say(f"{name} is left out: no model has been promoted yet, the challenger was refused.")
        self._remember(name, {"seconds": 0.0, "skipped": True})
        return True

    def _execute(self, name: str) -> float:
        """Execute a notebook and return the seconds it took."""
        import papermill

        source = settings.notebooks() / f"{name}.ipynb"
        target = self.reports / "notebooks" / f"{name}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        try:
            papermill.execute_notebook(
                str(source), str(target), self.parameters[name], kernel_name="python3", cwd=str(source.parent),
                progress_bar=False, log_output=False,
            )  # fmt: skip
        except papermill.PapermillExecutionError as error:
            what = f"{error.ename}: {error.evalue}"
            raise StageError(f"stage {name} failed: {what}\nIts executed notebook is kept: {target}") from error
        except Exception as error:  # a kernel that died, a disk that is full: say in which stage
            what = f"{type(error).__name__}: {error}"
            raise StageError(f"stage {name} failed: {what}\nWhat was executed is kept: {target}") from error
        return round(time.perf_counter() - started, 2)

    def gate_verdict(self) -> str | None:
        """Verdict that the executed gate notebook ended with."""
        return reporting.read_summary(self.reports / "notebooks" / f"{GATE}.ipynb").get("gate")

    def write_pages(self) -> Path:
        """Export every executed notebook that has no page of its own age, then the index; return its path."""
        for name in NAMES:
            notebook, page = self.reports / "notebooks" / f"{name}.ipynb", self.reports / f"{name}.html"
            if notebook.exists() and (not page.exists() or page.stat().st_mtime < notebook.stat().st_mtime):
                self._export(name)
        reporting.copy_assets(self.reports)
        executed = [path for name in NAMES if (path := self.reports / "notebooks" / f"{name}.ipynb").exists()]
        return reporting.write_index(self.reports, executed, {"run": self.plan.run, **self.plan.world})

    def _export(self, name: str) -> None:
        entry = self.state["stages"].get(name, {"finished": "failed", "seconds": "unknown"})
        facts = {"run": self.plan.run, "finished": entry["finished"], "seconds": entry["seconds"]}
        notebook = self.reports / "notebooks" / f"{name}.ipynb"
        reporting.export_notebook(notebook, self.reports, {**facts, **self.parameters[name]})
