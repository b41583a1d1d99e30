"""What the commands of the package share: options, exit codes, how errors are reported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import TyperException

from churn_utils.errors import ChurnError, UsageError

if TYPE_CHECKING:
    import pandas as pd

PROGRAM = "python -m churn_utils"
EXIT_CODES = "0 done   1 refused or failed, the message says why   2 wrong usage"


def epilog(*examples: str, more: str = "") -> str:
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


@contextmanager
def report_as_wrong_usage(kind: type[ChurnError] = ChurnError) -> Iterator[None]:
    """Turn an error about an option or a variable into one of usage: exit code 2, not 1."""
    try:
        yield
    except kind as error:
        raise TyperException(str(error)) from error


def parse_date(text: str) -> pd.Timestamp | None:
    """Return the date of ``--as-of``; None means the day of the newest features."""
    from churn_utils import settings

    if not text.strip():
        return None
    with report_as_wrong_usage():
        return settings.as_of_date(text.strip(), "--as-of (CHURN_TODAY)")


def enter_home(home: Path | None) -> None:
    """Make ``--home`` the home of this process; one without registry is refused, not created."""
    from churn_utils import settings

    if home is not None:
        os.environ["CHURN_HOME"] = str(home)
    if not settings.mlflow_database().exists():
        raise UsageError(
            f"no version was ever registered in {settings.home()}; is --home (CHURN_HOME) right?"
        )
