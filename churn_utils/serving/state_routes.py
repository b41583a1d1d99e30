"""Routes that show the state of the API: model, health, readiness, metrics."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from churn_utils.errors import NotReadyError
from churn_utils.serving import schemas
from churn_utils.serving.direct_route import json_response
from churn_utils.serving.metrics import ServingMetrics
from churn_utils.serving.openapi import document
from churn_utils.serving.predictor import Predictor
from churn_utils.serving.readiness import check_ready
from churn_utils.serving.shutdown import Drain

METRICS_PAGE = {
    "description": "Prometheus metrics",
    "content": {
        CONTENT_TYPE_LATEST.split(";")[0]: {
            "schema": {"type": "string"},
            "example": "churn_unknown_customers_total 0.0\n",
        }
    },
}


def add_state_routes(
    app: FastAPI, predictor: Predictor, metrics: ServingMetrics, drain: Drain
) -> None:
    """Add ``/v1/model``, the probes ``/healthz`` and ``/readyz``, and ``/metrics``."""

    @app.get(
        "/v1/model",
        response_model=schemas.ModelInfo,
        tags=["state"],
        responses=document(401, 408, 413, 421, 429, 503),
        operation_id="read_model",
        summary="Tell which version answers",
    )
    async def model() -> Response:
        """Tell which version answers, on whose approval, and which A/B test runs."""
        description = _describe_model(predictor)
        return json_response(description)

    @app.get(
        "/healthz",
        response_model=schemas.Health,
        tags=["state"],
        responses=document(408, 413),
        operation_id="read_health",
        summary="Tell that the process lives",
    )
    async def health() -> Response:
        """Tell that the process lives."""
        return json_response({"status": "alive", "detail": ""})

    @app.get(
        "/readyz",
        response_model=schemas.Health,
        tags=["state"],
        responses=document(408, 413, 503),
        operation_id="read_readiness",
        summary="Tell whether requests can be answered",
    )
    async def ready() -> Response:
        """Tell whether requests can be answered; name a version that was refused."""
        check_ready(predictor, drain)
        refused = predictor.state.refused_version
        detail = "" if refused is None else f"version {refused} was refused"
        return json_response({"status": "ready", "detail": detail})

    @app.get(
        "/metrics",
        response_class=Response,
        tags=["state"],
        responses={200: METRICS_PAGE, **document(408, 413)},
        operation_id="read_metrics",
        summary="Show the metrics for Prometheus",
    )
    async def show_metrics() -> Response:
        """Show the metrics for Prometheus."""
        text = generate_latest(metrics.registry)
        return Response(text, media_type=CONTENT_TYPE_LATEST)


def _describe_model(predictor: Predictor) -> dict[str, Any]:
    """Describe the version that answers, with the keys of ``ModelInfo``.

    Raises:
        NotReadyError: no version answers.
    """
    state = predictor.state
    models = state.models
    if models is None:
        raise NotReadyError(predictor.why_not_ready())
    champion = models.champion
    running = models.ab_test
    trial = None
    if running is not None:
        trial = {
            "version": running.version,
            "mode": running.mode,
            "share": running.share,
            "started": running.started,
        }
    return {
        "model_version": champion.version,
        "approved_by": models.approved_by,
        "threshold": champion.threshold,
        "offer_cost_usd": champion.economics.offer_cost_usd,
        "churner_value_usd": champion.economics.churner_value_usd,
        "save_rate": champion.economics.save_rate,
        "trained_as_of": champion.trained_as_of,
        "family": champion.family,
        "trial": trial,
        "refused_version": state.refused_version,
        "features_published": predictor.features.newest,
    }
