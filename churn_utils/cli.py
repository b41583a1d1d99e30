"""Command line of the package: serve the API, run A/B tests, roll back, audit, erase.

Commands import what they need when they run, so that ``--help`` answers at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand
from typer.exceptions import TyperException

from churn_utils import causes
from churn_utils.errors import ChurnError, UsageError

if TYPE_CHECKING:
    import pandas as pd

PROGRAM = "python -m churn_utils"
DONE, REFUSED, WRONG_USAGE = 0, 1, 2
HOME_DEFAULT = "default: data, beside the package"
EXIT_CODES = "0 done   1 refused or failed, the message says why   2 wrong usage"
AB_TEST_VARIABLES = """
\b
environment variables:
  CHURN_HOME   folder of tables and models, when --home is not given
  CHURN_TODAY  simulated today, when --as-of is not given (default: the day of the newest features,
               as for the API)

A running API follows a start and a stop within a second or two. It stops a challenger that is
clearly worse by itself.
"""


def _epilog(*examples: str, more: str = "") -> str:
    """Return what stands below the options of a command: exit codes, examples and ``more``.

    The letter ``\\b`` keeps the line breaks of the paragraph that follows it.
    """
    lines = "\n".join(f"  {PROGRAM} {example}" for example in examples)
    return f"\b\nexit codes:  {EXIT_CODES}\n\n\b\nexamples:\n{lines}\n{more}"


Version = Annotated[int, typer.Argument(help="number of the version in the registry")]
AsOf = Annotated[
    str,
    typer.Option(
        metavar="DATE",
        envvar="CHURN_TODAY",
        show_envvar=False,
        show_default=False,
        help="simulated today, such as 2025-06-01; default: the day of the newest features",
    ),
]
Name = Annotated[str, typer.Option(metavar="NAME", help="who decides it, for the record")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="why, for the record")]
Home = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="tables and models; default: CHURN_HOME, else data"),
]


class ServeCommand(TyperCommand):
    """The command ``serve``, whose help ends with the environment variables of the API."""

    def format_epilog(self, ctx, formatter) -> None:
        """Write the table of variables; built here because it imports the API's settings."""
        from churn_utils.serving.settings import describe_settings

        home = f"  {'CHURN_HOME':<22} folder of tables, models and online features ({HOME_DEFAULT})"
        variables = f"\n\b\nenvironment variables:\n{home}\n{describe_settings()}"
        self.epilog = _epilog("serve", "serve --host 0.0.0.0 --port 8080", more=variables)
        formatter.width = max(formatter.width, 120)
        super().format_epilog(ctx, formatter)


