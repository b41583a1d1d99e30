#!/usr/bin/env python
"""Run the churn notebooks as one pipeline; `run_all.py --help` says how."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from churn_utils import settings
from churn_utils.errors import ChurnError, UsageError
from churn_utils.pipeline import runner, stages
from churn_utils.pipeline import state as run_state

EPILOG = """
exit codes:  0 done (a refused challenger is a result)   1 a stage failed, its executed notebook is kept and named
             2 wrong usage                               3 waiting for approval (--manual-approval)

examples:
  run_all.py                              everything that is not finished yet; a killed run goes on where it stopped
  run_all.py --scenario competitor --home /tmp/competitor    another world, in a home of its own
  run_all.py --months 12                  play on: half a year more
  run_all.py --from 02 -p N_TRIALS=80     search longer and do all that follows
  run_all.py --manual-approval            stop when a challenger has passed its gate
  run_all.py --approve-as 'Ada Lovelace'  go on from there, under that name
  run_all.py --fresh --profile fast       start anew, small and quick
"""


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(
        description="Run the churn notebooks as one pipeline, from features to proven recovery from drift.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--scenario",
        choices=list(stages.SCENARIOS),
        default="price_rise",
        help="what the simulated world does to the customers from month 3 on (default %(default)s)",
    )
    add(
        "--months",
        type=int,
        default=stages.Plan.months,
        metavar="N",
        help="last month that is played, from 2 on; the first champion is trained in month 1 (default %(default)s)",
    )
    add(
        "--seed",
        type=int,
        default=settings.SEED,
        metavar="N",
        help="seed of the simulated world, of search, folds and bootstrap (default %(default)s)",
    )
    add(
        "--profile",
        choices=list(stages.PROFILES),
        default="full",
        help="fast: few trials and draws, for a try (default full)",
    )
    add(
        "--only",
        nargs="+",
        action="extend",
        default=[],
        metavar="STAGE",
        help="run just these stages, finished or not",
    )
    add(
        "--from",
        dest="start",
        metavar="STAGE",
        help="run this stage and all after it, finished or not",
    )
    add(
        "-p",
        dest="parameters",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="set a notebook parameter wherever it occurs; --list shows them",
    )
    approval = parser.add_mutually_exclusive_group()
    approval.add_argument(
        "--approve-as",
        metavar="NAME",
        help="approve every challenger of this call that passes under this name; not the trainer's",
    )
    approval.add_argument(
        "--manual-approval", action="store_true", help="stop with exit code 3 before the approval"
    )
    add(
        "--home",
        type=Path,
        metavar="DIR",
        help="tables, models and state (default: data, or CHURN_HOME)",
    )
    add(
        "--reports",
        type=Path,
        metavar="DIR",
        help="executed notebooks and HTML (default: reports, or CHURN_REPORTS)",
    )
    add(
        "--fresh",
        action="store_true",
        help="delete this home's tables, models and state first; data/raw stays",
    )
    add(
        "--list",
        action="store_true",
        help="draw the stages with their parameters and state, run nothing",
    )
    return parser


def parse_overrides(items: list[str]) -> dict[str, str]:
    """Split ``NAME=VALUE`` items.

    Raises:
        UsageError: an item without ``=``.
    """
    wrong = [item for item in items if "=" not in item]
    if wrong:
        raise UsageError(f"-p takes NAME=VALUE, not {wrong[0]!r}.")
    return dict(item.split("=", 1) for item in items)


def draw_stages(plan: stages.Plan) -> None:
    """Print the stages known so far, what each needs, its parameters, and whether it is finished."""
    held = run_state.read_state()
    timeline = stages.unfold(plan, held)
    notebooks = stages.read_notebooks()
    parameters = stages.resolve_parameters(plan, timeline, notebooks)
    fingerprints = run_state.fingerprint_stages(plan, timeline, parameters, held, notebooks)
    finished = {
        name: e for name, e in held["stages"].items() if e["fingerprint"] == fingerprints.get(name)
    }
    for position, stage in enumerate(timeline):
        mark = (
            f"finished in {finished[stage.name]['seconds']} s"
            if stage.name in finished
            else "to do"
        )
        needs = f"  after {', '.join(stage.needs)}" if stage.needs else ""
        print(f"{'│' if position else ' '}\n● {stage.name}{needs}  [{mark}]")
        helps = notebooks[stage.kind].parameters
        for name, value in parameters[stage.name].items():
            print(f"│     {name} = {value!r}  {helps[name]['help']}")
    print(
        "\nA retraining adds stages of its own, named after its month, when production asks for one."
    )


def run_with_progress(plan: stages.Plan) -> int:
    """Run the plan under a progress bar that names the running stages (lines only where there is no terminal)."""
    from tqdm import tqdm

    with tqdm(
        total=1,
        bar_format="{desc} |{bar:24}| {n_fmt}/{total_fmt} stages, {elapsed}",
        disable=None,
        leave=False,
    ) as bar:

        def watch(running: list[str], done: int, total: int) -> None:
            bar.total, bar.n = total, done
            bar.set_description_str(" + ".join(running) or "reports", refresh=True)

        return runner.run(plan, say=tqdm.write, watch=watch)


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run; returns the exit code."""
    options = build_parser().parse_args(arguments)
    for name, folder in (("CHURN_HOME", options.home), ("CHURN_REPORTS", options.reports)):
        if folder:
            os.environ[name] = str(folder.resolve())
    try:
        plan = stages.Plan(
            scenario=options.scenario,
            months=options.months,
            seed=options.seed,
            profile=options.profile,
            overrides=parse_overrides(options.parameters),
            approver=options.approve_as,
            manual_approval=options.manual_approval,
            fresh=options.fresh,
        )
        timeline = stages.unfold(plan, run_state.NEW if plan.fresh else run_state.read_state())
        plan.only = tuple(stages.find_stage(name, timeline) for name in options.only)
        plan.start = stages.find_stage(options.start, timeline) if options.start else None
        if options.list:
            draw_stages(plan)
            return runner.DONE
        return run_with_progress(plan)
    except UsageError as error:
        print(f"run_all.py: {error}", file=sys.stderr)
        return runner.WRONG_USAGE
    except ChurnError as error:
        print(f"run_all.py: {error}", file=sys.stderr)
        return runner.FAILED


if __name__ == "__main__":
    sys.exit(main())
