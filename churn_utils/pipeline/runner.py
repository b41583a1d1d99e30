"""The notebooks as one parameterised pipeline: what to run, in which home, up to which approval."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from churn_utils import settings
from churn_utils.data import table_writes
from churn_utils.data.files import delete_folder
from churn_utils.errors import UsageError
from churn_utils.features import offer_policy
from churn_utils.pipeline import outcome
from churn_utils.pipeline.execution import Execution, Watch
from churn_utils.pipeline.gate_result import PASS, read_verdict
from churn_utils.pipeline.parameters import read_notebooks
from churn_utils.pipeline.plan import DONE, WAITING, Acceptance, Plan, Report, describe_call
from churn_utils.pipeline.rewind import invalidate
from churn_utils.pipeline.run_pages import write_pages
from churn_utils.pipeline.schedule import (
    choose_stages,
    list_continued,
    make_schedule,
    next_segment,
)
from churn_utils.pipeline.stages import GATE, name_stage
from churn_utils.pipeline.state import STATE_FILE, RunState, WaitingApproval, hold_home, read_state
from churn_utils.pipeline.temporary_folder import use_own_temporary_folder
from churn_utils.reports.index import RunOutcome
from churn_utils.upstream import intake, months

CLEARING = "pipeline/clearing"  # in a home that was to be cleared and is not yet


def clear_home(reports: Path) -> None:
    """Delete this run's reports and what runs made in this home; delivered files stay.

    The state goes first: a home that is half cleared is no finished run, and the next run sees the
    mark and clears it.
    """
    home = settings.home()
    mark = home / CLEARING
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    (home / STATE_FILE).unlink(missing_ok=True)
    table_writes.delete_all()
    kept = [home / name for name in ("mlflow", "online", "optuna", intake.FOLDER)]
    for folder in (*kept, reports):
        delete_folder(folder)
    (home / "world.json").unlink(missing_ok=True)
    offer_policy.path_of_policy().unlink(missing_ok=True)
    mark.unlink()


def run(
    plan: Plan,
    say: Report = print,
    watch: Watch = lambda progress: None,
) -> int:
    """Run the pipeline as planned and return the exit code: 0 done, 3 waiting for an approval.

    Args:
        plan: what to do; stages that do not need each other run side by side.
        say: called with lines for the user; the last ones say how the run ended.
        watch: called every second and at each change with the progress.

    Raises:
        UsageError: the plan does not fit the notebooks or the home (exit code 2).
        StageError: a stage failed (exit code 1); the message names the executed notebook.
    """
    notebooks = read_notebooks()
    make_schedule(plan, RunState(), notebooks)  # what is wrong in the plan is said first
    with hold_home(), use_own_temporary_folder():
        if (settings.home() / CLEARING).exists():
            plan = replace(plan, fresh=True)
        run_state = RunState() if plan.fresh else read_state()
        if run_state.identity is not None:
            months.check_same(run_state.identity.facts, plan.identity.facts)
        if plan.acceptance is not None:
            _accept_delivery(plan.acceptance, say)
        execution = Execution(plan, run_state, notebooks, say, watch)
        names = choose_stages(plan, execution.schedule, execution.list_finished())
        _check_approves_what_waits(plan, run_state, names)
        if plan.fresh:
            clear_home(execution.reports)
        run_state.identity = plan.identity
        ended = _run_and_write_pages(execution, names)
        return WAITING if ended.status == "waiting" else DONE


def _accept_delivery(acceptance: Acceptance, say: Report) -> None:
    """Record that a person lets a month pass, so that its stage is no longer up to date."""
    from churn_utils.monitoring import accepted_deliveries  # loads the data contract

    say(accepted_deliveries.accept_delivery(**asdict(acceptance)))


def _check_approves_what_waits(plan: Plan, run_state: RunState, names: list[str]) -> None:
    """Refuse an approval by a person whose gate would run again: the page that was read is old."""
    waiting = run_state.waiting
    if waiting is None or waiting.gate not in names:
        return
    if plan.person:
        raise UsageError(
            f"{waiting.gate} waits for approval, and this call would run it again, with another "
            f"result than the page that {plan.person} has read. Go on with:  "
            f"{waiting.call} --approve-as '{plan.person}'  or leave the approval out to run "
            "it again."
        )


def _run_and_write_pages(execution: Execution, names: list[str]) -> RunOutcome:
    """Run stages; write the pages and say how it ended, whatever happens."""
    try:
        ended = _run_stages(execution, names)
    except BaseException as error:
        write_pages(execution, outcome.describe_failure(execution.plan, error))
        raise
    index = write_pages(execution, ended)
    if not names:
        execution.say(
            f"Run {execution.plan.identity.run} is finished; nothing to do "
            "(--fresh runs it from the start)."
        )
    execution.say(f"Pages: {index}")
    for line in outcome.to_lines(ended):
        execution.say(line)
    return ended


def _run_stages(execution: Execution, names: list[str]) -> RunOutcome:
    """Run stages up to an approval that is waited for, or all of them."""
    plan = execution.plan
    continued = list_continued(plan, execution.run_state, execution.notebooks)
    invalidate(plan, execution.run_state, names, execution.reports, continued)
    execution.refresh_schedule()
    while names:
        segment = next_segment(plan, execution.schedule.select(names))
        execution.run(segment.stages)
        if segment.held:
            gate = name_stage(GATE, segment.held[0].month)
            if read_verdict(gate, execution.reports).verdict == PASS:
                return _wait_for_approval(execution, gate)
            execution.say("The challenger was refused by its gate; there is nothing to approve.")
            execution.run(segment.held)
        may_run = set(names)
        names = execution.list_unfinished()  # with what a retraining has added
        if plan.only:
            names = [name for name in names if name in may_run]
    return outcome.describe_finished(execution)


def _wait_for_approval(execution: Execution, gate: str) -> RunOutcome:
    """Remember which gate's page a person is to read, and the command that goes on from there."""
    call = describe_call(execution.plan)
    run_state = execution.run_state
    run_state.waiting = WaitingApproval(gate=gate, call=call)
    run_state.write()
    headline = (
        "Waiting for approval: the challenger passed its gate. "
        f"Read {execution.reports / gate}.html, then go on with:"
    )
    return RunOutcome(headline, "waiting", command=f"{call} --approve-as 'YOUR NAME'")
