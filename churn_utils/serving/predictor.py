"""Predictor: scores customers with the state in place, logs each prediction, refreshes the state.

A refresh runs beside the requests and replaces the state with one assignment, so each request sees
the old one or the new one whole.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from churn_utils import settings
from churn_utils.errors import ChurnError, NotReadyError, UsageError
from churn_utils.features import definitions
from churn_utils.inference.log import InferenceLog
from churn_utils.serving.ab_test import SHADOW
from churn_utils.serving.feature_clock import FeatureClock
from churn_utils.serving.loaded_models import LoadedModels, ModelCache
from churn_utils.serving.metrics import ServingMetrics
from churn_utils.serving.online_features import OnlineFeatures
from churn_utils.serving.prediction import Call, Customer, predict_customer
from churn_utils.serving.refresh import Refresher
from churn_utils.serving.refresh_loop import RefreshLoop
from churn_utils.serving.serving_state import NO_MODEL, ServingState, report_changes
from churn_utils.serving.settings import ServingSettings

FULL_LOG = "The inference log cannot keep up; no answer is given that would not be recorded."
SCORES = "scores"  # the route of customers who are given whole
ENTRIES_PER_CUSTOMER = 2  # a prediction, and that of a shadow
log = logging.getLogger(__name__)


class Answers(NamedTuple):
    """What is answered to a request for customers by id.

    Attributes:
        predictions: one document per scored customer, with the fields of ``schemas.Prediction``.
        unknown: ids of customers without features.
        incomplete: ids of those whose stored row lacks an input of the model, because the feature
            was defined later.
        damaged: ids of those whose stored row cannot be read, or holds impossible values.
    """

    predictions: list[dict]
    unknown: list[str]
    incomplete: list[str]
    damaged: list[str]


class Predictor:
    """Scores customers with the ``state`` in place, which only a refresh replaces."""

    def __init__(self, serving_settings: ServingSettings, metrics: ServingMetrics) -> None:
        """Prepare what needs no table and no store yet; ``start`` does the rest."""
        self.metrics = metrics
        self.state = ServingState(clock=FeatureClock(serving_settings.today))
        self.cache = ModelCache()
        self.log = InferenceLog(
            serving_settings.log_capacity,
            serving_settings.log_seconds,
            serving_settings.log_durable,
            serving_settings.log_retention_months,
        )
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
        self, customer_ids: Sequence[str], request_id: str, caller: str = ""
    ) -> Answers:
        """Score customers from their online features.

        Raises:
            NotReadyError: no model, no features, or no room in the inference log.
        """
        state, models = self._check_ready(len(customer_ids))
        rows = await self.features.read(customer_ids)
        known: list[Customer] = []
        unknown: list[str] = []
        damaged: list[str] = []
        for customer_id, row in zip(customer_ids, rows, strict=True):
            if row is None:
                unknown.append(customer_id)
            elif row.damage:
                damaged.append(customer_id)
                log.error("the online row of %s cannot be used: %s", customer_id, row.damage)
            else:
                inputs = definitions.complete_inputs(row.stored)
                known.append((customer_id, row.snapshot_date, inputs))
        if unknown:
            self.metrics.unknown.inc(len(unknown))
        if damaged:
            self.metrics.damaged.inc(len(damaged))
        call = Call(request_id, caller, "predictions", datetime.now(UTC), state.clock)
        documents, incomplete = self._score(known, models, call)
        await self.log.sync()
        return Answers(documents, unknown, incomplete, damaged)

    async def score(
        self,
        customers: Sequence[dict],
        request_id: str,
        caller: str = "",
        route: str = SCORES,
        version: int | None = None,
    ) -> list[dict]:
        """Score customers given whole, with the fields of ``request_schemas.Customer``.

        Args:
            customers: to be scored.
            request_id: of the request, for the log.
            caller: name of the API key; empty without.
            route: by which the customers came, for the log.
            version: that alone may answer; None: the one that is in place.

        Returns:
            One document per customer, with the fields of ``schemas.Prediction``.

        Raises:
            NotReadyError: no model, or no room in the inference log.
            UsageError: another version answers for one of the customers.
        """
        state, models = self._check_ready(len(customers))
        if version is not None:
            _check_version(version, models, customers)
        given: list[Customer] = []
        for customer in customers:
            stored = definitions.features_of_customer(customer)
            inputs = definitions.complete_inputs(stored)
            given.append((customer["customer_id"], None, inputs))
        call = Call(request_id, caller, route, datetime.now(UTC), state.clock)
        documents, _ = self._score(given, models, call)  # computed just now, so complete
        await self.log.sync()
        return documents

    def find_receipt(self, prediction_id: str, caller: str = "") -> dict | None:
        """Find the receipt of a prediction that was returned to a caller.

        A prediction that was returned to the holder of a key has a receipt for that key alone.

        Returns:
            The fields of ``schemas.Receipt``: the columns of the inference log, with the model
            inputs under ``features`` (those that were defined by then), and
            ``reproduced_probability``. None if there is no such prediction for the caller, or it
            was a shadow's, which was never shown. The probability that is computed again is None
            if the version no longer exists.
        """
        entry = self.log.find(prediction_id)
        if entry is None or entry["arm"] == SHADOW:
            return None
        if entry["caller"] not in (caller, "", None):  # null in entries of before keys had names
            return None
        inputs = {name: entry.pop(name, None) for name in definitions.MODEL_INPUTS}
        reproduced = self._reproduce(entry, tuple(inputs.values()))
        features = {name: value for name, value in inputs.items() if value is not None}
        return {**entry, "features": features, "reproduced_probability": reproduced}

    def _reproduce(self, entry: dict, inputs: tuple) -> float | None:
        """Compute a logged probability again; None if the version no longer exists.

        A version that was registered after the prediction has only its number in common with the
        one that made it: the home is a new one.
        """
        try:
            model = self.cache.load(entry["model_version"])
        except ChurnError:
            return None
        if model.registered_at > entry["answered_at"]:
            return None
        return model.predict_probability(inputs)

    def _check_ready(self, count: int) -> tuple[ServingState, LoadedModels]:
        """Return the state to serve a request with, and its models."""
        state = self.state
        if state.models is None:
            raise NotReadyError(state.no_model_reason or NO_MODEL)
        if not self.log.has_room(ENTRIES_PER_CUSTOMER * count):
            raise NotReadyError(FULL_LOG)
        return state, state.models

    def _score(
        self, customers: list[Customer], models: LoadedModels, call: Call
    ) -> tuple[list[dict], list[str]]:
        """Score customers and log every prediction.

        Returns:
            The documents of the predictions that are shown, and the ids of customers that lack an
            input of the model that serves them.
        """
        entries: list[tuple] = []
        documents: list[dict] = []
        incomplete: list[str] = []
        count_prediction = self.metrics.predictions_of
        shadow = models.shadow
        for customer in customers:
            if shadow is not None and shadow.can_score(customer[2]):
                _, entry = predict_customer(customer, shadow, SHADOW, call, models)
                entries.append(entry)
                count_prediction(shadow.version, SHADOW).inc()
            model, arm = models.choose(customer[0])
            if not model.can_score(customer[2]):
                incomplete.append(customer[0])
                continue
            document, entry = predict_customer(customer, model, arm, call, models)
            documents.append(document)
            entries.append(entry)
            count_prediction(model.version, arm).inc()
            if document["features_stale"]:
                self.metrics.stale.inc()
        self.log.append(entries)
        if incomplete:
            self.metrics.incomplete.inc(len(incomplete))
        return documents, incomplete


def _check_version(version: int, models: LoadedModels, customers: Sequence[dict]) -> None:
    """Check that a version answers for every customer.

    Raises:
        UsageError: another one does.
    """
    for customer in customers:
        customer_id = customer["customer_id"]
        model, arm = models.choose(customer_id)
        if model.version != version:
            raise UsageError(
                f"Version {version} does not answer for {customer_id}: "
                f"version {model.version} ({arm}) does."
            )
