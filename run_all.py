#!/usr/bin/env python
"""Run the churn notebooks as one pipeline; `run_all.py --help` says how."""

from __future__ import annotations

import shlex
import sys

from churn_utils.pipeline.stopping import ending, stop_on_signals

if __name__ == "__main__":  # before the imports below, which take seconds
    stop_on_signals(shlex.join(["run_all.py", *sys.argv[1:]]))

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from churn_utils import causes
from churn_utils.errors import ChurnError, UsageError
from churn_utils.features import offer_policy
from churn_utils.pipeline.parameters import read_notebooks
from churn_utils.pipeline.plan import (
    DONE,
    FAILED,
    PROFILES,
    WRONG_USAGE,
    Acceptance,
    Plan,
    describe_call,
)
from churn_utils.pipeline.schedule import make_schedule
from churn_utils.pipeline.stages import expand_timeline, find_stage
from churn_utils.pipeline.state import RunState, read_state
from churn_utils.simulation.scenarios import SCENARIOS
from churn_utils.upstream import months

if TYPE_CHECKING:
    from churn_utils.pipeline.execution import Progress

DESCRIPTION = """\
Run the churn notebooks as one pipeline: features, search, registry, gate, approval, batch
inference, serving, monitoring, drift detection, retraining, and the recovery that it brought.
"""
EPILOG = """\
exit codes:
  0  done, or waiting for the next month of --deliveries; a refused challenger is a result
  1  a stage failed; its executed notebook is kept and named
  2  wrong usage
  3  waiting for approval (--manual-approval)
  130, 143  stopped by Ctrl-C or SIGTERM; the same call goes on

examples:
  run_all.py                              run what is not finished; a killed run goes on
  run_all.py --scenario competitor --home /tmp/competitor
                                          another scenario, in a home of its own
  run_all.py --months 12                  go on: half a year more
  run_all.py --from 02 -p N_TRIALS=80     search longer and run all that follows
  run_all.py --only 05 07                 run two stages again, with the home as it is
  run_all.py --manual-approval            stop when a challenger has passed its gate
  run_all.py --approve-as 'Ada Lovelace'  go on from there, under that name
  run_all.py --deliveries /srv/months --home /srv/churn
                                          your own months, one folder each (docs/own-data.md);
                                          it ends with the month that it waits for, and the same
                                          call goes on when that has come
  run_all.py --accept-delivery 2025-04 --by 'Ada Lovelace' --reason 'half was sold'
                                          let a month pass that was held back, and go on
  run_all.py --offers made --home /tmp/offers
                                          offers are really made (docs/offers.md)
  run_all.py --fresh --profile fast       start again with an empty home, small and quick
"""


DEFAULT = "(default %(default)s)"
# argparse and not typer: an option of typer takes one value each time, but --only 05 07 and
# -p A=1 B=2, which are documented, take several.
SEVERAL: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
FLAG: dict[str, Any] = {"action": "store_true"}


OFFER_MODES = (offer_policy.NONE, offer_policy.MADE)


class NothingToRun(Exception):
    """The months that a run needs have not come yet; the message says which."""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_run_options(parser.add_argument_group("what is run"))
    which = parser.add_argument_group("which stages")
    text = "run just these stages, finished or not"
    which.add_argument("--only", metavar="STAGE", help=text, **SEVERAL)
    text = "run this stage and all after it, finished or not"
    which.add_argument("--from", metavar="STAGE", dest="start", help=text)
    text = "show the stages with their parameters and state, run nothing"
    which.add_argument("--list", help=text, **FLAG)
    group = parser.add_argument_group("who approves (a named policy, unless one is given)")
    approval = group.add_mutually_exclusive_group()
    text = "approve every challenger of this call that passes its gate under this name, "
    text += "which may not be the trainer's"
    approval.add_argument("--approve-as", metavar="NAME", help=text)
    text = "stop with exit code 3 before the approval"
    approval.add_argument("--manual-approval", help=text, **FLAG)
    let_pass = parser.add_argument_group("a delivery that was held back")
    text = "let this month pass (such as 2025-04) and run it and the months after it again"
    let_pass.add_argument("--accept-delivery", metavar="MONTH", help=text)
    let_pass.add_argument("--by", metavar="NAME", default="", help="who decides it, for the record")
    let_pass.add_argument("--reason", metavar="TEXT", default="", help="why, for the record")
    where = parser.add_argument_group("where")
    text = "tables, models and state (default: data, or CHURN_HOME)"
    where.add_argument("--home", type=Path, metavar="DIR", help=text)
    text = "executed notebooks and HTML (default: reports, or CHURN_REPORTS)"
    where.add_argument("--reports", type=Path, metavar="DIR", help=text)
    text = "first delete the tables, models and state of this home; data/raw stays"
    where.add_argument("--fresh", help=text, **FLAG)
    return parser


