"""One pass over the timeline: runs stages, remembers each, and can go on after a kill."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.pipeline import kernels, warm_process
from churn_utils.pipeline.executor import execute_notebook, run_production
from churn_utils.pipeline.parameters import Notebooks
from churn_utils.pipeline.plan import Plan, Report
from churn_utils.pipeline.schedule import executed_path, list_unfinished, make_schedule
from churn_utils.pipeline.scheduler import run_side_by_side
from churn_utils.pipeline.stages import APPROVAL, BATCH, NEEDS_CHAMPION, PRODUCTION, Stage
from churn_utils.pipeline.state import RunState, StageResult, TableVersions
from churn_utils.registry import deployments
from churn_utils.reports import html

LIST_SIZE = 500  # customers of a call list, where notebook 05 has no such parameter


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    running: dict[str, str]  # the cell or month of each stage that runs; empty while it starts
    done: int  # stages
    total: int


Watch = Callable[[Progress], None]


class Execution:
    """The stages of one call: a ``scheduler.Job`` whose state is written after each stage."""

    def __init__(
        self,
        plan: Plan,
        run_state: RunState,
        notebooks: Notebooks,
        say: Report,
        watch: Watch,
    ) -> None:
        """Make the schedule of a plan; ``run_state`` is written as stages finish.

        ``notebooks`` are as they were when the call began: later edits belong to the next run.
        """
        self.plan = plan
        self.run_state = run_state
        self.reports = settings.reports() / plan.identity.run
        self.say = say
        self._watch = watch
        self._places: dict[str, str] = {}  # cell or month of the stages that run
        self.notebooks = notebooks
        self.refresh_schedule()

    def refresh_schedule(self) -> None:
        """Expand the timeline again: production may have ended in a retraining."""
        self.schedule = make_schedule(self.plan, self.run_state, self.notebooks)

    def list_finished(self) -> set[str]:
        """Return the names of the stages that are finished as the plan wants them.

        A stage whose executed notebook is gone is not finished.
        """
        finished = set()
        for name, result in self.run_state.results.items():
            up_to_date = result.fingerprint == self.schedule.fingerprints.get(name)
            has_notebook = executed_path(self.reports, name).exists()
            if up_to_date and (has_notebook or not result.page):
                finished.add(name)
        return finished

    def list_unfinished(self) -> list[str]:
        """Return the names of the stages that are still to run, in order."""
        self.refresh_schedule()
        finished = self.list_finished()
        return list_unfinished(self.schedule, finished)

    def run(self, stages: list[Stage]) -> None:
        """Run stages, each as soon as what it needs is done.

        Raises:
            StageError: the first failure, after the stage beside it has ended.
        """
        if not stages:
            return
        kernels.prepare_environment(self.reports)
        can_fork = kernels.use_forked_kernels()
        isolation = warm_process.offer_isolation() if can_fork else nullcontext()
        tick = partial(self._report_progress, len(stages))
        with isolation, ThreadPoolExecutor(1) as self._exporter:
            run_side_by_side(stages, self, tick)

    def _report_progress(self, total: int, running: list[str], done: int) -> None:
        """Tell the watcher which stages run, and where they are."""
        places = {name: self._places.get(name, "") for name in running}
        self._watch(Progress(places, done, total))

    def begin(self, stage: Stage) -> bool:
        """Note the versions of the tables that a stage changes; False when it is left out.

        A stage that was killed keeps its first note. What needs a champion is left out while no
        challenger has passed its gate yet: a refusal is a result, not a failure.
        """
        if stage.kind in NEEDS_CHAMPION and deployments.champion_at(self.plan.end) is None:
            self.say(
                f"{stage.name} is left out: no model has been promoted yet, "
                "the challenger was refused."
            )
            self._remember(stage, StageResult(page=False))
            return False
        versions: TableVersions = {}
        for table in stage.writes:
            versions[table] = tables.version_of(table) if tables.exists(table) else None
        self.run_state.versions_at_start.setdefault(stage.name, versions)
        self.run_state.write()
        return True

    def execute(self, stage: Stage) -> StageResult:
        """Run a stage and return its result."""
        started = time.perf_counter()
        result = StageResult()
        if stage.kind == PRODUCTION:
            result = self._run_production(stage)
        else:
            parameters = self.schedule.parameters[stage.name]
            target = executed_path(self.reports, stage.name)
            on_cell = partial(self._note_place, stage)
            execute_notebook(stage, parameters, target, on_cell)
        seconds = time.perf_counter() - started
        return result.model_copy(update={"seconds": round(seconds, 2)})

    def _run_production(self, stage: Stage) -> StageResult:
        """Run months of production; each line about one begins with the month."""

        def report(line: str) -> None:
            month, *_ = line.split()
            self._note_place(stage, month)
            self.say(line)

        list_size = self.schedule.parameters[BATCH].get("LIST_SIZE", LIST_SIZE)
        return run_production(stage, self.plan, int(list_size), self.reports, report)

    def _note_place(
        self,
        stage: Stage,
        place: str,
    ) -> None:
        """Note the cell or month that a stage has reached; called by the workers."""
        self._places[stage.name] = place

    def finish(
        self,
        stage: Stage,
        result: StageResult,
    ) -> None:
        """Remember the result of a stage, and export its page beside the next stages."""
        self._remember(stage, result)
        if result.page:
            self._exporter.submit(self.export_page, stage.name)

    def _remember(self, stage: Stage, result: StageResult) -> None:
        """Keep a result under the fingerprint that it has now; an approval ends the waiting."""
        results = self.run_state.results
        results[stage.name] = result
        self.refresh_schedule()  # a retraining that was asked for counts in the fingerprint
        known = {
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "fingerprint": self.schedule.fingerprints[stage.name],
        }
        results[stage.name] = result.model_copy(update=known)
        if stage.kind == APPROVAL:
            self.run_state.waiting = None
        self.run_state.write()
        self.say(f"{stage.name}  {result.seconds:.1f} s")

    def export_page(self, name: str) -> None:
        """Write the page of a stage's executed notebook, with its parameters and duration."""
        result = self.run_state.results.get(name)
        facts = {
            "run": self.plan.identity.run,
            "finished": result.finished if result else "failed",
            "seconds": result.seconds if result else "unknown",
            **self.schedule.parameters[name],
        }
        html.export_notebook(executed_path(self.reports, name), self.reports, facts)
