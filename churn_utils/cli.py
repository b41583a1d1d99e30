"""Command line of the package: serve the API, run A/B tests, roll back, audit, erase.

Commands import what they need when they run, so that ``--help`` answers at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperCommand
from typer.exceptions import TyperException

from churn_utils import causes
from churn_utils.cli_ab_test import ab_test_app
from churn_utils.cli_options import (
    PROGRAM,
    AsOf,
    Home,
    Name,
    Reason,
    enter_home,
    epilog,
    parse_date,
    report_as_wrong_usage,
)
from churn_utils.errors import ChurnError, UsageError

DONE, REFUSED, WRONG_USAGE = 0, 1, 2
HOME_DEFAULT = "default: data, beside the package"


class ServeCommand(TyperCommand):
    """The command ``serve``, whose help ends with the environment variables of the API."""

    def format_epilog(self, ctx, formatter) -> None:
        """Write the table of variables; built here because it imports the API's settings."""
        from churn_utils.serving.settings import describe_settings

        home = f"  {'CHURN_HOME':<22} folder of tables, models and online features ({HOME_DEFAULT})"
        variables = f"\n\b\nenvironment variables:\n{home}\n{describe_settings()}"
        self.epilog = epilog("serve", "serve --host 0.0.0.0 --port 8080", more=variables)
        formatter.width = max(formatter.width, 120)
        super().format_epilog(ctx, formatter)


app = typer.Typer(
    help="Serve churn predictions and manage the versions that give them.",
    epilog=epilog(
        "serve --port 8000",
        "ab-test start 3 --share 0.1",
        'rollback --by "Ada Lovelace" --reason "complaints about offers"',
        "audit",
    ),
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
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

    with report_as_wrong_usage(UsageError):
        run_server(host, port)


def _end_with_stdin() -> None:
    """Send this process SIGTERM when standard input closes: what started it has ended."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


@app.command(
    epilog=epilog(
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

    date = parse_date(as_of)
    if not by.strip() or not reason.strip():
        raise TyperException("--by or --reason is blank; a rollback needs a name and a reason.")
    enter_home(home)
    changes = promotion.rollback(date or offline.newest_features(), by, reason)
    print(f"Version {deployments.version_in_effect()} is in effect again. What changed:")
    print(changes.to_string())


@app.command(epilog=epilog('accept-delivery 2025-04 --by "Ada Lovelace" --reason "half was sold"'))
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

    enter_home(home)
    with report_as_wrong_usage(UsageError):
        print(accepted_deliveries.accept_delivery(month, by, reason))


@app.command(
    epilog=epilog("export-deliveries /tmp/months", "export-deliveries DIR --scenario none --seed 7")
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

    with report_as_wrong_usage():
        check_whole_number("--months", months, least=1)
        simulation = Simulation(scenario, seed)
        written = export.export_deliveries(folder, simulation, months)
    print(f"{len(written)} files of {months + 1} months are in {folder.resolve()}. Run them with:")
    print(f"  run_all.py --deliveries {folder.resolve()} --home DIR")


@app.command(epilog=epilog('erase 7590-VHVEG --by "Ada Lovelace" --reason "asked for it"'))
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

    enter_home(home)
    with report_as_wrong_usage(UsageError):
        erased = erasure.erase_customer(customer_id, by, reason)
    print(erasure.describe(erased))


@app.command(epilog=epilog("audit", "audit --home /tmp/competitor"))
def audit(home: Home = None) -> None:
    """Show every promotion, rollback, accepted delivery and erasure in their order."""
    from churn_utils.registry import deployments

    enter_home(home)
    table = deployments.read_audit()
    print("No version was ever promoted." if table.empty else table.to_string(index=False))


@app.command(epilog=epilog("verify", "verify --home /tmp/competitor", "verify --adopt"))
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

    enter_home(home)
    if adopt:
        verification.adopt_home()
    found = verification.verify_home()
    for entry in found:
        if entry.state != verification.SOUND:
            print(f"{entry.state}: {entry.subject}: {entry.detail}")
    print(verification.summarise(found))
    if any(entry.state == verification.WRONG for entry in found):
        raise typer.Exit(REFUSED)


@app.command(epilog=epilog("compact-log", "compact-log --home /tmp/competitor"))
def compact_log(home: Home = None) -> None:
    """Remove old answers from the inference log and put its small files together.

    Answers are kept for CHURN_LOG_RETENTION_MONTHS (13). A running API does the same by itself.
    """
    from churn_utils.inference import log_retention
    from churn_utils.serving.settings import ServingSettings

    enter_home(home)
    with report_as_wrong_usage(UsageError):
        months = ServingSettings().log_retention_months
    removed, files_before, files_after = log_retention.tidy(months)
    print(
        f"{removed} answer(s) older than {months} months were removed; "
        f"{files_before} file(s) became {files_after}."
    )


@app.command(epilog=epilog("republish-features", "republish-features --home /tmp/competitor"))
def republish_features(home: Home = None) -> None:
    """Compute the features of every month again, after a feature was added."""
    from churn_utils.features import publishing

    enter_home(home)
    print(f"{publishing.republish_features()} row(s) of customer_features were written.")
