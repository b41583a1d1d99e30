"""What requests are served with: one frozen state that a refresh replaces as a whole."""

from __future__ import annotations

import gc
import logging
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from churn_utils import settings
from churn_utils.errors import ChurnError
from churn_utils.registry.connection import connect_mlflow, path_of_uri
from churn_utils.serving.ab_test_result import Evaluation
from churn_utils.serving.feature_clock import FeatureClock
from churn_utils.serving.loaded_models import LoadedModels
from churn_utils.serving.metrics import ServingMetrics

NO_MODEL = "No model is in place yet."
NOT_PROMOTED = "No model is in place yet: no version was promoted in this home."
NO_FEATURES = "No model is in place yet: no features were published in this home."
RETRY_SECONDS = 10.0
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Refusal:
    """A version that was refused; two refusals are equal if version and reason are."""

    version: int | None  # None if it could not be read either
    reason: str  # for the log, never for callers
    checked_at: float = field(default_factory=time.monotonic, compare=False)

    @property
    def is_retry_due(self) -> bool:
        """Tell whether to check again: files that are put back change no marker."""
        return self.version is not None and time.monotonic() > self.checked_at + RETRY_SECONDS


def refuse(version: int | None, error: ChurnError) -> Refusal:
    """Return the refusal of a version; its reason names a missing folder, not what follows."""
    missing = None if version is None else _find_missing_folder(version)
    if missing is None:
        return Refusal(version, str(error))
    return Refusal(
        version,
        f"its files belong in {missing}, as the registry of {settings.home()} says, and that "
        "folder does not exist. Restore the home from a copy, or make a new one (run_all.py "
        "--fresh).",
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
        folder = path_of_uri(uri)
        if not folder.exists():
            return folder
    return None


@dataclass(frozen=True)
class ServingState:
    """What requests are served with; a request reads the reference once and sees one state."""

    clock: FeatureClock = field(default_factory=FeatureClock)
    models: LoadedModels | None = None  # None if nothing may serve
    no_model_reason: str = NO_MODEL  # for callers, why there are no models
    refusal: Refusal | None = None  # of the version that is in effect but may not serve
    evaluation: Evaluation = field(default_factory=Evaluation)
    registry_file: tuple[int, int] | None = None  # device and inode of the registry's database
    # change markers of registry and tables, and date of the newest features, that the rest was read
    # from; None if they have to be read again
    loaded_from: tuple[tuple[int, ...], str] | None = None

    @property
    def refused_version(self) -> int | None:
        """The version that is in effect but may not serve."""
        return None if self.refusal is None else self.refusal.version

    def without_models(self, reason: str) -> ServingState:
        """Return the state in which nothing serves.

        Callers are told the reason.
        """
        return replace(self, models=None, no_model_reason=reason, refusal=None)


def report_changes(before: ServingState, after: ServingState, metrics: ServingMetrics) -> None:
    """Write to the log and count what differs between two states."""
    if after.models != before.models:
        _report_models(before, after, metrics)
    refusal = after.refusal
    if refusal is not None and refusal != before.refusal:
        metrics.refusals.inc()
        log.error("version %s may not serve: %s", refusal.version, refusal.reason)
    reason = after.no_model_reason
    if reason != before.no_model_reason and reason in (NOT_PROMOTED, NO_FEATURES):
        log.warning(
            "%s Looked for in %s: make the home with run_all.py, or set CHURN_HOME to another "
            "one; the API notices by itself",
            reason,
            settings.home(),
        )
    clock = after.clock
    if clock != before.clock and clock.days_ahead:
        log.warning(
            "CHURN_TODAY is %s, but there are features of %s: they are used, and ages count from "
            "the setting; correct it, or leave it out",
            clock.setting,
            clock.newest_seen,
        )


def _report_models(before: ServingState, after: ServingState, metrics: ServingMetrics) -> None:
    """Show and log which versions serve from now on."""
    if after.models is None:
        metrics.show_serving({})
        return
    if before.models is None:
        # What was imported and loaded stays for good: the collector need not check it again.
        gc.collect()
        gc.freeze()
    metrics.show_serving(after.models.list_arms())
    champion = after.models.champion
    log.info("now serving: version %d, A/B test %s", champion.version, after.models.ab_test)
