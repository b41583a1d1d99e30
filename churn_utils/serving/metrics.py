"""Prometheus metrics of the API, in a registry of its own for each application."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache, partial

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    Metric,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

VERSION = "1.0.0"  # of the API

BUCKETS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
ARM_LABELS = ("model_version", "arm")


class ReadCounter(Collector):
    """A counter that is kept elsewhere and read when the metrics are shown."""

    def __init__(self, name: str, description: str) -> None:
        """Show 0 until ``set_function``."""
        self._name = name
        self._description = description
        self._read: Callable[[], int] = int

    def set_function(self, read: Callable[[], int]) -> None:
        """Show what a function returns from now on."""
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """Return the counter as it is now."""
        yield CounterMetricFamily(self._name, self._description, value=self._read())


class ServingMetrics:
    """The API's metrics; ``registry`` is what ``/metrics`` shows."""

    def __init__(self) -> None:
        """Create every metric, at zero."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._count = partial(Counter, registry=self.registry)
        self._gauge = partial(Gauge, registry=self.registry)
        build = Info("churn_build", "Version of the API", registry=self.registry)
        build.info({"version": VERSION})
        self._add_requests()
        self._add_refreshes()
        self._add_log()
        self._add_access_log()

    def _read_count(self, name: str, description: str) -> ReadCounter:
        """Create a counter that is kept elsewhere."""
        counter = ReadCounter(name, description)
        self.registry.register(counter)
        return counter

    def _add_requests(self) -> None:
        self.in_progress = self._gauge(
            "churn_requests_in_progress", "Requests that arrived and were not answered yet"
        )
        self.seconds = Histogram(
            "churn_request_seconds",
            "Time from a request's arrival to its answer's last byte",
            ["route", "method", "status"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.refused_heads = self._count(
            "churn_refused_heads",
            "Requests refused before the application: malformed, too large or too slow a head",
            ["status"],
        )
        self.predictions = self._count(
            "churn_predictions", "Predictions by model version and arm", ARM_LABELS
        )
        # cached, because finding a metric's child by its labels costs more than counting
        self.seconds_of = lru_cache(self.seconds.labels)
        self.predictions_of = lru_cache(self.predictions.labels)
        self.unknown = self._count(
            "churn_unknown_customers", "Requested customers without features"
        )
        self.damaged = self._count(
            "churn_damaged_rows",
            "Requested customers whose online row cannot be read or holds impossible values",
        )
        self.incomplete = self._count(
            "churn_incomplete_customers",
            "Requested customers whose row is older than a feature that the model needs",
        )
        self.stale = self._count(
            "churn_stale_features", "Predictions from features older than allowed"
        )

    def _add_refreshes(self) -> None:
        self.serving = self._gauge(
            "churn_model_serving", "1 for each version that answers", ARM_LABELS
        )
        self.changes = self._count(
            "churn_lineup_changes", "Changes of champion or A/B test that the API has followed"
        )
        self.refusals = self._count(
            "churn_refused_versions", "Versions that were put in place but may not answer"
        )
        self.refresh_failures = self._count(
            "churn_refresh_failures", "Refreshes from registry and tables that failed"
        )
        self.refresh_age = self._gauge(
            "churn_refresh_age_seconds",
            "Time since the last refresh that succeeded; it grows when refreshing has stopped",
        )
        self.published = self._count("churn_published_rows", "Rows published into the online store")
        self.feature_age = self._gauge(
            "churn_feature_age_days", "Age of the newest features on the simulated today"
        )
        self.features_ahead = self._gauge(
            "churn_features_ahead_days", "Days that the newest features are after CHURN_TODAY"
        )

    def _add_log(self) -> None:
        self.log_waiting = self._gauge(
            "churn_log_waiting", "Predictions that are not in the inference log yet"
        )
        self.log_written = self._read_count(
            "churn_log_written", "Predictions written to the inference log since the start"
        )
        self.log_failures = self._read_count(
            "churn_log_failures", "Writes of the inference log that failed and were repeated"
        )

    def count_refused_head(self, status: int) -> None:
        """Count a request that was refused before the application saw it."""
        self.refused_heads.labels(int(status)).inc()

    def _add_access_log(self) -> None:
        self.lines_dropped = self._read_count(
            "churn_access_log_dropped", "Lines of the access log that could not be written"
        )

    def show_serving(self, arms: dict[str, int]) -> None:
        """Show which version answers in each arm from now on, and count the change."""
        self.changes.inc()
        self.serving.clear()
        for arm, version in arms.items():
            self.serving.labels(version, arm).set(1)
