"""Where studies are kept: a file of the home, or a database that several workers share."""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path

import optuna
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from churn_utils import settings
from churn_utils.errors import DataError

HEARTBEAT_SECONDS = 20  # a worker of a shared study counts as dead after three missed heartbeats
OPEN_ATTEMPTS = 5


def open_storage() -> optuna.storages.BaseStorage:
    """Open the storage of studies, creating it if it is missing; Optuna's own log is silenced.

    Raises:
        DataError: the database cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = settings.study_storage()
    if url is None:
        path = settings.home() / "optuna" / "studies.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        _cut_torn_line(path)
        return JournalStorage(JournalFileBackend(str(path)))
    for attempt in range(OPEN_ATTEMPTS):
        try:
            return _open_database(url)
        except (SQLAlchemyError, ImportError, optuna.exceptions.StorageInternalError) as error:
            # Two workers that start together both create the tables, and one of them fails.
            failure = error
            time.sleep(0.2 * attempt)
    place = url.split("@")[-1]  # no password in a message
    raise DataError(
        f"CHURN_STUDY_STORAGE is {place!r}, which cannot be opened: {failure}"
    ) from failure


def _cut_torn_line(path: Path) -> None:
    """Cut what a full disk has left of a file's last line: Optuna would refuse all lines."""
    if path.exists():
        content = path.read_bytes()
        os.truncate(path, content.rfind(b"\n") + 1)


def _open_database(url: str) -> RDBStorage:
    is_sqlite = url.startswith("sqlite")
    options = {"connect_args": {"timeout": 60}} if is_sqlite else {"pool_pre_ping": True}
    with warnings.catch_warnings():  # the heartbeat is experimental
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage = RDBStorage(
            url,
            engine_kwargs=options,
            heartbeat_interval=HEARTBEAT_SECONDS,
            grace_period=3 * HEARTBEAT_SECONDS,
        )
    if is_sqlite:
        # SQLite has no row locks: two workers would take the same trial.
        event.listen(
            storage.engine, "begin", lambda found: found.exec_driver_sql("BEGIN IMMEDIATE")
        )
    return storage
