"""Paths, names, dates and people; every path can be moved with an environment variable ``CHURN_*``.

Nothing is read, written or created on import. A variable is read at each call, so that a process
can move to another home. (pydantic-settings would cost 0.7 ms a call and 0.5 s of import; the API's
settings, which are read once and have types, use it.)
"""

from __future__ import annotations

import getpass
import os
import re
import unicodedata
from pathlib import Path

import pandas as pd

from churn_utils.errors import ChurnError

PROJECT = Path(__file__).resolve().parents[1]
MODEL_NAME = "telco_churn"
EXPERIMENT = "telco_churn"
SEED = 42
LOG_RETENTION_MONTHS = 13  # that answers of the API are kept
FIRST_SNAPSHOT = pd.Timestamp("2025-01-01")
TELEMETRY_OFF = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
MLFLOW_QUIET = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
# Letters and symbols that Unicode shows as nothing (Default_Ignorable_Code_Point, after NFKC), and
# the blank of Braille.
IGNORABLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)


def _read_path(variable: str, default: Path) -> Path:
    """Return the absolute path in an environment variable, or the default."""
    return Path(os.environ.get(variable) or default).resolve()


def home() -> Path:
    """Return the folder of all that a run keeps: tables, MLflow, state (``CHURN_HOME``)."""
    return _read_path("CHURN_HOME", PROJECT / "data")


def reports() -> Path:
    """Return the folder of executed notebooks, HTML and lists (``CHURN_REPORTS``)."""
    return _read_path("CHURN_REPORTS", PROJECT / "reports")


def run_reports() -> Path:
    """Return the current run's report folder, else ``by_hand`` (``CHURN_RUN_REPORTS``)."""
    return _read_path("CHURN_RUN_REPORTS", reports() / "by_hand")


def notebooks() -> Path:
    """Return the folder of the numbered notebooks (``CHURN_NOTEBOOKS``)."""
    return _read_path("CHURN_NOTEBOOKS", PROJECT / "notebooks")


def raw() -> Path:
    """Return the folder of files as they were delivered."""
    return home() / "raw"


def lakehouse() -> Path:
    """Return the folder of the Delta tables."""
    return home() / "lakehouse"


def mlflow_folder() -> Path:
    """Return the folder of MLflow's database and artifacts."""
    return home() / "mlflow"


def mlflow_database() -> Path:
    """Return the file of MLflow's database: runs, versions, tags."""
    return mlflow_folder() / "mlflow.db"


def ledger() -> Path:
    """Return the file of digests of versions, approvals, evidence and audit."""
    return mlflow_folder() / "ledger.jsonl"


def signing_key() -> str:
    """Return the key that signs a home's ledgers (``CHURN_SIGNING_KEY``); empty without one."""
    return os.environ.get("CHURN_SIGNING_KEY", "")


def study_storage() -> str | None:
    """Return the database URL of a shared search (``CHURN_STUDY_STORAGE``); None: a local file."""
    return os.environ.get("CHURN_STUDY_STORAGE") or None


def disable_telemetry() -> None:
    """Switch the telemetry of MLflow and evidently off; call it before their first import."""
    os.environ.update(TELEMETRY_OFF)
    os.environ.update(MLFLOW_QUIET)


def user() -> str:
    """Return the name that trainings are recorded under (``CHURN_USER``, else the login name)."""
    name = os.environ.get("CHURN_USER", "").strip()
    return name or getpass.getuser().strip()


def is_same_person(one: str, other: str) -> bool:
    """Tell whether two names are equal but for spaces, case, encoding and invisible characters."""
    return _normalise_name(one) == _normalise_name(other)


def _normalise_name(name: str) -> str:
    """Return a name in NFKC, without case and without anything that cannot be seen."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(character for character in folded if not _is_invisible(character))


def _is_invisible(character: str) -> bool:
    """Tell whether a character is a control, a blank, or a letter that is shown as nothing."""
    is_control_or_blank = unicodedata.category(character)[0] in "CZ"
    return is_control_or_blank or bool(IGNORABLE.match(character))


def month_start(month: int) -> pd.Timestamp:
    """Return the date of monthly snapshot number ``month``; month 0 is IBM's extract."""
    return FIRST_SNAPSHOT + pd.DateOffset(months=month)


def month_of(date: pd.Timestamp) -> int:
    """Return the number of the month that starts at a date; the inverse of ``month_start``."""
    years = date.year - FIRST_SNAPSHOT.year
    return years * 12 + date.month - FIRST_SNAPSHOT.month


def as_of_date(text: str, name: str = "AS_OF") -> pd.Timestamp:
    """Parse a date such as a notebook's ``AS_OF`` (``YYYY-MM-DD``, the first of a month).

    Args:
        text: the date.
        name: how the error calls it.

    Raises:
        ChurnError: not such a date; the message shows the form.
    """
    try:
        date = pd.Timestamp(text)
    except ValueError as error:
        raise ChurnError(f"{name} is {text!r}; write a date such as '2025-02-01'.") from error
    if pd.isna(date) or date.tzinfo is not None or date.day != 1 or date != date.normalize():
        raise ChurnError(
            f"{name} is {text!r}; months start on the first day, such as '2025-02-01'."
        )
    return date
