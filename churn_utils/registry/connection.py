"""Connect MLflow to the database of this home."""

from __future__ import annotations

from churn_utils import settings
from churn_utils.data.files import identify_file

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
    mlflow.set_tracking_uri(address)
    if mlflow.get_experiment_by_name(settings.EXPERIMENT) is None:
        artifacts = settings.mlflow_folder() / "artifacts"
        mlflow.create_experiment(settings.EXPERIMENT, artifact_location=artifacts.as_uri())
    mlflow.set_experiment(settings.EXPERIMENT)
    _opened_files[address] = found or identify_file(database)
    return mlflow


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