app = typer.Typer(
    help="Serve churn predictions and manage the versions that give them.",
    epilog=_epilog(
        "serve --port 8000",
        "ab-test start 3 --share 0.1",
        'rollback --by "Ada Lovelace" --reason "complaints about offers"',
        "audit",
    ),
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
ab_test_app = typer.Typer(
    help="Start, watch and stop A/B tests of a challenger beside the champion.",
    epilog=_epilog(
        "ab-test shadow 3",
        "ab-test start 3 --share 0.1",
        "ab-test status",
        'ab-test stop 3 --reason "no gain after four months"',
        more=AB_TEST_VARIABLES,
    ),
    rich_markup_mode=None,
)
app.add_typer(ab_test_app, name="ab-test")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 refused or failed, 2 wrong usage."""
    causes.print_what_the_terminal_can()
    command = typer.main.get_command(app)
    try:
        code = command.main(arguments, prog_name=PROGRAM, standalone_mode=False)
    except TyperException as error:
        print(f"error: {error.format_message()}", file=sys.stderr)
        context = getattr(error, "ctx", None)  # only where words could not be parsed
        if context is not None:
            print(f"Try '{context.command_path} --help'.", file=sys.stderr)
        return WRONG_USAGE
    except ChurnError as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
    except Exception as error:
        if not causes.print_cause(error, "error"):
            raise
        return REFUSED
    return code or DONE


@contextmanager
def _report_as_wrong_usage(kind: type[ChurnError] = ChurnError) -> Iterator[None]:
    """Turn an error about an option or a variable into one of usage: exit code 2, not 1."""
    try:
        yield
    except kind as error:
        raise TyperException(str(error)) from error


def _parse_date(text: str) -> pd.Timestamp | None:
    """Return the date of ``--as-of``; None means the day of the newest features."""
    from churn_utils import settings

    if not text.strip():
        return None
    with _report_as_wrong_usage():
        return settings.as_of_date(text.strip(), "--as-of (CHURN_TODAY)")


def _enter_home(home: Path | None) -> None:
    """Make ``--home`` the home of this process; one without registry is refused, not created."""
    from churn_utils import settings

    if home is not None:
        os.environ["CHURN_HOME"] = str(home)
    if not settings.mlflow_database().exists():
        raise UsageError(
            f"no version was ever registered in {settings.home()}; is --home (CHURN_HOME) right?"
        )


@app.command(cls=ServeCommand)
def serve(
    host: Annotated[
        str, typer.Option(help="address to listen on; the default is this machine alone")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port to listen on; 0 takes any free one")] = 8000,
    until_stdin_closes: Annotated[
        bool,
        typer.Option(
            "--until-stdin-closes",
            help="end when standard input does, so that no server outlives the program "
            "that started it",
        ),
    ] = False,
) -> None:
    """Serve the champion over HTTP; Ctrl-C ends it."""
    if until_stdin_closes:  # also during the imports below
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    from churn_utils.serving.server import run_server

    with _report_as_wrong_usage(UsageError):
        run_server(host, port)


def _end_with_stdin() -> None:
    """Send this process SIGTERM when standard input closes: what started it has ended."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


@ab_test_app.command(epilog=_epilog("ab-test start 3", "ab-test start 3 --share 0.25"))
def start(
    version: Version,
    share: Annotated[
        float, typer.Option(help="part of the customers, above 0 and at most 0.5")
    ] = 0.1,
    as_of: AsOf = "",
    home: Home = None,
) -> None:
    """Let a version answer for a share of the customers.

    It needs a passed gate and an approval of scope trial or champion.
    """
    from churn_utils.serving import ab_test, ab_test_command

    date = _parse_date(as_of)
    with _report_as_wrong_usage():
        ab_test.check_share(share)
    _enter_home(home)
    print(ab_test_command.start(version, date, share))


@ab_test_app.command(epilog=_epilog("ab-test shadow 3", "ab-test shadow 3 --as-of 2025-06-01"))
def shadow(version: Version, as_of: AsOf = "", home: Home = None) -> None:
    """Score with a version beside the champion; its predictions are recorded, never shown."""
    from churn_utils.serving import ab_test, ab_test_command

    date = _parse_date(as_of)
    _enter_home(home)
    print(ab_test_command.start(version, date, mode=ab_test.SHADOW))


@ab_test_app.command(epilog=_epilog("ab-test status", "ab-test status --as-of 2025-06-01"))
def status(as_of: AsOf = "", home: Home = None) -> None:
    """Show which A/B test runs and what the labels say of it."""
    from churn_utils.serving import ab_test_command

    date = _parse_date(as_of)
    _enter_home(home)
    print(ab_test_command.describe_status(date))


@ab_test_app.command(epilog=_epilog('ab-test stop 3 --reason "no gain after four months"'))
def stop(
    version: Version,
    reason: Annotated[str, typer.Option(help="why, for the record")],
    home: Home = None,
) -> None:
    """Stop a version's A/B test."""
    from churn_utils.serving import ab_test_command

    if not reason.strip():
        raise TyperException("--reason is blank; a stop needs a reason.")
    _enter_home(home)
    print(ab_test_command.stop(version, reason))


@app.command(
    epilog=_epilog(
        'rollback --by "Ada Lovelace" --reason "complaints about offers"',
        'rollback --as-of 2025-06-01 --by "Ada Lovelace" --reason "wrong prices"',
    )
)
def rollback(
    by: Name,
    reason: Reason,
    as_of: AsOf = "",
    home: Home = None,
) -> None:
    """Restore the champion before the present one; a running API follows by itself."""
    from churn_utils.features import offline
    from churn_utils.registry import deployments, promotion

    date = _parse_date(as_of)
    if not by.strip() or not reason.strip():
        raise TyperException("--by or --reason is blank; a rollback needs a name and a reason.")
    _enter_home(home)
    changes = promotion.rollback(date or offline.newest_features(), by, reason)
    print(f"Version {deployments.version_in_effect()} is in effect again. What changed:")
    print(changes.to_string())


@app.command(epilog=_epilog('accept-delivery 2025-04 --by "Ada Lovelace" --reason "half was sold"'))
def accept_delivery(
    month: Annotated[str, typer.Argument(help="that was held back, such as 2025-04")],
    by: Name,
    reason: Reason,
    home: Home = None,
) -> None:
    """Let a month pass whose delivery was held back; the next run_all.py takes it in.

    Rows that break the contract stay in quarantine.
    """
    from churn_utils.monitoring import accepted_deliveries

    _enter_home(home)
    with _report_as_wrong_usage(UsageError):
        print(accepted_deliveries.accept_delivery(month, by, reason))


@app.command(
    epilog=_epilog(
        "export-deliveries /tmp/months", "export-deliveries DIR --scenario none --seed 7"
    )
)
def export_deliveries(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="new folder to write to")],
    scenario: Annotated[
        str, typer.Option(help="of the simulation; run_all.py --help lists them")
    ] = "price_rise",
    seed: Annotated[int, typer.Option(metavar="N", help="of the simulation")] = 42,
    months: Annotated[
        int, typer.Option(metavar="N", help="last month, from 1 to 120; the first one is 0")
    ] = 6,
) -> None:
    """Write simulated months as a folder of deliveries, the template for months of your own.

    `run_all.py --deliveries DIR` runs them and ends as `run_all.py --scenario NAME` does.
    """
    from churn_utils.simulation.scenarios import Simulation, check_whole_number
    from churn_utils.upstream import export

    with _report_as_wrong_usage():
        check_whole_number("--months", months, least=1)
        simulation = Simulation(scenario, seed)
        written = export.export_deliveries(folder, simulation, months)
    print(f"{len(written)} files of {months + 1} months are in {folder.resolve()}. Run them with:")
    print(f"  run_all.py --deliveries {folder.resolve()} --home DIR")


