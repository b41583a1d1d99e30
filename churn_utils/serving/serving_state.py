"""What requests are served with: one frozen state that a refresh replaces as a whole."""

from __future__ import annotations

import gc
import logging
import time
from dataclasses import dataclass, field, replace

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.serving.ab_test import SPLIT, AbTest
from churn_utils.serving.feature_clock import FeatureClock
from churn_utils.serving.loaded_models import LoadedModels
from churn_utils.serving.metrics import ServingMetrics
from churn_utils.serving.refusal import Refusal

NO_MODEL = "No model is in place yet."
NOT_PROMOTED = "No model is in place yet: no version was promoted in this home."
NO_FEATURES = "No model is in place yet: no features were published in this home."
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """The last evaluation of a split.

    Attributes:
        log_marker: change marker of the inference log that it read.
        next_at: earliest time of the next one, in seconds of ``time.monotonic``.
    """

    log_marker: int = 0
    next_at: float = 0.0

    def is_due(self, running: AbTest | None) -> bool:
        """Tell whether predictions of a split were logged since, and long enough ago."""
        if running is None or running.mode != SPLIT or time.monotonic() < self.next_at:
            return False
        return tables.read_change_marker("inference_log") != self.log_marker


@dataclass(frozen=True)
class ServingState:
    """What requests are served with; a request reads the reference once and sees one state.

    Attributes:
        clock: simulated today.
        models: the champion and the challenger; None if nothing may serve.
        no_model_reason: for callers, why ``models`` is None.
        refusal: the version that is in effect but may not serve.
        evaluation: the last evaluation of the running split.
        registry_file: device and inode of the registry's database; None without one.
        loaded_from: change markers of registry and tables, and date of the newest features, that
            the rest was read from; None if they have to be read again.
    """

    clock: FeatureClock = field(default_factory=FeatureClock)
    models: LoadedModels | None = None
    no_model_reason: str = NO_MODEL
    refusal: Refusal | None = None
    evaluation: Evaluation = field(default_factory=Evaluation)
    registry_file: tuple[int, int] | None = None
    loaded_from: tuple[tuple[int, ...], str] | None = None

    @property
    def refused_version(self) -> int | None:
        """The version that is in effect but may not serve."""
        return None if self.refusal is None else self.refusal.version

    def without_models(self, reason: str) -> ServingState:
        """Return the state in which nothing serves, for a reason that callers are told."""
        return replace(self, models=None, no_model_reason=reason, refusal=None)


def report_changes(before: ServingState, after: ServingState, metrics: ServingMetrics) -> None:
    """Write to the log and count what differs between two states."""
    if after.models != before.models:
        _report_models(before, after, metrics)
    if after.refusal is not None and after.refusal != before.refusal:
        metrics.refusals.inc()
        log.error("version %s may not serve: %s", after.refusal.version, after.refusal.reason)
    if after.no_model_reason != before.no_model_reason:
        _report_missing_model(after.no_model_reason)
    if after.clock != before.clock and after.clock.days_ahead:
        log.warning(
            "CHURN_TODAY is %s, but there are features of %s: they are used, and ages count from "
            "the setting; correct it, or leave it out",
            after.clock.setting,
            after.clock.newest_seen,
        )


def _report_models(before: ServingState, after: ServingState, metrics: ServingMetrics) -> None:
    if after.models is None:
        metrics.show_serving({})
        return
    if before.models is None:
        # What was imported and loaded stays for good: the collector need not check it again.
        gc.collect()
        gc.freeze()
    metrics.show_serving(after.models.list_arms())
    log.info(
        "now serving: version %d, A/B test %s", after.models.champion.version, after.models.ab_test
    )


def _report_missing_model(reason: str) -> None:
    if reason in (NOT_PROMOTED, NO_FEATURES):
        log.warning(
            "%s Looked for in %s: make the home with run_all.py, or set CHURN_HOME to another "
            "one; the API notices by itself",
            reason,
            settings.home(),
        )
