"""Connect MLflow to the database of this home."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

from churn_utils import settings
from churn_utils.data.files import identify_file

# Where MLflow keeps addresses of folders, which are absolute.
ADDRESSES = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
# By address: device and inode of the file that MLflow opened there.
_opened_files: dict[str, tuple[int, int] | None] = {}


def connect_mlflow():
    """Return ``mlflow``, connected to this home's database and experiment (made when missing).

    MLflow itself would go on reading the deleted file after a database was replaced, as
    ``run_all.py --fresh`` does; this opens the new one.
    """
    settings.disable_telemetry()
    import mlflow  # takes 3 to 5 s, so only where it is needed

    database = settings.mlflow_database()
    database.parent.mkdir(parents=True, exist_ok=True)
    address = f"sqlite:///{database}"
    found = identify_file(database)
    opened = _opened_files.get(address)
    if opened is not None and opened == found and mlflow.get_tracking_uri() == address:
        return mlflow  # the experiment is active: asking for it again would cost 15 ms a call
    if opened is not None and opened != found:
        _close_database(address)
    # It is by run id, and those of a copy are those of the original.
    mlflow.tracking._tracking_service.utils._artifact_repos_cache.clear()
    artifacts = (settings.mlflow_folder() / "artifacts").as_uri()
    if found is not None:
        _mend_addresses(database, artifacts)
    if not open_database(database):
        mlflow.create_experiment(settings.EXPERIMENT, artifact_location=artifacts)
    mlflow.set_experiment(settings.EXPERIMENT)
    _opened_files[address] = found or identify_file(database)
    return mlflow


def connect_client():
    """Return MLflow's client, connected as ``connect_mlflow`` does."""
    return connect_mlflow().MlflowClient()


def open_database(database: Path) -> bool:
    """Let MLflow open a database, made with its tables when missing: that takes 2 s.

    Returns:
        Whether it holds the experiment of this project.
    """
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{database}")
    return mlflow.get_experiment_by_name(settings.EXPERIMENT) is not None


def path_of_uri(uri: str) -> Path:
    """Return the local path that a ``file:`` URI names."""
    return Path(url2pathname(urlparse(uri).path))


def _mend_addresses(database: Path, artifacts: str) -> None:
    """Let the addresses in a database name the folder where it is: the home may have been moved.

    The artifacts of a copy would be read from the original otherwise.
    """
    with closing(sqlite3.connect(database)) as opened, opened:
        is_new = not opened.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchone()
        if is_new:
            return
        query = "SELECT artifact_location FROM experiments WHERE name = ?"
        found = opened.execute(query, (settings.EXPERIMENT,)).fetchone()
        if found is None or found[0] == artifacts:
            return
        before = found[0]
        for table, column in ADDRESSES.items():
            opened.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                f"WHERE substr({column}, 1, ?) = ?",
                (artifacts, len(before) + 1, len(before), before),
            )


def _close_database(address: str) -> None:
    """Drop MLflow's stores and engines of a database; it has no public way to do so."""
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
