"""Routes of the API: predictions, scores and receipts; model, health and metrics.

The two routes that predict are ``DirectRoute``s: documented as FastAPI's are, cheaper to answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Path, Request, Response
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from churn_utils.errors import NotReadyError
from churn_utils.serving import schemas
from churn_utils.serving.error_responses import MOST_ERRORS, problem
from churn_utils.serving.examples import EXAMPLE_PREDICTION
from churn_utils.serving.metrics import ServingMetrics
from churn_utils.serving.openapi import document, document_body
from churn_utils.serving.predictor import SCORES, Answers, Predictor
from churn_utils.serving.readiness import check_ready
from churn_utils.serving.request_bodies import parse_body
from churn_utils.serving.shutdown import Drain

Endpoint = Callable[[Request], Awaitable[Response]]
RECEIPTS_AT_ONCE = 1
MOST_RECEIPTS = 32  # that are looked for or wait; more are refused
PredictionId = Annotated[
    str,
    Path(
        pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
        examples=[EXAMPLE_PREDICTION["prediction_id"]],
    ),
]
METRICS_PAGE = {
    "description": "Prometheus metrics",
    "content": {
        CONTENT_TYPE_LATEST.split(";")[0]: {
            "schema": {"type": "string"},
            "example": "churn_unknown_customers_total 0.0\n",
        }
    },
}


class DirectRoute(APIRoute):
    """A FastAPI route that calls its endpoint with the request alone.

    FastAPI's own handling of parameters, dependencies and response models costs a quarter of a
    prediction. The endpoint parses the body itself (``parse_body``) and returns a response.
    """

    def __init__(
        self, path: str, endpoint: Endpoint, body: type[BaseModel], **options: Any
    ) -> None:
        """Document the endpoint as FastAPI does; ``options`` are those of ``APIRoute``."""
        documented_body = document_body(body)
        super().__init__(path, endpoint, methods=["POST"], openapi_extra=documented_body, **options)

        async def call_endpoint(scope: Scope, receive: Receive, send: Send) -> None:
            """Answer one request, as an ASGI application."""
            request = Request(scope, receive)
            response = await endpoint(request)
            await response(scope, receive, send)

        self.app = call_endpoint

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Compare path and method.

        FastAPI's own method also looks for routers that include the route, which none does.
        """
        match, child_scope = Route.matches(self, scope)
        child_scope["route"] = self  # the histogram of the requests goes by its path
        return match, child_scope

    handle = Route.handle


def json_response(content: dict) -> Response:
    """Return an answer that is JSON."""
    return Response(orjson.dumps(content), media_type="application/json")


async def score_customers(
    request: Request,
    predictor: Predictor,
    customers: Sequence[dict],
    route: str = SCORES,
    version: int | None = None,
) -> list[dict]:
    """Charge the caller for customers who were given whole, and score them.

    ``route`` and ``version`` are as in ``Predictor.score``, whose errors are raised.
    """
    state = request.scope["state"]
    state["charge"](len(customers) - 1)
    return await predictor.score(customers, state["request_id"], state["caller"], route, version)


def add_prediction_routes(app: FastAPI, predictor: Predictor) -> None:
    """Add the routes under ``/v1`` that predict, score and show receipts."""

    async def predict(request: Request) -> Response:
        """Answer for customers by id, from their online features (`features_as_of`)."""
        body = parse_body(request, schemas.PredictionRequest)
        state = request.scope["state"]
        state["charge"](len(body.customer_ids) - 1)
        answers = await predictor.predict(body.customer_ids, state["request_id"], state["caller"])
        if not answers.predictions:
            return _refuse_all(request, answers)
        content = {
            "predictions": answers.predictions,
            "unknown_customers": answers.unknown,
            "incomplete_customers": answers.incomplete,
            "unavailable_customers": answers.damaged,
        }
        return json_response(content)

    async def score(request: Request) -> Response:
        """Answer for customers given whole; nothing is looked up."""
        body = parse_body(request, schemas.ScoreRequest)
        customers: list[dict[str, Any]] = [dict(customer) for customer in body.customers]
        predictions = await score_customers(request, predictor, customers)
        return json_response({"predictions": predictions})

    by_id = DirectRoute(
        "/v1/predictions",
        predict,
        schemas.PredictionRequest,
        response_model=schemas.PredictionResponse,
        tags=["predictions"],
        responses=document(401, 404, 408, 413, 415, 421, 422, 429, 503),
        operation_id="predict",
        summary="Answer for customers by id",
    )
    given_whole = DirectRoute(
        "/v1/scores",
        score,
        schemas.ScoreRequest,
        response_model=schemas.ScoreResponse,
        tags=["predictions"],
        responses=document(401, 408, 413, 415, 421, 422, 429, 503),
        operation_id="score",
        summary="Answer for customers given whole",
    )
    # first, because each route that is passed over costs a request some microseconds
    app.router.routes[:0] = [by_id, given_whole]

    # Looking for a receipt takes CPU from predictions, so callers wait for their turn.
    receipts_at_once = asyncio.Semaphore(RECEIPTS_AT_ONCE)
    receipts_wanted = 0

    @app.get(
        "/v1/predictions/{prediction_id}",
        response_model=schemas.Receipt,
        tags=["predictions"],
        responses=document(401, 404, 408, 410, 413, 421, 422, 429, 503),
        operation_id="read_receipt",
        summary="Read an answer's receipt",
    )
    async def read_receipt(request: Request, prediction_id: PredictionId) -> Response:
        """Read an answer's receipt: what was known, what answered, the probability recomputed."""
        nonlocal receipts_wanted
        if receipts_wanted >= MOST_RECEIPTS:
            detail = "Too many receipts are being looked for; see Retry-After."
            return problem(request.scope, 503, detail, retry_after=1)
        caller = request.scope["state"]["caller"]
        receipts_wanted += 1
        try:
            async with receipts_at_once:
                receipt = await asyncio.to_thread(predictor.find_receipt, prediction_id, caller)
        finally:
            receipts_wanted -= 1
        if receipt is None and predictor.log.is_expired(prediction_id):
            months = predictor.log.retention_months
            detail = f"Answers are kept for {months} months, and this one is older."
            return problem(request.scope, 410, detail)
        if receipt is None:
            return problem(request.scope, 404, f"There is no prediction {prediction_id}.")
        return json_response(receipt)


def _refuse_all(request: Request, answers: Answers) -> Response:
    """Return 404 with the first of the customers that cannot be answered for, and why.

    503 if the row of one of them cannot be used: that can be repaired.
    """
    reasons = [f"{customer_id} has no features" for customer_id in answers.unknown]
    reasons += [
        f"{customer_id} lacks features that were defined later"
        for customer_id in answers.incomplete
    ]
    reasons += [
        f"{customer_id} has features that cannot be used" for customer_id in answers.damaged
    ]
    errors = [{"field": "customer_ids", "message": reason} for reason in reasons[:MOST_ERRORS]]
    if answers.damaged:
        detail = "The features of the customers cannot be used at the moment."
        return problem(request.scope, 503, detail, errors, retry_after=60)
    wanted = "all features of the model" if answers.incomplete else "features"
    return problem(request.scope, 404, f"None of the customers has {wanted}.", errors)


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
