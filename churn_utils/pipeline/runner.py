"""The notebooks as one parameterised pipeline: what to run, in which home, up to which approval."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

from churn_utils import settings
from churn_utils.errors import UsageError
from churn_utils.pipeline.executor import Execution, choose_stages
from churn_utils.pipeline.stages import (
    APPROVAL,
    GATE,
    Plan,
    read_notebooks,
    resolve_parameters,
    unfold,
)
from churn_utils.pipeline.state import NEW, hold_home, read_state

DONE, FAILED, WRONG_USAGE, WAITING = 0, 1, 2, 3


def clear_home(reports: Path) -> None:
    """Delete what runs made in this home and this run's reports; delivered files in ``raw`` stay."""
    for name in ("lakehouse", "mlflow", "online", "optuna"):
        shutil.rmtree(settings.home() / name, ignore_errors=True)
    for name in ("pipeline/state.json", "world.json"):
        (settings.home() / name).unlink(missing_ok=True)
    shutil.rmtree(reports, ignore_errors=True)


def run(
    plan: Plan,
    say: Callable[[str], None] = print,
    watch: Callable[[list[str], int, int], None] | None = None,
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
    reports = settings.reports() / plan.run
    resolve_parameters(
        plan, unfold(plan, NEW), read_notebooks()
    )  # what is wrong in the plan is said first
    with hold_home():
        state = read_state() if not plan.fresh else deepcopy(NEW)
        if state["world"] not in (None, plan.world):
            raise UsageError(
                f"{settings.home()} holds another world: {state['world']}, asked for {plan.world}. "
                "Use --home DIR for a second one, or --fresh to replace it."
            )
        execution = Execution(plan, state, reports, say, watch or (lambda *_: None))
        names = choose_stages(plan, state, execution.timeline, execution.fingerprints, reports)
        _check_approves_what_waits(plan, state, names)
        if plan.fresh:
            clear_home(reports)
        state["world"] = plan.world
        return _run_stages(execution, names)


def _check_approves_what_waits(plan: Plan, state: dict, names: list[str]) -> None:
    """Refuse to approve under a person's name what would be made anew first: nobody has read that page."""
    waiting, person = state.get("waiting"), plan.approver or (plan.overrides or {}).get("APPROVER")
    if person and waiting and waiting["gate"] in names:
        raise UsageError(
            f"{waiting['gate']} waits for approval, and this call would run it again, with another result than the "
            f"page that {person} has read. Go on with:  {waiting['call']} --approve-as '{person}'  or leave "
            "the approval out to run it anew."
        )


def _describe_call(plan: Plan) -> str:
    """The command that goes on with a plan: what it asked for, without what is done by now."""
    words = ["run_all.py"]
    for name in ("scenario", "months", "seed", "profile"):
        if getattr(plan, name) != getattr(Plan, name):
            words += [f"--{name}", str(getattr(plan, name))]
    if plan.overrides:
        words += ["-p", *(f"{name}={value}" for name, value in plan.overrides.items())]
    for option, folder, usual in (
        ("--home", settings.home(), "data"),
        ("--reports", settings.reports(), "reports"),
    ):
        words += [option, str(folder)] if folder != settings.PROJECT / usual else []
    return shlex.join(words)


def _run_stages(execution: Execution, names: list[str]) -> int:
    """Run stages up to an approval that is waited for, or all of them; write the pages in any case."""
    asked = bool(names)
    try:
        execution.forget(names)
        while names:
            segment, held = execution.cut(names)
            execution.run(segment)
            if held and execution.gate_verdict(held[0]) == "pass":
                gate = held[0].replace(APPROVAL, GATE)
                call = _describe_call(execution.plan)
                execution.wait_for_approval(gate, call)
                execution.say(
                    f"Waiting for approval: the challenger passed its gate. Read {execution.reports / gate}.html, then "
                    f"go on with:  {call} --approve-as 'YOUR NAME'"
                )
                return WAITING
            if held:
                execution.say(
                    "The challenger was refused by its gate; there is nothing to approve."
                )
                execution.run(held)
            names = execution.unfinished(names)
    finally:
        index = execution.write_pages()
    if asked:
        execution.say(f"Done. Open {index}")
    else:
        execution.say(
            f"Run {execution.plan.run} is finished; nothing to do. Open {index} (--fresh runs it anew)."
        )
    return DONE
