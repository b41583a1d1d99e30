"""Commands that start, watch and stop A/B tests; ``cli`` adds them as ``ab-test``."""

from __future__ import annotations

from typing import Annotated

import typer
from typer.exceptions import TyperException

from churn_utils.cli_options import (
    AsOf,
    Home,
    Version,
    enter_home,
    epilog,
    parse_date,
    report_as_wrong_usage,
)

AB_TEST_VARIABLES = """
\b
environment variables:
  CHURN_HOME   folder of tables and models, when --home is not given
  CHURN_TODAY  simulated today, when --as-of is not given (default: the day of the newest features,
               as for the API)

A running API follows a start and a stop within a second or two. It stops a challenger that is
clearly worse by itself.
"""
ab_test_app = typer.Typer(
    help="Start, watch and stop A/B tests of a challenger beside the champion.",
    epilog=epilog(
        "ab-test shadow 3",
        "ab-test start 3 --share 0.1",
        "ab-test status",
        'ab-test stop 3 --reason "no gain after four months"',
        more=AB_TEST_VARIABLES,
    ),
    rich_markup_mode=None,
)


@ab_test_app.command(epilog=epilog("ab-test start 3", "ab-test start 3 --share 0.25"))
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

    date = parse_date(as_of)
    with report_as_wrong_usage():
        ab_test.check_share(share)
    enter_home(home)
    print(ab_test_command.start(version, date, share))


@ab_test_app.command(epilog=epilog("ab-test shadow 3", "ab-test shadow 3 --as-of 2025-06-01"))
def shadow(version: Version, as_of: AsOf = "", home: Home = None) -> None:
    """Score with a version beside the champion; its predictions are recorded, never shown."""
    from churn_utils.serving import ab_test, ab_test_command

    date = parse_date(as_of)
    enter_home(home)
    print(ab_test_command.start(version, date, mode=ab_test.SHADOW))


@ab_test_app.command(epilog=epilog("ab-test status", "ab-test status --as-of 2025-06-01"))
def status(as_of: AsOf = "", home: Home = None) -> None:
    """Show which A/B test runs and what the labels say of it."""
    from churn_utils.serving import ab_test_command

    date = parse_date(as_of)
    enter_home(home)
    print(ab_test_command.describe_status(date))


@ab_test_app.command(epilog=epilog('ab-test stop 3 --reason "no gain after four months"'))
def stop(
    version: Version,
    reason: Annotated[str, typer.Option(help="why, for the record")],
    home: Home = None,
) -> None:
    """Stop a version's A/B test."""
    from churn_utils.serving import ab_test_command

    if not reason.strip():
        raise TyperException("--reason is blank; a stop needs a reason.")
    enter_home(home)
    print(ab_test_command.stop(version, reason))
