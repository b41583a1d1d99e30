"""Routes under ``/v1`` that predict, score and show receipts."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Path, Request, Response

from churn_utils.serving.direct_route import DirectRoute, parse_body
from churn_utils.serving.error_responses import MOST_ERRORS, problem
from churn_utils.serving.openapi import document, document_body
from churn_utils.serving.predictor import Predictor
from churn_utils.serving.receipts import find_receipt
from churn_utils.serving.schemas import requests, responses
from churn_utils.serving.schemas.examples import EXAMPLE_PREDICTION
from churn_utils.serving.schemas.receipt import Receipt

PredictionId = Annotated[
    str,
    Path(
        pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
        examples=[EXAMPLE_PREDICTION["prediction_id"]],
    ),
]


def json_response(content: dict) -> Response:
    """Return a document as JSON with status 200."""
    return Response(orjson.dumps(content), media_type="application/json")


def add_prediction_routes(app: FastAPI, predictor: Predictor) -> None:
    """Add the routes that answer for customers.

    Args:
        app: to which the routes are added.
        predictor: predicts and scores.
    """
    _add_predict(app, predictor)
    _add_score(app, predictor)
    _add_receipt(app, predictor)


def _add_predict(app: FastAPI, predictor: Predictor) -> None:
    """Add ``POST /v1/predictions``, a direct route."""

    async def predict(request: Request) -> Response:
        """Answer for customers by id, from their online features (`features_as_of`)."""
        body = parse_body(request, requests.PredictionRequest)
        request_id = _request_id(request)
        predictions, unknown = await predictor.predict(body.customer_ids, request_id)
        if not predictions:
            return _refuse_unknown(request, unknown)
        return json_response({"predictions": predictions, "unknown_customers": unknown})

    app.router.add_api_route(
        "/v1/predictions",
        predict,
        methods=["POST"],
        route_class_override=DirectRoute,
        response_model=responses.PredictionResponse,
        tags=["predictions"],
        responses=document(401, 404, 413, 422, 429, 503),
        summary="Answer for customers by id",
        openapi_extra=document_body(requests.PredictionRequest),
    )


def _request_id(request: Request) -> str:
    """Return the id that ``ApiMiddleware`` gave the request."""
    state = request.scope["state"]
    return state["request_id"]


def _refuse_unknown(request: Request, unknown: list[str]) -> Response:
    """Return 404 with the first of the customers who have no features."""
    errors = [
        {"field": "customer_ids", "message": f"{name} has no features"}
        for name in unknown[:MOST_ERRORS]
    ]
    return problem(request.scope, 404, "None of the customers has features.", errors)


def _add_score(app: FastAPI, predictor: Predictor) -> None:
    """Add ``POST /v1/scores``, a direct route."""

    async def score(request: Request) -> Response:
        """Answer for customers given whole; nothing is looked up."""
        body = parse_body(request, requests.ScoreRequest)
        customers: list[dict[str, Any]] = [dict(customer) for customer in body.customers]
        predictions = predictor.score(customers, _request_id(request))
        return json_response({"predictions": predictions})

    app.router.add_api_route(
        "/v1/scores",
        score,
        methods=["POST"],
        route_class_override=DirectRoute,
        response_model=responses.ScoreResponse,
        tags=["predictions"],
        responses=document(401, 413, 422, 429, 503),
        summary="Answer for customers given whole",
        openapi_extra=document_body(requests.ScoreRequest),
    )


def _add_receipt(app: FastAPI, predictor: Predictor) -> None:
    """Add ``GET /v1/predictions/{prediction_id}``."""

    @app.get(
        "/v1/predictions/{prediction_id}",
        response_model=Receipt,
        tags=["predictions"],
        responses=document(401, 404, 413, 422, 429, 503),
        summary="Read an answer's receipt",
    )
    async def read_receipt(request: Request, prediction_id: PredictionId) -> Response:
        """Read an answer's receipt: what was known, what answered, the probability recomputed."""
        receipt = await asyncio.to_thread(
            find_receipt, predictor.log, predictor.cache, prediction_id
        )
        if receipt is None:
            return problem(request.scope, 404, f"There is no prediction {prediction_id}.")
        return json_response(receipt)
