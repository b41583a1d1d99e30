"""What the API counts for Prometheus, in a registry of its own for each application."""

from __future__ import annotations

from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

BUCKETS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class ServingMetrics:
    """The API's metrics; ``registry`` is what ``/metrics`` shows."""

    def __init__(self) -> None:
        """Make every metric, at zero."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        counter, gauge = self._counter, self._gauge
        self.seconds = Histogram(
            "churn_request_seconds",
            "Time from a request's arrival to its answer's last byte",
            ["route", "method", "status"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.predictions = counter(
            "churn_predictions", "Answers by model version and arm", ["model_version", "arm"]
        )
        self.unknown = counter("churn_unknown_customers", "Customers asked for without features")
        self.stale = counter("churn_stale_features", "Answers from features older than allowed")
        self.changes = counter("churn_lineup_changes", "Promotions, rollbacks and trials taken up")
        self.refusals = counter(
            "churn_refused_versions", "Versions that were put in place but may not answer"
        )
        self.refresh_failures = counter(
            "churn_refresh_failures", "Looks at registry and tables that failed"
        )
        self.published = counter("churn_published_rows", "Rows published into the online store")
        self.serving = gauge(
            "churn_model_serving", "1 for each version that answers", ["model_version", "arm"]
        )
        self.feature_age = gauge(
            "churn_feature_age_days", "Age of the newest features on the simulated today"
        )
        self.features_ahead = gauge(
            "churn_features_ahead_days", "Days that the newest features are after CHURN_TODAY"
        )
        self.refresh_age = gauge(
            "churn_refresh_age_seconds",
            "Time since features and versions were last looked for "
            "with success; it grows when the renewal has stopped",
        )
        self.log_waiting = gauge(
            "churn_log_waiting", "Answers that are not in the inference log yet"
        )
        self.log_written = gauge(
            "churn_log_written", "Answers written to the inference log since the start"
        )
        self.log_failures = gauge(
            "churn_log_failures", "Writes of the inference log that failed and were repeated"
        )
        self.predictions_of = lru_cache(
            self.predictions.labels
        )  # finding a label's child costs more than counting
        self.seconds_of = lru_cache(self.seconds.labels)

    def show_serving(self, arms: dict[str, int]) -> None:
        """Show which version answers in each arm from now on, and count the change."""
        self.changes.inc()
        self.serving.clear()
        for arm, version in arms.items():
            self.serving.labels(version, arm).set(1)

    def _counter(self, name: str, text: str, labels: list[str] | tuple = ()) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: list[str] | tuple = ()) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)