@app.command(epilog=_epilog('erase 7590-VHVEG --by "Ada Lovelace" --reason "asked for it"'))
def erase(
    customer_id: Annotated[str, typer.Argument(help="of the customer")],
    by: Name,
    reason: Reason,
    home: Home = None,
) -> None:
    """Erase a customer from tables, logs, online store, pages and lists; cannot be undone.

    The audit keeps an entry without the id. Stop the API first: what it has not written yet would
    be written afterwards.
    """
    from churn_utils.pipeline import erasure

    _enter_home(home)
    with _report_as_wrong_usage(UsageError):
        erased = erasure.erase_customer(customer_id, by, reason)
    print(erasure.describe(erased))


@app.command(epilog=_epilog("audit", "audit --home /tmp/competitor"))
def audit(home: Home = None) -> None:
    """Show every promotion, rollback, accepted delivery and erasure in their order."""
    from churn_utils.registry import deployments

    _enter_home(home)
    table = deployments.read_audit()
    print("No version was ever promoted." if table.empty else table.to_string(index=False))


@app.command(epilog=_epilog("verify", "verify --home /tmp/competitor", "verify --adopt"))
def verify(
    adopt: Annotated[
        bool,
        typer.Option(
            "--adopt",
            help="first record all that has no digest as it is now, and sign all if "
            "CHURN_SIGNING_KEY is set",
        ),
    ] = False,
    home: Home = None,
) -> None:
    """Compare tables, versions, approvals, evidence and audit with what was recorded of them."""
    from churn_utils.registry import verification

    _enter_home(home)
    if adopt:
        verification.adopt_home()
    found = verification.verify_home()
    for entry in found:
        if entry.state != verification.SOUND:
            print(f"{entry.state}: {entry.subject}: {entry.detail}")
    print(verification.summarise(found))
    if any(entry.state == verification.WRONG for entry in found):
        raise typer.Exit(REFUSED)


@app.command(epilog=_epilog("compact-log", "compact-log --home /tmp/competitor"))
def compact_log(home: Home = None) -> None:
    """Remove old answers from the inference log and put its small files together.

    Answers are kept for CHURN_LOG_RETENTION_MONTHS (13). A running API does the same by itself.
    """
    from churn_utils.inference import log_retention
    from churn_utils.serving.settings import ServingSettings

    _enter_home(home)
    with _report_as_wrong_usage(UsageError):
        months = ServingSettings().log_retention_months
    removed, files_before, files_after = log_retention.tidy(months)
    print(
        f"{removed} answer(s) older than {months} months were removed; "
        f"{files_before} file(s) became {files_after}."
    )


@app.command(epilog=_epilog("republish-features", "republish-features --home /tmp/competitor"))
def republish_features(home: Home = None) -> None:
    """Compute the features of every month again, after a feature was added."""
    from churn_utils.features import offline

    _enter_home(home)
    print(f"{offline.republish_features()} row(s) of customer_features were written.")
