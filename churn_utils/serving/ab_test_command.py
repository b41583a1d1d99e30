"""Start, watch and stop trials of a challenger from the command line; ``--help`` says how."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pandas as pd

from churn_utils import settings
from churn_utils.errors import ChurnError, UsageError
from churn_utils.features import offline
from churn_utils.registry import deployments, versions
from churn_utils.serving import ab_test
from churn_utils.serving.ab_test import Trial

EPILOG = """
exit codes:  0 done   1 refused, the message says why   2 wrong usage

environment variables:
  CHURN_HOME   folder of tables and models, when --home is not given (default: data, beside the package)
  CHURN_TODAY  simulated today, when --as-of is not given (default: the day of the newest features, as for the API)

examples:
  python -m churn_utils.serving.ab_test_command shadow 3             ask version 3 beside the champion, show its answers to nobody
  python -m churn_utils.serving.ab_test_command start 3 --share 0.1  let it answer a tenth of the customers; needs a passed gate
                                                           and an approval of scope trial or champion
  python -m churn_utils.serving.ab_test_command status               what the labels say so far
  python -m churn_utils.serving.ab_test_command stop 3 --reason "no gain after four months"

A running API takes a start and a stop up within a second or two. It stops a challenger that is clearly worse by itself.
"""
VERDICTS = {
    ab_test.TOO_FEW: "none yet: too few customers whose labels have arrived, {minimum} are needed in each arm.",
    ab_test.UNDECIDED: "undecided: the interval of the difference holds 0.",
    ab_test.BETTER: "the challenger's decisions are worth more than the champion's.",
    ab_test.WORSE: "the challenger's decisions are worth less than the champion's.",
}


def build_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m churn_utils.serving.ab_test_command",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Start, watch and stop trials of a challenger beside the champion.",
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--home",
        type=Path,
        metavar="DIR",
        help="tables and models (default: CHURN_HOME, else data)",
    )
    dated = argparse.ArgumentParser(add_help=False)
    dated.add_argument(
        "--as-of",
        metavar="DATE",
        help="simulated today, such as 2025-06-01 (default: newest features)",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    start = actions.add_parser(
        "start", parents=[common, dated], help="let a version answer a share of the customers"
    )
    start.add_argument(
        "--share", type=float, default=0.1, help="above 0 and at most 0.5 (default %(default)s)"
    )
    shadow = actions.add_parser(
        "shadow", parents=[common, dated], help="ask a version beside the champion, unseen"
    )
    stop = actions.add_parser("stop", parents=[common], help="stop a version's trial")
    stop.add_argument("--reason", required=True, help="why, for the record")
    for action in (start, shadow, stop):
        action.add_argument(
            "version", type=int, metavar="VERSION", help="number of the version in the registry"
        )
    actions.add_parser(
        "status", parents=[common, dated], help="say what runs and what the labels say of it"
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; returns its exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.home is not None:
        os.environ["CHURN_HOME"] = str(options.home)
    given = getattr(options, "as_of", None) or os.environ.get("CHURN_TODAY", "").strip()
    try:
        as_of = settings.as_of_date(given) if given else None
        if options.action == "start":
            ab_test.check_share(options.share)
        elif options.action == "stop" and not options.reason.strip():
            raise UsageError("a stop needs a reason.")
    except ChurnError as error:
        parser.error(str(error))
    try:
        check_home()
        if options.action == "stop":
            message = stop(options.version, options.reason)
        else:
            as_of = as_of or offline.newest_features()
            message = tell(as_of) if options.action == "status" else start(options, as_of)
    except ChurnError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(message)
    return 0


def check_home() -> None:
    """Check that there is a registry, so that a mistyped home is not made.

    Raises:
        UsageError: there is none.
    """
    if not (settings.mlflow_folder() / "mlflow.db").exists():
        raise UsageError(
            f"no version was ever registered in {settings.home()}; is --home (CHURN_HOME) right?"
        )


def start(options: argparse.Namespace, as_of: pd.Timestamp) -> str:
    """Start a trial unless one of another version runs; say what began.

    Raises:
        UsageError: another one runs, or ``trials.start_trial`` refuses it.
        ModelError: no such version.
        DeploymentError: a split without passed gate or valid approval.
    """
    versions.read_version(options.version)
    running, challenger = ab_test.read_trial(), versions.version_with_alias(versions.CHALLENGER)
    if running is not None and running.version != options.version:
        raise UsageError(f"a trial of version {running.version} runs; stop it first.")
    if options.action == "shadow":
        trial = ab_test.start_trial(options.version, as_of, mode=ab_test.SHADOW)
    else:
        trial = ab_test.start_trial(options.version, as_of, options.share)
    moved = (
        ""
        if challenger in (None, trial.version)
        else f"\nVersion {challenger} is no longer the challenger."
    )
    return describe(trial) + moved


def stop(version: int, reason: str) -> str:
    """Stop a trial and say so.

    Raises:
        UsageError: there is none, or it was stopped before (its reason is kept).
    """
    trial = ab_test.read_trial_of(version)
    if trial is not None and trial.status == ab_test.STOPPED:
        raise UsageError(f"the trial of version {version} was stopped before: {trial.reason}")
    return (
        f"The trial of version {version} is stopped: {ab_test.stop_trial(version, reason).reason}"
    )


def describe(trial: Trial) -> str:
    """What a trial does, in a sentence."""
    does = "is asked beside the champion, and its answers are recorded, never shown"
    if trial.mode == ab_test.SPLIT:
        does = f"answers {100 * trial.share:g}% of the customers"
    return f"Version {trial.version} is on trial against version {trial.champion} since {trial.started}: it {does}."


def tell(as_of: pd.Timestamp) -> str:
    """What runs, and what the labels that had arrived by a date say of it."""
    trial = ab_test.read_trial()
    if trial is None:
        return f"No trial runs; the champion is version {deployments.version_in_effect()}.{_tell_ended()}"
    if trial.mode == ab_test.SHADOW:
        return f"{describe(trial)}\nNo verdict is given on a shadow: nobody acted on its answers."
    found = ab_test.judge_trial(trial, as_of)
    lines = [
        describe(trial),
        f"Verdict as of {as_of:%Y-%m-%d}: "
        + VERDICTS[found["verdict"]].format(minimum=ab_test.MIN_LABELLED),
    ]
    for arm, version in (("champion", trial.champion), ("challenger", trial.version)):
        customers = found[f"{arm}_customers"]
        worth = f", {found[f'{arm}_usd']:.2f} USD per customer" if customers else ""
        lines.append(f"  {arm:<10}  version {version}: {customers:,} customers with labels{worth}")
    if found["verdict"] != ab_test.TOO_FEW:
        lines.append(
            f"  difference  {found['difference_usd']:+.2f} USD per customer, {ab_test.LEVEL:.0%} interval "
            f"{found['lower']:+.2f} to {found['upper']:+.2f}"
        )
    return "\n".join(lines)


def _tell_ended() -> str:
    """How the trials ended that there were, the newest version's first."""
    ended = [ab_test.read_trial_of(int(version)) for version in versions.list_versions()["version"]]
    return "".join(
        f"\n  version {trial.version} was tried from {trial.started} against version {trial.champion}; "
        + (
            f"stopped: {trial.reason}"
            if trial.status == ab_test.STOPPED
            else "ended when the champion changed"
        )
        for trial in ended
        if trial is not None
    )


if __name__ == "__main__":
    sys.exit(main())