def _add_run_options(group: argparse._ArgumentGroup) -> None:
    """Add the options that say what a run is; their defaults are those of ``Plan``."""
    text = "run the months in this folder instead of simulated ones, as many as are there: "
    text += "DIR/2026-01/customers.csv, and labels.csv a month later (docs/own-data.md)"
    group.add_argument("--deliveries", type=Path, metavar="DIR", help=text)
    text = "what happens to the simulated customers from month 3 on "
    text += f"(default {Plan.scenario})"
    group.add_argument("--scenario", choices=list(SCENARIOS), help=text)
    text = "last simulated month, at least 2; the first champion is trained in month 1 "
    text += f"(default {Plan.months})"
    group.add_argument("--months", type=int, metavar="N", help=text)
    text = f"seed of simulation, search, folds and bootstrap {DEFAULT}"
    group.add_argument("--seed", type=int, metavar="N", default=Plan.seed, help=text)
    text = f"fast: few trials and bootstrap draws, for a try {DEFAULT}"
    group.add_argument("--profile", choices=list(PROFILES), default=Plan.profile, help=text)
    text = "made: carry the decisions out, apart from a control group, and learn from who got no "
    text += f"offer; none: no customer gets an offer (docs/offers.md) {DEFAULT}"
    group.add_argument("--offers", choices=OFFER_MODES, default=Plan.offers, help=text)
    text = "with --offers made: share of the selected customers who get none, so that it can be "
    text += f"measured what offers achieve {DEFAULT}"
    share = {"type": float, "metavar": "X", "default": Plan.control_share}
    group.add_argument("--control-share", help=text, **share)
    text = "set notebook parameters wherever they occur; --list shows them"
    group.add_argument("-p", dest="parameters", metavar="NAME=VALUE", help=text, **SEVERAL)


def parse_overrides(items: list[str]) -> dict[str, str]:
    """Split items ``NAME=VALUE``; return value by name.

    Raises:
        UsageError: an item without ``=``.
    """
    overrides = {}
    for item in items:
        name, sign, value = item.partition("=")
        if not sign:
            raise UsageError(f"-p takes NAME=VALUE, not {item!r}.")
        overrides[name] = value
    return overrides


def find_acceptance(options: argparse.Namespace) -> Acceptance | None:
    """Return the delivery that the options let pass, or None.

    Raises:
        UsageError: a name or reason without a delivery, or a call in which it has no effect.
    """
    if not options.accept_delivery:
        if options.by or options.reason:
            raise UsageError("--by and --reason belong to --accept-delivery MONTH.")
        return None
    if options.fresh or options.list or options.only:
        raise UsageError("--accept-delivery does not go with --fresh, --list or --only.")
    return Acceptance(options.accept_delivery, options.by, options.reason)


