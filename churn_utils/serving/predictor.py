"""The part of the API that answers: versions in place, online features, inference log; and their renewal.

Which version answers follows from the ``deployments`` table and the challenger's trial, never from a setting. A renewal
runs beside the answers: it loads, compiles, compares and warms a version up, and puts the new lineup in place with one
assignment, so that each request sees the old one or the new one whole. What may not answer is refused, and who answered
before goes on, unless it is the approval of that very version that no longer holds.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

import pandas as pd
import uuid_utils

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.data.files import identify_file
from churn_utils.errors import ChurnError, DeploymentError, NotReadyError, OnlineStoreError
from churn_utils.evaluation.economics import decide
from churn_utils.features import definitions, online
from churn_utils.features.offline import MAX_AGE_DAYS
from churn_utils.inference.log import InferenceLog
from churn_utils.inference.log_rows import build_entry
from churn_utils.registry import deployments
from churn_utils.serving import ab_test
from churn_utils.serving import refresh as refresh_
from churn_utils.serving.calendar import Calendar
from churn_utils.serving.loaded_models import (
    CHALLENGER,
    CHAMPION,
    SHADOW,
    Lineup,
    Served,
    Versions,
    explain_refusal,
)
from churn_utils.serving.metrics import ServingMetrics
from churn_utils.serving.settings import ServingSettings

NOTHING = "No model is in place yet."
NOT_PROMOTED = "No model is in place yet: no version was promoted in this home."
NO_FEATURES = "No model is in place yet: no features were published in this home."
FULL = "The inference log cannot keep up; no answer is given that would not be recorded."
UNPUBLISHED = "The features are not in the online store yet; try again."
AWAY = "The online store does not answer; try again."
log = logging.getLogger(__name__)


class Engine:
    """Answers requests with the lineup in place and renews it."""

    def __init__(self, serving_settings: ServingSettings, metrics: ServingMetrics) -> None:
        """Prepare everything that needs no table yet; ``start`` does the rest."""
        self.settings, self.metrics = serving_settings, metrics
        self.lineup: Lineup | None = None
        self.refused: int | None = None
        self.newest = ""
        self.log = InferenceLog(serving_settings.log_capacity, serving_settings.log_seconds)
        self._store: online.SqliteStore | online.RedisStore | None = None
        self._versions, self._seen, self._calendar = (
            Versions(),
            None,
            Calendar(serving_settings.today),
        )
        self._judge, self._refusals = refresh_.Judge(), refresh_.Refusals()
        self._database: tuple[int, int] | None = None
        self._absence, self._trouble = (
            NOTHING,
            "",
        )  # why there is no lineup; what is wrong with the online store
        self._wake, self._stopped = (
            asyncio.Event(),
            asyncio.Event(),
        )  # end a renewal's pause, and the renewals
        self._looked_at = time.monotonic()  # when one last succeeded
        self._task: asyncio.Task | None = None
        metrics.log_waiting.set_function(lambda: len(self.log))
        metrics.log_written.set_function(lambda: self.log.written)
        metrics.log_failures.set_function(lambda: self.log.failures)
        metrics.feature_age.set_function(lambda: self._calendar.age_of_newest)
        metrics.features_ahead.set_function(lambda: self._calendar.days_ahead)
        metrics.refresh_age.set_function(lambda: time.monotonic() - self._looked_at)

    async def start(self) -> None:
        """Open the store, start log and renewal; the first lineup is loaded beside, so ``/healthz`` answers at once."""
        if not settings.home().exists():
            log.warning(
                "the home %s does not exist and is made now; is CHURN_HOME right?", settings.home()
            )
        where = self.settings.online_store, self.settings.online_prefix
        self._store = await asyncio.to_thread(online.open_store, *where)
        self.log.start()
        self._task = asyncio.create_task(self._keep_fresh())

    async def stop(self) -> None:
        """Write what waits to be logged, let a renewal that is under way end, close the store that it works with."""
        self._stopped.set()
        self._wake.set()
        await asyncio.to_thread(self.log.close)
        await self._task
        await self._store.close()

    def why_not_ready(self) -> str:
        """Why requests cannot be answered at the moment, in words for those who send them; empty when they can."""
        if self.lineup is None:
            return self._absence
        if not self.log.has_room(2):
            return FULL
        return self._trouble or ("" if self.newest else UNPUBLISHED)

    # --- answering ---------------------------------------------------------------------------------------------------

    async def predict(
        self, customer_ids: Sequence[str], request_id: str
    ) -> tuple[list[dict], list[str]]:
        """Answer for customers from their online features: the answers, and who has none."""
        lineup = self._check_ready(len(customer_ids))
        try:
            rows = await self._store.look_up(customer_ids)
        except NotReadyError as error:
            if self.newest:  # it was there: published anew at once, while what was never there has to be waited for
                self.newest = ""
                self._wake.set()
            raise NotReadyError(UNPUBLISHED) from error
        except OnlineStoreError as error:
            self._trouble = AWAY
            log.error("%s", error)
            raise NotReadyError(AWAY) from error
        known = [
            (customer_id, row.snapshot_date, definitions.complete_inputs(row.stored))
            for customer_id, row in zip(customer_ids, rows, strict=True)
            if row is not None
        ]
        unknown = [
            customer_id for customer_id, row in zip(customer_ids, rows, strict=True) if row is None
        ]
        if unknown:
            self.metrics.unknown.inc(len(unknown))
        return self._answer(lineup, known, "predictions", request_id), unknown

    def score(self, customers: Sequence[dict], request_id: str) -> list[dict]:
        """Answer for customers given whole."""
        lineup = self._check_ready(len(customers))
        known = [
            (
                customer["customer_id"],
                None,
                definitions.complete_inputs(definitions.features_of_customer(customer)),
            )
            for customer in customers
        ]
        return self._answer(lineup, known, "scores", request_id)

    def _check_ready(self, count: int) -> Lineup:
        if self.lineup is None:
            raise NotReadyError(self.why_not_ready() or NOTHING)
        if not self.log.has_room(2 * count):  # each answer may have a shadow
            raise NotReadyError(FULL)
        return self.lineup

    def _answer(
        self, lineup: Lineup, known: list[tuple], route: str, request_id: str
    ) -> list[dict]:
        now, answers, entries = datetime.now(UTC), [], []
        trial = lineup.trial
        for customer_id, as_of, inputs in known:
            served, arm = lineup.champion, CHAMPION
            if trial is not None:
                if trial.mode == ab_test.SHADOW:
                    self._record(
                        entries,
                        lineup.challenger,
                        SHADOW,
                        customer_id,
                        as_of,
                        inputs,
                        route,
                        request_id,
                        now,
                    )
                elif trial.picks(customer_id):
                    served, arm = lineup.challenger, CHALLENGER
            entry = self._record(
                entries, served, arm, customer_id, as_of, inputs, route, request_id, now
            )
            stale = as_of is not None and self._calendar.age_of(as_of) > MAX_AGE_DAYS
            if stale:
                self.metrics.stale.inc()
            answers.append(
                {
                    "prediction_id": entry[0],
                    "customer_id": customer_id,
                    "churn_probability": entry[9],
                    "decision": entry[11],
                    "threshold": entry[10],
                    "expected_value_usd": entry[12],
                    "model_version": served.version,
                    "arm": arm,
                    "features_as_of": as_of,
                    "features_stale": stale,
                }
            )
        self.log.append(entries)
        return answers

    def _record(
        self,
        entries: list,
        served: Served,
        arm: str,
        customer_id: str,
        as_of: str | None,
        inputs: tuple,
        route: str,
        request_id: str,
        now: datetime,
    ) -> tuple:
        probability = served.score(inputs)
        decision, value = decide(probability, served.economics)
        entry = build_entry(
            str(uuid_utils.uuid7()),
            now,
            self._calendar.today,
            request_id,
            route,
            customer_id,
            as_of,
            served.version,
            arm,
            (probability, served.threshold, decision, value),
            inputs,
        )
        entries.append(entry)
        self.metrics.predictions_of(served.version, arm).inc()
        return entry

    def find_receipt(self, prediction_id: str) -> dict | None:
        """What is on record of an answer that was shown, with its probability computed anew; None if there is none."""
        entry = self.log.find(prediction_id)
        if entry is None or entry["arm"] == SHADOW:
            return None
        inputs = {name: entry.pop(name) for name in definitions.MODEL_INPUTS}
        try:
            served = self._versions.load(entry["model_version"])
            # a version that was registered later only has the number of the one that answered, in a home made anew
            again = (
                served.score(tuple(inputs.values()))
                if served.registered_at <= entry["answered_at"]
                else None
            )
        except ChurnError:  # the version is no longer there: the receipt says so and shows the rest
            again = None
        return {**entry, "features": inputs, "reproduced_probability": again}

    # --- renewal -----------------------------------------------------------------------------------------------------

    async def _keep_fresh(self) -> None:
        while not self._stopped.is_set():
            self._wake.clear()
            pause = self._wake
            try:
                await asyncio.to_thread(self.refresh)
                self._looked_at = time.monotonic()
            except Exception:  # a registry that is away must not end the renewal, nor the answers
                self.metrics.refresh_failures.inc()
                log.exception("looking for new versions and features failed; will try again")
                pause = self._stopped  # what fails is not tried at the pace of the requests
            with suppress(TimeoutError):
                await asyncio.wait_for(pause.wait(), self.settings.poll_seconds)

    def refresh(self) -> None:
        """Publish new features, judge the trial on new labels and answers, take up promotions, rollbacks and trials."""
        self._notice_replacement()
        marker = refresh_.read_marker()
        self._read_newest()
        unchanged = marker is not None and (marker, self.newest) == self._seen
        refused_again = (
            self.refused is not None and self._refusals.are_due()
        )  # files that are put back move no marker
        if (
            unchanged
            and not refused_again
            and not self._judge.is_due(self.lineup and self.lineup.trial)
        ):
            return
        if self.settings.publish and tables.exists(online.TABLE):
            done = online.publish_changes(self._store)
            self.metrics.published.inc(done.rows)
            self._read_newest()
        # without its database a registry is not asked: MLflow would make an empty one in the way of who makes it anew
        champion = None if self._database is None else deployments.version_in_effect()
        if champion is None or not self._calendar.today:
            self._withdraw(NOT_PROMOTED if champion is None else NO_FEATURES)
        else:
            self._take_up(champion)
        self._seen = (
            (marker, self.newest) if marker is not None and refresh_.is_settled(marker) else None
        )

    def _read_newest(self) -> None:
        try:
            self.newest, self._trouble = self._store.read_published().newest, ""
        except (NotReadyError, OnlineStoreError):
            self._trouble = AWAY
            raise
        self._calendar.note_newest(self.newest)

    def _notice_replacement(self) -> None:
        """Let go of what was read from files that are no longer those of this home, as when it was made anew."""
        if self._store.reopen_if_replaced():
            log.warning("the online store's file was replaced: opened anew")
        found = identify_file(settings.mlflow_database())
        if self._database not in (None, found):
            log.warning(
                "the registry's database was replaced: nothing that was loaded from the old one answers"
            )
            self._versions.clear()
            self._withdraw(self._absence)
        self._database = found

    def _withdraw(self, absence: str) -> None:
        """Let nobody answer, and say once why: nothing is in effect, or what was belongs to a registry that is gone."""
        self.refused = None
        if self.lineup is not None:
            self.lineup = None
            self.metrics.show_serving({})
        if absence != self._absence:
            self._absence = absence
            log.warning(
                "%s It was looked for in %s: make it with run_all.py, or let CHURN_HOME name the home that is "
                "meant; the API takes it up by itself",
                absence,
                settings.home(),
            )

    def _take_up(self, champion: int) -> None:
        """Put the champion and the trial's challenger in place, each only if it may answer."""
        before = self.lineup
        try:
            approved_by = deployments.check_deployed(champion)["approver"]
            served, self.refused = self._versions.load(champion), None
        except ChurnError as error:
            self._refuse(champion, error)
            self._absence = f"Version {champion} may not answer."
            if (
                before
                and before.champion.version == champion
                and isinstance(error, DeploymentError)
            ):
                self.lineup = (
                    None  # its approval no longer holds; a version that it was to replace goes on
                )
                self.metrics.show_serving({})
            return
        trial = challenger = None
        try:
            trial = self._read_trial()
            challenger = None if trial is None else self._versions.load(trial.version)
        except ChurnError as error:
            self._refuse(trial.version if trial else None, error)
            trial = challenger = None
        after = Lineup(served, approved_by, challenger, trial)
        if after != before:
            if (
                before is None
            ):  # what was imported and loaded stays for good: the collector need not look at it again
                gc.collect()
                gc.freeze()
            self.lineup, self._absence = after, NOTHING
            if self.refused is None:
                self._refusals = refresh_.Refusals()
            self.metrics.show_serving(after.name_arms())
            log.info("now answering: version %d, trial %s", served.version, trial)

    def _read_trial(self) -> ab_test.Trial | None:
        trial, today = ab_test.read_trial(), pd.Timestamp(self._calendar.today)
        if trial is None or trial.mode == ab_test.SHADOW:
            return trial
        if self._judge.judge(trial, today) == ab_test.WORSE:
            log.warning(
                "the trial of version %d was stopped: clearly worse than the champion",
                trial.version,
            )
            return None
        try:
            ab_test.check_may_answer(trial.version, today)
        except ChurnError as error:
            self._refuse(trial.version, error)
            return None
        return trial

    def _refuse(self, version: int | None, error: ChurnError) -> None:
        self.refused = version
        if self._refusals.is_new(version, reason := explain_refusal(version, error)):
            self.metrics.refusals.inc()
            log.error("version %s may not answer: %s", version, reason)
