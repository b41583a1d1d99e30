"""Run stages side by side, each as soon as the stages that it needs are finished."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter
from typing import Protocol

from churn_utils.pipeline.stages import Stage
from churn_utils.pipeline.state import StageResult

WORKERS = 2  # cores that the design counts on
TICK_SECONDS = 1.0
Running = dict[Future[StageResult], Stage]


class Job(Protocol):
    """What is done with a stage. All but ``execute`` is called by the scheduler's own thread."""

    def begin(self, stage: Stage) -> bool:
        """Prepare a stage; False when it is left out."""
        ...

    def execute(self, stage: Stage) -> StageResult:
        """Run a stage, in a worker's thread."""
        ...

    def finish(self, stage: Stage, result: StageResult) -> None:
        """Record the result of a stage that ran."""
        ...


class ReadyStages:
    """The stages that may start, in order: those of which all needs are finished."""

    def __init__(self, stages: list[Stage]) -> None:
        """Sort the stages; needs that are not among them count as finished."""
        self._stages = {stage.name: stage for stage in stages}
        self._ready: list[str] = []
        self.finished = 0
        self._sorter: TopologicalSorter[str] = TopologicalSorter()
        for stage in stages:
            needs = [name for name in stage.needs if name in self._stages]
            self._sorter.add(stage.name, *needs)
        self._sorter.prepare()

    def take(self) -> Stage | None:
        """Return the next stage that may start, or None while there is none."""
        self._ready += self._sorter.get_ready()
        for name, stage in self._stages.items():
            if name in self._ready:
                self._ready.remove(name)
                return stage
        return None

    def finish(self, stage: Stage) -> None:
        """Note that a stage is finished, so that those that need it may start."""
        self._sorter.done(stage.name)
        self.finished += 1


def run_side_by_side(stages: list[Stage], job: Job, tick: Callable[[list[str], int], None]) -> None:
    """Run stages with two workers, in their order; after a failure no further stage starts.

    Args:
        stages: those that are ready start in this order.
        job: what is done with each.
        tick: called every second and at each change: running stages, number of those done.

    Raises:
        Exception: the first that ``job.execute`` raised, after the other stage has ended.
    """
    ready = ReadyStages(stages)
    running: Running = {}
    failures: list[BaseException] = []
    with ThreadPoolExecutor(WORKERS) as workers:
        while True:
            if not failures:
                _start_stages(ready, running, job, workers)
            tick([stage.name for stage in running.values()], ready.finished)
            if not running:
                break
            ended, _ = wait(running, timeout=TICK_SECONDS, return_when=FIRST_COMPLETED)
            for future in ended:
                stage = running.pop(future)
                if error := future.exception():
                    failures.append(error)
                    continue
                job.finish(stage, future.result())
                ready.finish(stage)
    if failures:
        raise failures[0]


def _start_stages(
    ready: ReadyStages,
    running: Running,
    job: Job,
    workers: ThreadPoolExecutor,
) -> None:
    """Start stages until both workers are busy or no stage is ready."""
    while len(running) < WORKERS and (stage := ready.take()):
        if job.begin(stage):
            running[workers.submit(job.execute, stage)] = stage
        else:
            ready.finish(stage)
