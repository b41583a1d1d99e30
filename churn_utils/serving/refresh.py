"""Compute the next state of the API from registry, tables, online store and previous state.

Which versions serve follows from the table ``deployments`` and the challenger's A/B test, never
from a setting. A refresh runs beside the requests: it loads, compiles and compares a version
before the state that holds it is put in place. A version that may not serve is refused and the
previous one goes on, unless it is that very version whose approval no longer holds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.data.files import identify_file
from churn_utils.errors import ChurnError, DeploymentError
from churn_utils.features.offer_policy import read_policy
from churn_utils.registry import deployments, promotion, versions
from churn_utils.serving import ab_test, ab_test_result
from churn_utils.serving.loaded_models import LoadedModels, ModelCache
from churn_utils.serving.metrics import ServingMetrics
from churn_utils.serving.online_features import OnlineFeatures
from churn_utils.serving.serving_state import (
    NO_FEATURES,
    NO_MODEL,
    NOT_PROMOTED,
    ServingState,
    refuse,
)

WATCHED_TABLES = ("customer_features", "deployments", "churn_labels")
SETTLED_NS = 1_000_000_000
log = logging.getLogger(__name__)


def read_marker() -> tuple[int, ...] | None:
    """Return what changes whenever the registry or a watched table does.

    It is None without a registry.
    """
    registered = versions.read_change_marker()
    if registered is None:
        return None
    markers = list(registered)
    for name in WATCHED_TABLES:
        markers.append(tables.read_change_marker(name))
    return tuple(markers)


def is_settled(marker: tuple[int, ...]) -> bool:
    """Tell whether no later change can have the same time stamp: a moment has passed since."""
    age_ns = time.time_ns() - max(marker)
    return age_ns > SETTLED_NS


class Refresher:
    """Computes the next states of the API; keeps nothing between two refreshes itself."""

    def __init__(
        self, features: OnlineFeatures, cache: ModelCache, metrics: ServingMetrics, publish: bool
    ) -> None:
        """Take what a refresh works with.

        Args:
            features: online features to read and publish.
            cache: loads versions.
            metrics: counts published rows.
            publish: whether changed features are published too.
        """
        self._features = features
        self._cache = cache
        self._metrics = metrics
        self._publish = publish

    def run(self, previous: ServingState) -> Iterator[ServingState]:
        """Yield the states that follow a previous one, each to be put in place at once.

        There are several because what a step has found holds even if a later step fails: models of
        a registry that was replaced must not go on serving while the new one cannot be read.

        Raises:
            NotReadyError: the online store does not answer.
            OnlineStoreError: the online store cannot be read.
        """
        self._features.reopen_if_replaced()
        state = self._drop_replaced_registry(previous)
        yield state
        marker = read_marker()
        newest = self._features.read_newest()
        state = replace(state, clock=state.clock.see(newest))
        yield state
        if not _is_due(state, marker, newest):
            return
        if self._publish:
            rows = self._features.publish()
            self._metrics.published.inc(rows)
            newest = self._features.read_newest()
            state = replace(state, clock=state.clock.see(newest))
        state = self._load_models(state)
        if marker is None or not is_settled(marker):
            yield replace(state, loaded_from=None)
        else:
            yield replace(state, loaded_from=(marker, newest))

    def _drop_replaced_registry(self, state: ServingState) -> ServingState:
        """Return the state without models if they came from a database that is no longer there."""
        found = identify_file(settings.mlflow_database())
        if state.registry_file not in (None, found):
            log.warning(
                "the registry's database was replaced: no model that was loaded from the old one "
                "serves"
            )
            self._cache.clear()
            state = state.without_models(state.no_model_reason)
        return replace(state, registry_file=found)

    def _load_models(self, state: ServingState) -> ServingState:
        """Return the state with the models that may serve now."""
        # Without its database a registry is not read: MLflow would create an empty one.
        champion = None if state.registry_file is None else deployments.version_in_effect()
        if champion is None:
            return state.without_models(NOT_PROMOTED)
        if not state.clock.today:
            return state.without_models(NO_FEATURES)
        try:
            approval = promotion.check_deployed(champion)
            model = self._cache.load(champion)
        except ChurnError as error:
            return _refuse_champion(state, champion, error)
        models = LoadedModels(model, approval.approver, offer_policy=read_policy())
        served = replace(state, models=models, no_model_reason=NO_MODEL, refusal=None)
        return self._add_challenger(served, models)

    def _add_challenger(self, state: ServingState, models: LoadedModels) -> ServingState:
        """Return the state with the challenger of the running A/B test, if it may serve."""
        running = None
        try:
            running = ab_test.read_running()
            if running is None:
                return state
            if running.mode == ab_test.SPLIT:
                today = pd.Timestamp(state.clock.today)
                verdict, evaluation = ab_test_result.evaluate_split(running, today)
                state = replace(state, evaluation=evaluation)
                if verdict == ab_test_result.WORSE:
                    return state
                ab_test.check_may_serve(running.version, today)
            challenger = self._cache.load(running.version)
        except ChurnError as error:
            version = None if running is None else running.version
            return replace(state, refusal=refuse(version, error))
        models = replace(models, challenger=challenger, ab_test=running)
        return replace(state, models=models)


def _is_due(state: ServingState, marker: tuple[int, ...] | None, newest: str) -> bool:
    """Tell whether anything changed since the models were loaded, or has to be checked again."""
    if marker is None or state.loaded_from != (marker, newest):
        return True
    if state.refusal is not None and state.refusal.is_retry_due:
        return True
    running = None if state.models is None else state.models.ab_test
    return state.evaluation.is_due(running)


def _refuse_champion(state: ServingState, version: int, error: ChurnError) -> ServingState:
    """Return the state after the version in effect was refused: what served before goes on.

    It does not if it is that very version, and its approval no longer holds.
    """
    models = state.models
    approval_is_void = isinstance(error, DeploymentError)
    if models is not None and models.champion.version == version and approval_is_void:
        models = None
    return replace(
        state,
        models=models,
        no_model_reason=f"Version {version} may not serve.",
        refusal=refuse(version, error),
    )
