"""Paths, names, seed and economics; every path can be moved with an environment variable ``CHURN_*``.

Nothing is read, written or created on import.
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
# letters and symbols that Unicode lets nobody see (Default_Ignorable_Code_Point, after NFKC), and the blank of Braille
IGNORABLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
FIRST_SNAPSHOT = pd.Timestamp("2025-01-01")


def home() -> Path:
    """Folder of everything a run keeps: raw file, lakehouse, MLflow, pipeline state (``CHURN_HOME``)."""
    return Path(os.environ.get("CHURN_HOME") or PROJECT / "data").resolve()


def reports() -> Path:
    """Folder of what people open: executed notebooks, HTML, retention list (``CHURN_REPORTS``)."""
    return Path(os.environ.get("CHURN_REPORTS") or PROJECT / "reports").resolve()


def run_reports() -> Path:
    """Folder of the run that is going on (``CHURN_RUN_REPORTS``, set by the pipeline); ``by_hand`` outside one."""
    return Path(os.environ.get("CHURN_RUN_REPORTS") or reports() / "by_hand").resolve()


def notebooks() -> Path:
    """Folder of the numbered notebooks (``CHURN_NOTEBOOKS``)."""
    return Path(os.environ.get("CHURN_NOTEBOOKS") or PROJECT / "notebooks").resolve()


def raw() -> Path:
    """Folder of files as they were delivered."""
    return home() / "raw"


def lakehouse() -> Path:
    """Folder of the Delta tables."""
    return home() / "lakehouse"


def mlflow_folder() -> Path:
    """Folder of MLflow's database and artifacts."""
    return home() / "mlflow"


def mlflow_database() -> Path:
    """File of MLflow's database: runs, versions, tags."""
    return mlflow_folder() / "mlflow.db"


def identify_file(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file, None where there is none: another in its place has others while the first is open."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def study_storage() -> str | None:
    """URL of the relational database that workers share a search in (``CHURN_STUDY_STORAGE``); None: a local file."""
    return os.environ.get("CHURN_STUDY_STORAGE") or None


def user() -> str:
    """Name that trainings are recorded under (``CHURN_USER``, else the login name)."""
    return os.environ.get("CHURN_USER", "").strip() or getpass.getuser().strip()


def is_same_person(one: str, other: str) -> bool:
    """Tell whether two names are one, however they are spaced, capitalised and encoded (NFKC, nothing invisible)."""
    first, second = (
        "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if not _is_invisible(c))
        for name in (one, other)
    )
    return first == second


def _is_invisible(character: str) -> bool:
    """Control and space characters, and what Unicode lists as ignorable by default although it counts as a letter."""
    return unicodedata.category(character)[0] in "CZ" or bool(IGNORABLE.match(character))


_connected: dict[str, tuple[int, int] | None] = {}  # file that MLflow opened under each address


def connect_mlflow():
    """Return ``mlflow``, pointed at this home's database (made when missing); telemetry is off before its import.

    A database that was replaced since, as ``run_all.py --fresh`` does, is opened anew: MLflow by itself would go on
    reading the deleted file.
    """
    os.environ.update(
        MLFLOW_DISABLE_TELEMETRY="true",
        DO_NOT_TRACK="true",
        MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false",
        MLFLOW_LOGGING_LEVEL="WARNING",
    )
    import mlflow  # 3 to 5 s, so only for those who need it

    mlflow_folder().mkdir(parents=True, exist_ok=True)
    address, found = f"sqlite:///{mlflow_database()}", identify_file(mlflow_database())
    if _connected.get(address) not in (None, found):
        _forget_database(address)
    mlflow.set_tracking_uri(address)
    if mlflow.get_experiment_by_name(EXPERIMENT) is None:
        mlflow.create_experiment(
            EXPERIMENT, artifact_location=(mlflow_folder() / "artifacts").as_uri()
        )
    mlflow.set_experiment(EXPERIMENT)
    _connected[address] = found or identify_file(mlflow_database())
    return mlflow


def _forget_database(address: str) -> None:
    """Drop what MLflow keeps of a database: it has no public way, and its stores live as long as the process."""
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as RegistryStore
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as TrackingStore
    from mlflow.tracking._model_registry.utils import _get_store_registry
    from mlflow.tracking._tracking_service.utils import _tracking_store_registry

    for stores in (_tracking_store_registry, _get_store_registry()):
        stores._get_store_with_resolved_uri.cache_clear()
    for store in (TrackingStore, RegistryStore):
        with store._engine_map_lock:
            engine = store._engine_map.pop(address, None)
        if engine is not None:
            engine.dispose()


def month_start(month: int) -> pd.Timestamp:
    """Date of monthly snapshot number ``month``; month 0 is IBM's extract."""
    return FIRST_SNAPSHOT + pd.DateOffset(months=month)


def month_of(date: pd.Timestamp) -> int:
    """Number of the month that starts at a date; the inverse of ``month_start``."""
    return (date.year - FIRST_SNAPSHOT.year) * 12 + date.month - FIRST_SNAPSHOT.month


def as_of_date(text: str, name: str = "AS_OF") -> pd.Timestamp:
    """Parse a notebook's ``AS_OF``, or a date of another name (``YYYY-MM-DD``, the first of a month).

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
