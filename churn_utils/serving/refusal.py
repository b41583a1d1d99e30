"""Versions that are in effect but may not serve, and the reason for the log."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

from churn_utils import settings
from churn_utils.errors import ChurnError
from churn_utils.registry.connection import connect_mlflow

RETRY_SECONDS = 10.0


@dataclass(frozen=True)
class Refusal:
    """A version that was refused; two refusals are equal if version and reason are.

    Attributes:
        version: that may not serve; None if the version could not be read either.
        reason: for the log, never for callers.
        checked_at: time of the last check, in seconds of ``time.monotonic``.
    """

    version: int | None
    reason: str
    checked_at: float = field(default_factory=time.monotonic, compare=False)

    @property
    def is_retry_due(self) -> bool:
        """Tell whether to check again: files that are put back change no marker."""
        if self.version is None:
            return False
        return time.monotonic() > self.checked_at + RETRY_SECONDS


def refuse(version: int | None, error: ChurnError) -> Refusal:
    """Return the refusal of a version; its reason names a moved home rather than what follows."""
    missing = None if version is None else _find_missing_folder(version)
    if missing is None:
        return Refusal(version, str(error))
    return Refusal(
        version,
        f"its files belong in {missing}, as the registry of {settings.home()} says, and that "
        "folder does not exist. A home cannot be moved or copied, because MLflow stores absolute "
        "paths: use it in the place where it was made, or make a new one (run_all.py --fresh).",
    )


def _find_missing_folder(version: int) -> Path | None:
    """Return the folder of a version's evidence or model that does not exist; else None."""
    mlflow = connect_mlflow()
    client = mlflow.MlflowClient()
    try:
        run_id = client.get_model_version(settings.MODEL_NAME, str(version)).run_id
        evidence_uri = client.get_run(run_id).info.artifact_uri
        model_uri = client.get_model_version_download_uri(settings.MODEL_NAME, str(version))
    except mlflow.MlflowException:
        return None
    for uri in (evidence_uri, model_uri):
        folder = Path(url2pathname(urlparse(uri).path))
        if not folder.exists():
            return folder
    return None
