"""Count requests in the metrics, and keep a line of each in the access log."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.types import Scope

from churn_utils.serving.log_lines import LineWriter
from churn_utils.serving.metrics import ServingMetrics
from churn_utils.serving.request_checks import client_address
from churn_utils.serving.trace_context import Trace

# counted by their path also when refused before a route is found
COUNTED = {"/v1/predictions", "/v1/scores", "/v1/model", "/invocations"}
COUNTED_METHODS = ("GET", "POST", "HEAD")
MOST_PATH_CHARACTERS = 200  # of a path in the access log


def record_request(
    scope: Scope,
    status: int,
    seconds: float,
    trace: Trace,
    metrics: ServingMetrics,
    access_log: LineWriter | None,
) -> None:
    """Count the request and keep its line, if there is an access log.

    The label of the method is ``other`` for one that no route has.
    """
    method = scope["method"]
    counted_method = method if method in COUNTED_METHODS else "other"
    histogram = metrics.seconds_of(_route_label(scope), counted_method, status)
    histogram.observe(seconds)
    if access_log is None:
        return
    access_log.append(
        {
            "time": datetime.now(UTC),
            "request_id": scope["state"]["request_id"],
            "method": method,
            "path": scope["path"][:MOST_PATH_CHARACTERS],
            "status": status,
            "milliseconds": round(1000 * seconds, 3),
            "client": client_address(scope),
            "caller": scope["state"]["caller"],
            **trace.ids,
        }
    )


def _route_label(scope: Scope) -> str:
    """Return the pattern of the route, so that ids in paths do not multiply the series."""
    pattern = getattr(scope.get("route"), "path", None)
    if pattern:
        return pattern
    path = scope["path"]
    return path if path in COUNTED else "other"
