"""Run the stages of a timeline: side by side where they may, remembered one by one, back in time when repeated."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.errors import StageError, UsageError
from churn_utils.pipeline import kernels
from churn_utils.pipeline.stages import (
    APPROVAL,
    BATCH,
    DRIFT,
    GATE,
    MONITORING,
    MOST_MONTHS,
    PRODUCTION,
    SERVING,
    Plan,
    Stage,
    read_notebooks,
    resolve_parameters,
    unfold,
)
from churn_utils.pipeline.state import fingerprint_stages, write_state
from churn_utils.registry import deployments
from churn_utils.reports import html

WORKERS = 2  # cores that the design counts on


def choose_stages(
    plan: Plan, state: dict, timeline: list[Stage], fingerprints: dict, reports: Path
) -> list[str]:
    """Stages to execute, in order: those asked for, else those that are not finished as the plan wants them.

    Raises:
        UsageError: ``--only`` names stages whose forerunners have not run.
    """
    names = [stage.name for stage in timeline]
    finished = {
        name
        for name, entry in state["stages"].items()
        if entry["fingerprint"] == fingerprints.get(name)
        and (entry.get("page") is False or _executed_path(reports, name).exists())
    }
    if plan.only:
        chosen = [stage.name for stage in timeline if stage.name in plan.only]
        if any(stage.kind == PRODUCTION for stage in timeline if stage.name in chosen):
            raise UsageError(
                "months cannot be played alone: what they ask for comes after them; use --from production."
            )
        missing = sorted(
            {n for s in timeline if s.name in chosen for n in s.needs} - finished - set(chosen)
        )
        if missing:
            raise UsageError(
                f"--only {' '.join(chosen)} needs {', '.join(missing)}, which did not run yet, or not with these "
                "parameters; use --from."
            )
        return chosen
    if plan.start:
        finished -= set(names[names.index(plan.start) :])
    stale: set[str] = set()
    for stage in timeline:
        if stage.name not in finished or stale & set(stage.needs):
            stale.add(stage.name)
    return [name for name in names if name in stale]


def _executed_path(reports: Path, name: str) -> Path:
    return reports / "notebooks" / f"{name}.ipynb"


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


@dataclass
class Execution:
    """One pass over the timeline with two workers; state is written after each stage, so a killed run can go on."""

    plan: Plan
    state: dict
    reports: Path
    say: Callable[[str], None]
    watch: Callable[[list[str], int, int], None]

    def __post_init__(self) -> None:
        """Read the notebooks once: what is edited from here on belongs to the next run."""
        self.notebooks = read_notebooks()
        self.unfold()

    def unfold(self) -> None:
        """Learn the timeline from the state, which knows where months of production ended in a retraining."""
        self.timeline = unfold(self.plan, self.state)
        self.parameters = resolve_parameters(self.plan, self.timeline, self.notebooks)
        self.fingerprints = fingerprint_stages(
            self.plan, self.timeline, self.parameters, self.state, self.notebooks
        )

    def cut(self, names: list[str]) -> tuple[list[str], list[str]]:
        """Stages to run now, up to the next months of production, and those among them that wait for an approval."""
        stages = [stage for stage in self.timeline if stage.name in names]
        ends = [position for position, stage in enumerate(stages) if stage.kind == PRODUCTION]
        stages = stages[: ends[0] + 1] if ends else stages
        held: list[str] = []
        for stage in stages:
            if self.plan.manual_approval and (
                stage.kind == APPROVAL or set(stage.needs) & set(held)
            ):
                held.append(stage.name)
        return [stage.name for stage in stages if stage.name not in held], held

    def unfinished(self, names: list[str]) -> list[str]:
        """Of the stages that were chosen those still to run; with the whole timeline chosen, what unfolded since."""
        self.unfold()
        left = choose_stages(
            replace(self.plan, only=(), start=None),
            self.state,
            self.timeline,
            self.fingerprints,
            self.reports,
        )
        return [name for name in left if name in names] if self.plan.only else left

    def run(self, names: list[str]) -> None:
        """Execute stages as soon as what they need is done; raise the first failure after the others ended."""
        if not names:
            return
        _prepare_environment(self.reports)
        offered = kernels.offer_isolation() if kernels.use_forked_kernels() else nullcontext()
        waiting = {
            stage.name: set(stage.needs) & set(names)
            for stage in self.timeline
            if stage.name in names
        }
        running: dict[Future, str] = {}
        failures: list[BaseException] = []
        with offered, ThreadPoolExecutor(WORKERS) as workers, ThreadPoolExecutor(1) as exporter:
            while running or (waiting and not failures):
                ready = [
                    name
                    for name, needs in waiting.items()
                    if not needs & {*waiting, *running.values()}
                ]
                for name in ready[: WORKERS - len(running)] if not failures else []:
                    del waiting[name]
                    stage = next(stage for stage in self.timeline if stage.name == name)
                    if not self._leave_out(stage):
                        self._begin(stage)
                        running[workers.submit(self._execute, stage)] = name
                self.watch(
                    list(running.values()), len(names) - len(waiting) - len(running), len(names)
                )
                finished, _ = wait(running, return_when=FIRST_COMPLETED) if running else ((), ())
                for future in finished:
                    name = running.pop(future)
                    if future.exception() is None:
                        self._remember(name, future.result())
                        if future.result().get("page", True):
                            exporter.submit(self._export, name)
                    else:
                        failures.append(future.exception())
            self.watch([], len(names) - len(waiting), len(names))
        if failures:
            raise failures[0]

    def forget(self, names: list[str]) -> None:
        """Strike stages, and those that need them, from the state, and take the tables back to before they began.

        Simulated time goes back with them: what a later month wrote must not be there when it is played again. Stages
        that were killed go on instead; ``--only`` takes the home as it is, and what needs the stage becomes stale.
        """
        struck, before = set(names), dict(self.state["rewind"])
        for stage in unfold(
            replace(self.plan, months=MOST_MONTHS), self.state
        ):  # what lies beyond --months as well
            if struck & set(stage.needs):
                struck.add(stage.name)
            if stage.name not in struck:
                continue
            entry = self.state["stages"].get(stage.name)
            if self.plan.only:
                if entry:
                    entry["fingerprint"] = "stale"
                continue
            killed = (
                entry is None and stage.name != self.plan.start and not struck & set(stage.needs)
            )
            self.state["stages"].pop(stage.name, None)
            if not killed:
                before = self.state["began"].pop(stage.name, {}) | before
                self._remove_pages(stage)
        self._rewind(before)
        self.unfold()

    def _rewind(self, before: dict[str, int | None]) -> None:
        """Take tables back; the state knows of it first, so that whoever is killed in the midst goes on with it."""
        self.state["rewind"] = before
        write_state(self.state)
        if "deployments" in before:
            deployments.record_rewind(before["deployments"])
        for table, version in before.items():
            tables.rewind(table, version)
        if "deployments" in before:
            deployments.realign_champion()
        self.state["rewind"] = {}
        write_state(self.state)

    def _remove_pages(self, stage: Stage) -> None:
        """What is taken back must not pose as the present, and the next retraining may come in another month."""
        _executed_path(self.reports, stage.name).unlink(missing_ok=True)
        (self.reports / f"{stage.name}.html").unlink(missing_ok=True)
        if stage.kind == BATCH:
            month = dict(stage.parameters).get("SNAPSHOT", "2025-02")[:7]
            (self.reports / f"retention_list_{month}.csv").unlink(missing_ok=True)

    def _begin(self, stage: Stage) -> None:
        """Note what the stage's tables held before it; one that was killed keeps its first note."""
        versions = {
            table: tables.version_of(table) if tables.exists(table) else None
            for table in stage.writes
        }
        self.state["began"].setdefault(stage.name, versions)
        write_state(self.state)

    def _remember(self, name: str, entry: dict) -> None:
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        self.state["stages"][name] = {"finished": finished, **entry}
        self.unfold()
        self.state["stages"][name]["fingerprint"] = self.fingerprints[name]
        if name.startswith(APPROVAL):
            self.state.pop("waiting", None)
        write_state(self.state)
        self.say(f"{name}  {entry['seconds']:.1f} s")

    def _leave_out(self, stage: Stage) -> bool:
        """Leave out what needs a champion while no challenger has ever passed; a refusal is a result, not a failure."""
        if stage.name not in (
            BATCH,
            SERVING,
            PRODUCTION,
            MONITORING,
            DRIFT,
        ) or deployments.champion_at(self.plan.end):
            return False
        self.say(
            f"{stage.name} is left out: no model has been promoted yet, the challenger was refused."
        )
        self._remember(stage.name, {"seconds": 0.0, "page": False})
        return True

    def _execute(self, stage: Stage) -> dict:
        """Run a stage and return what the state is to remember of it."""
        started = time.perf_counter()
        found = self._play(stage) if stage.kind == PRODUCTION else self._execute_notebook(stage)
        return {"seconds": round(time.perf_counter() - started, 2), **found}

    def _play(self, stage: Stage) -> dict:
        """Play months of production; remember where they ask for a retraining."""
        world = (f"{self.plan.end:%Y-%m-%d}", self.plan.scenario, self.plan.seed)
        try:
            asked = kernels.call_in_warm_process(
                "churn_utils.monitoring.monthly_cycle:play_run", *world, report=self.say
            )
        except Exception as error:
            kept = self.reports / f"{stage.name}_failed.txt"
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(
                "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])
            )
            what = f"{type(error).__name__}: {error}"
            raise StageError(
                f"stage {stage.name} failed: {what}\nWhere it was raised is kept: {kept}"
            ) from error
        return {"page": False, "retrain": asked}

    def _execute_notebook(self, stage: Stage) -> dict:
        import papermill

        source = settings.notebooks() / f"{stage.kind}.ipynb"
        target = _executed_path(self.reports, stage.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with kernels.open_channels() as config:
                papermill.execute_notebook(
                    str(source),
                    str(target),
                    self.parameters[stage.name],
                    kernel_name="python3",
                    cwd=str(source.parent),
                    progress_bar=False,
                    log_output=False,
                    config=config,
                )
        except papermill.PapermillExecutionError as error:
            what = f"{error.ename}: {error.evalue}"
            raise StageError(
                f"stage {stage.name} failed: {what}\nIts executed notebook is kept: {target}"
            ) from error
        except Exception as error:  # a kernel that died, a disk that is full: say in which stage
            what = f"{type(error).__name__}: {error}"
            raise StageError(
                f"stage {stage.name} failed: {what}\nWhat was executed is kept: {target}"
            ) from error
        return {}

    def wait_for_approval(self, gate: str, call: str) -> None:
        """Remember which gate's page somebody is to read, and the command that goes on from there."""
        self.state["waiting"] = {"gate": gate, "call": call}
        write_state(self.state)

    def gate_verdict(self, approval: str) -> str | None:
        """Verdict that the gate before an approval ended with."""
        return html.read_summary(
            _executed_path(self.reports, approval.replace(APPROVAL, GATE))
        ).get("gate")

    def write_pages(self) -> Path:
        """Export every executed notebook that has no page of its own age, then the index; return its path."""
        executed = [
            path
            for stage in self.timeline
            if (path := _executed_path(self.reports, stage.name)).exists()
        ]
        for notebook in executed:
            page = self.reports / f"{notebook.stem}.html"
            if not page.exists() or page.stat().st_mtime < notebook.stat().st_mtime:
                self._export(notebook.stem)
        html.copy_assets(self.reports)
        return html.write_index(self.reports, executed, {"run": self.plan.run, **self.plan.world})

    def _export(self, name: str) -> None:
        entry = self.state["stages"].get(name, {"finished": "failed", "seconds": "unknown"})
        facts = {"run": self.plan.run, "finished": entry["finished"], "seconds": entry["seconds"]}
        html.export_notebook(
            _executed_path(self.reports, name), self.reports, {**facts, **self.parameters[name]}
        )
