"""Versions that are ready to answer, and the lineup that they form.

A version's number is not enough to know it by: a home that is made anew counts from 1 again. So what is kept ready
goes by number and training run.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

from churn_utils import settings
from churn_utils.errors import ChurnError, ModelError
from churn_utils.evaluation.economics import Economics
from churn_utils.inference import compiled
from churn_utils.registry import versions
from churn_utils.registry.connection import connect_mlflow
from churn_utils.serving import ab_test

MOST_VERSIONS = 8  # kept ready, so that rollbacks and receipts need not load them again
CHAMPION, CHALLENGER, SHADOW = "champion", "challenger", "shadow"


@dataclass(frozen=True)
class Served:
    """A version that is loaded, compiled, compared with its model and ready to answer."""

    version: int
    score: compiled.Scorer
    threshold: float
    economics: Economics
    trained_as_of: str
    family: str
    registered_at: datetime  # in UTC


@dataclass(frozen=True)
class Lineup:
    """Who answers, and on whose word: replaced as a whole, never changed."""

    champion: Served
    approved_by: str
    challenger: Served | None = None
    trial: ab_test.Trial | None = None

    def name_arms(self) -> dict[str, int]:
        """Version of each arm that answers, or is asked in the shadow."""
        arms = {CHAMPION: self.champion.version}
        if self.trial is not None:
            arms[SHADOW if self.trial.mode == ab_test.SHADOW else CHALLENGER] = (
                self.challenger.version
            )
        return arms


class Versions:
    """Loads versions and keeps the last few ready."""

    def __init__(self) -> None:
        """Start with none."""
        self._ready: dict[tuple[int, str], Served] = {}
        self._loading = threading.Lock()

    def load(self, version: int) -> Served:
        """Load, compile and compare a version, or take it from those that are ready.

        Raises:
            ModelError: this home has no registry, or no such version in it.
            ModelError: there is no compiled form, or it differs from the model.
        """
        if not settings.mlflow_database().exists():  # MLflow would make an empty one
            raise ModelError(f"there is no registry in {settings.mlflow_folder()}.")
        with self._loading:
            info = versions.read_version(version)
            key = (version, info.run_id)
            if key not in self._ready:
                served = _load(info)
                while len(self._ready) >= MOST_VERSIONS:
                    self._ready.pop(next(iter(self._ready)))
                self._ready[key] = served
            return self._ready[key]

    def clear(self) -> None:
        """Forget every version."""
        with self._loading:
            self._ready.clear()


def explain_refusal(version: int | None, error: ChurnError) -> str:
    """Why a version may not answer, for the log; where the home was moved, that rather than what followed from it."""
    missing = None if version is None else _find_missing_folder(version)
    if missing is None:
        return str(error)
    return (
        f"its files belong in {missing}, where the registry of {settings.home()} has them, and there is nothing. A "
        "home cannot be moved or copied, because MLflow keeps absolute paths: run it in the place where it was made, "
        "or make it anew (run_all.py --fresh)."
    )


def _find_missing_folder(version: int) -> Path | None:
    """Folder of a version's evidence or model that is not where the registry says, None where both are."""
    mlflow = connect_mlflow()
    client = mlflow.MlflowClient()
    try:
        run_id = client.get_model_version(settings.MODEL_NAME, str(version)).run_id
        addresses = [
            client.get_run(run_id).info.artifact_uri,
            client.get_model_version_download_uri(settings.MODEL_NAME, str(version)),
        ]
    except mlflow.MlflowException:
        return None
    folders = [Path(url2pathname(urlparse(address).path)) for address in addresses]
    return next((folder for folder in folders if not folder.exists()), None)


def _load(info: versions.ModelVersion) -> Served:
    economics = info.economics
    return Served(
        version=info.version,
        score=compiled.load_compiled(info),
        threshold=economics.threshold,
        economics=economics,
        trained_as_of=info.params.get("as_of", ""),
        family=info.params.get("family", ""),
        registered_at=info.registered_at,
    )