def choose_months(options: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of the plan that say which months are run.

    Raises:
        UsageError: options of the simulation beside a folder of deliveries, or a folder that is
            refused (``months.open_source``).
        NothingToRun: the folder has not got the two months that a first model needs.
    """
    if options.deliveries is None:
        scenario = options.scenario or Plan.scenario
        last = Plan.months if options.months is None else options.months
        return {"scenario": scenario, "months": last}
    if options.scenario or options.months is not None:
        raise UsageError(
            "--scenario and --months are of the simulation; with --deliveries all months in the "
            "folder are run."
        )
    folder = str(options.deliveries.resolve())
    source = months.open_source("", 0, folder, options.fresh)
    first = months.first_month(source)
    available = months.find_available(source, options.fresh)
    number = 0 if available.last is None else len(pd.date_range(first, available.last, freq="MS"))
    if number < 2:
        raise NothingToRun(
            f"waiting for {available.waiting}. The first model is trained once two months of "
            "customers and the labels of the first are there."
        )
    waiting = available.waiting
    return {
        "deliveries": folder,
        "first_month": first,
        "months": number - 1,
        "waiting_for": waiting,
    }


def make_plan(options: argparse.Namespace) -> Plan:
    """Turn the options of the command line into a plan.

    Raises:
        UsageError: a stage that does not exist in this home, or a number out of range.
    """
    plan = Plan(
        **choose_months(options),
        seed=options.seed,
        profile=options.profile,
        overrides=parse_overrides(options.parameters),
        approver=options.approve_as,
        manual_approval=options.manual_approval,
        fresh=options.fresh,
        acceptance=find_acceptance(options),
        offers=options.offers,
        control_share=options.control_share,
    )
    timeline = expand_timeline(plan, RunState() if plan.fresh else read_state())
    only = tuple(find_stage(text, timeline) for text in options.only)
    start = find_stage(options.start, timeline) if options.start else None
    return replace(plan, only=only, start=start)


def show_stages(plan: Plan) -> None:
    """Print the stages known so far: what each needs, its parameters, its state."""
    run_state = read_state()
    notebooks = read_notebooks()
    schedule = make_schedule(plan, run_state, notebooks)
    for position, stage in enumerate(schedule.stages):
        result = run_state.results.get(stage.name)
        mark = "to do"
        if result and result.fingerprint == schedule.fingerprints[stage.name]:
            mark = f"finished in {result.seconds} s"
        needs = f"  after {', '.join(stage.needs)}" if stage.needs else ""
        print("│" if position else " ")
        print(f"● {stage.name}{needs}  [{mark}]")
        parameters = notebooks[stage.kind].parameters
        for name, value in schedule.parameters[stage.name].items():
            print(f"│     {name} = {value!r}  {parameters[name].help}")
    print(
        "\nA retraining adds stages of its own, named after its month, when production asks for "
        "one."
    )


def run_with_progress(plan: Plan) -> int:
    """Run the plan under a progress bar of stages and cells; only lines without a terminal."""
    from tqdm import tqdm

    from churn_utils.pipeline import runner  # 2 s, which --help and wrong usage need not wait for

    with tqdm(
        total=1,
        bar_format="{desc} |{bar:24}| {n_fmt}/{total_fmt} stages, {elapsed}",
        disable=None,
        leave=False,
    ) as bar:

        def watch(progress: Progress) -> None:
            ending.next_call = describe_call(plan)  # without --fresh, which has been done
            bar.total = progress.total
            bar.n = progress.done
            running = [f"{name} {place}".strip() for name, place in progress.running.items()]
            bar.set_description_str(" + ".join(running) or "reports", refresh=True)

        return runner.run(plan, say=tqdm.write, watch=watch)


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run; returns the exit code."""
    causes.print_what_the_terminal_can()
    options = build_parser().parse_args(arguments)
    for name, folder in (("CHURN_HOME", options.home), ("CHURN_REPORTS", options.reports)):
        if folder:
            os.environ[name] = str(folder.resolve())
    try:
        plan = make_plan(options)
        if options.list:
            show_stages(plan)
            return DONE
        causes.check_open_files()
        return run_with_progress(plan)
    except NothingToRun as wait:
        print(wait)
        return DONE
    except ChurnError as error:
        print(f"run_all.py: {error}", file=sys.stderr)
        return WRONG_USAGE if isinstance(error, UsageError) else FAILED
    except Exception as error:
        if not causes.print_cause(error, "run_all.py"):
            raise
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
