"""Routes that say how the service is: ``/v1/model``, health probes, Prometheus metrics."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from churn_utils.errors import NotReadyError
from churn_utils.serving.metrics import ServingMetrics
from churn_utils.serving.openapi import document
from churn_utils.serving.prediction_routes import json_response
from churn_utils.serving.predictor import Predictor
from churn_utils.serving.schemas.state import Health, ModelInfo

METRICS_PAGE = {
    "description": "Prometheus metrics",
    "content": {
        CONTENT_TYPE_LATEST.split(";")[0]: {
            "schema": {"type": "string"},
            "example": "churn_unknown_customers_total 0.0\n",
        }
    },
}


def add_state_routes(app: FastAPI, predictor: Predictor, metrics: ServingMetrics) -> None:
    """Add the routes that show model, health and metrics."""
    _add_model(app, predictor)
    _add_probes(app, predictor)
    _add_metrics(app, metrics)


def _add_model(app: FastAPI, predictor: Predictor) -> None:
    """Add ``GET /v1/model``."""

    @app.get(
        "/v1/model",
        response_model=ModelInfo,
        tags=["state"],
        responses=document(401, 413, 429, 503),
        summary="Tell which version answers",
    )
    async def model(request: Request) -> Response:
        """Tell which version answers, on whose approval, and which A/B test runs."""
        description = describe_model(predictor)
        return json_response(description)


def describe_model(predictor: Predictor) -> dict[str, Any]:
    """Describe the version that answers, with the keys of ``ModelInfo``.

    Raises:
        NotReadyError: no version answers.
    """
    state = predictor.state
    models = state.models
    if models is None:
        raise NotReadyError(predictor.why_not_ready())
    champion = models.champion
    ab_test = None
    if models.ab_test is not None:
        ab_test = {
            "version": models.ab_test.version,
            "mode": models.ab_test.mode,
            "share": models.ab_test.share,
            "started": models.ab_test.started,
        }
    return {
        "model_version": champion.version,
        "approved_by": models.approved_by,
        "threshold": champion.threshold,
        "offer_cost_usd": champion.economics.offer_cost_usd,
        "churner_value_usd": champion.economics.churner_value_usd,
        "trained_as_of": champion.trained_as_of,
        "family": champion.family,
        "trial": ab_test,
        "refused_version": state.refused_version,
        "features_published": predictor.features.newest,
    }


def _add_probes(app: FastAPI, predictor: Predictor) -> None:
    """Add ``/healthz`` and ``/readyz`` for GET and HEAD."""

    @app.get(
        "/healthz",
        response_model=Health,
        tags=["state"],
        responses=document(413),
        summary="Tell that the process lives",
    )
    async def health() -> Response:
        """Tell that the process lives."""
        alive = {"status": "alive", "detail": ""}
        return json_response(alive)

    @app.get(
        "/readyz",
        response_model=Health,
        tags=["state"],
        responses=document(413, 503),
        summary="Tell whether requests can be answered",
    )
    async def ready() -> Response:
        """Tell whether requests can be answered; name a version that was refused."""
        reason = predictor.why_not_ready()
        if reason:
            raise NotReadyError(reason)
        refused = predictor.state.refused_version
        detail = "" if refused is None else f"version {refused} was refused"
        return json_response({"status": "ready", "detail": detail})

    # load balancers ask for the head alone
    app.add_api_route("/healthz", health, methods=["HEAD"], include_in_schema=False)
    app.add_api_route("/readyz", ready, methods=["HEAD"], include_in_schema=False)


def _add_metrics(app: FastAPI, metrics: ServingMetrics) -> None:
    """Add ``GET /metrics``."""

    @app.get(
        "/metrics",
        response_class=Response,
        tags=["state"],
        responses={200: METRICS_PAGE, **document(413)},
        summary="Show the metrics for Prometheus",
    )
    async def show_metrics() -> Response:
        """Show the metrics for Prometheus."""
        text = generate_latest(metrics.registry)
        return Response(text, media_type=CONTENT_TYPE_LATEST)
