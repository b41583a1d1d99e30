"""Predictor: scores customers with the state in place, logs each prediction, refreshes the state.

A refresh runs beside the requests and replaces the state with one assignment, so each request sees
the old one or the new one whole.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from churn_utils import settings
from churn_utils.errors import NotReadyError
from churn_utils.features import definitions
from churn_utils.inference.log import InferenceLog
from churn_utils.serving.ab_test import SHADOW
from churn_utils.serving.feature_clock import FeatureClock
from churn_utils.serving.loaded_models import LoadedModels, ModelCache
from churn_utils.serving.metrics import ServingMetrics
from churn_utils.serving.online_features import OnlineFeatures
from churn_utils.serving.predictions import Call, Customer, predict_customer
from churn_utils.serving.refresh import Refresher
from churn_utils.serving.refresh_loop import RefreshLoop
from churn_utils.serving.serving_state import NO_MODEL, ServingState, report_changes
from churn_utils.serving.settings import ServingSettings

FULL_LOG = "The inference log cannot keep up; no answer is given that would not be recorded."
ENTRIES_PER_CUSTOMER = 2  # a prediction, and that of a shadow
log = logging.getLogger(__name__)


class Predictor:
    """Scores customers with the state in place.

    Attributes:
        state: what requests are served with; only a refresh replaces it.
        features: the online features.
        cache: the versions that were loaded.
        log: the inference log.
    """

    def __init__(self, serving_settings: ServingSettings, metrics: ServingMetrics) -> None:
        """Prepare what needs no table and no store yet; ``start`` does the rest."""
        self.settings = serving_settings
        self.metrics = metrics
        self.state = ServingState(clock=FeatureClock(serving_settings.today))
        self.cache = ModelCache()
        self.log = InferenceLog(serving_settings.log_capacity, serving_settings.log_seconds)
        self._loop = RefreshLoop(self.refresh, serving_settings.poll_seconds, metrics)
        self.features = OnlineFeatures(
            serving_settings.online_store,
            serving_settings.online_prefix,
            on_loss=self._loop.wake,
        )
        self._refresher = Refresher(self.features, self.cache, metrics, serving_settings.publish)
        metrics.log_waiting.set_function(lambda: len(self.log))
        metrics.log_written.set_function(lambda: self.log.written)
        metrics.log_failures.set_function(lambda: self.log.failures)
        metrics.feature_age.set_function(lambda: self.state.clock.age_of_newest)
        metrics.features_ahead.set_function(lambda: self.state.clock.days_ahead)
        metrics.refresh_age.set_function(lambda: self._loop.seconds_since_success)

    async def start(self) -> None:
        """Open the store, start the log and the refreshes.

        The first state with models comes from a refresh, so ``/healthz`` responds at once.
        """
        if not settings.home().exists():
            log.warning(
                "the home %s does not exist and is made now; is CHURN_HOME right?", settings.home()
            )
        await asyncio.to_thread(self.features.open)
        self.log.start()
        self._loop.start()

    async def stop(self) -> None:
        """Write what waits to be logged, let the refresh under way end, close the store.

        The store is closed last: a refresh works with it.
        """
        self._loop.stop()
        await asyncio.to_thread(self.log.close)
        await self._loop.join()
        await self.features.close()

    def refresh(self) -> None:
        """Put the next state in place, as registry, tables and online store are now."""
        for state in self._refresher.run(self.state):
            report_changes(self.state, state, self.metrics)
            self.state = state

    def why_not_ready(self) -> str:
        """Return why requests cannot be served at the moment, for callers; empty if they can."""
        state = self.state
        if state.models is None:
            return state.no_model_reason
        if not self.log.has_room(ENTRIES_PER_CUSTOMER):
            return FULL_LOG
        return self.features.problem

    async def predict(
        self, customer_ids: Sequence[str], request_id: str
    ) -> tuple[list[dict], list[str]]:
        """Score customers from their online features.

        Returns:
            One document per known customer, with the fields of ``schemas.Prediction``, and the ids
            of the unknown ones.

        Raises:
            NotReadyError: no model, no features, or no room in the inference log.
        """
        state, models = self._check_ready(len(customer_ids))
        rows = await self.features.read(customer_ids)
        known: list[Customer] = []
        unknown: list[str] = []
        for customer_id, row in zip(customer_ids, rows, strict=True):
            if row is None:
                unknown.append(customer_id)
            else:
                inputs = definitions.complete_inputs(row.stored)
                known.append(Customer(customer_id, row.snapshot_date, inputs))
        if unknown:
            self.metrics.unknown.inc(len(unknown))
        call = Call(request_id, "predictions", datetime.now(UTC), state.clock)
        return self._score(known, models, call), unknown

    def score(self, customers: Sequence[dict], request_id: str) -> list[dict]:
        """Score customers whose features the caller sent.

        Args:
            customers: the fields of ``schemas.Customer``.
            request_id: for the inference log.

        Returns:
            One document per customer, with the fields of ``schemas.Prediction``.

        Raises:
            NotReadyError: no model, or no room in the inference log.
        """
        state, models = self._check_ready(len(customers))
        given = []
        for customer in customers:
            stored = definitions.features_of_customer(customer)
            inputs = definitions.complete_inputs(stored)
            given.append(Customer(customer["customer_id"], None, inputs))
        call = Call(request_id, "scores", datetime.now(UTC), state.clock)
        return self._score(given, models, call)

    def _check_ready(self, count: int) -> tuple[ServingState, LoadedModels]:
        """Return the state to serve a request with, and its models."""
        state = self.state
        if state.models is None:
            raise NotReadyError(state.no_model_reason or NO_MODEL)
        if not self.log.has_room(ENTRIES_PER_CUSTOMER * count):
            raise NotReadyError(FULL_LOG)
        return state, state.models

    def _score(self, customers: list[Customer], models: LoadedModels, call: Call) -> list[dict]:
        """Score customers, log every prediction, return the documents of those that are shown."""
        entries: list[tuple] = []
        documents: list[dict] = []
        count_prediction = self.metrics.predictions_of
        shadow = models.shadow
        for customer in customers:
            if shadow is not None:
                _, entry = predict_customer(customer, shadow, SHADOW, call)
                entries.append(entry)
                count_prediction(shadow.version, SHADOW).inc()
            model, arm = models.choose(customer.customer_id)
            document, entry = predict_customer(customer, model, arm, call)
            documents.append(document)
            entries.append(entry)
            count_prediction(model.version, arm).inc()
            if document["features_stale"]:
                self.metrics.stale.inc()
        self.log.append(entries)
        return documents
