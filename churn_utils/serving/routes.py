"""Routes of the API that answer for customers: predictions, scores and receipts.

The two routes that predict are ``DirectRoute``s: documented as FastAPI's are, cheaper to answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import FastAPI, Path, Request, Response

from churn_utils.serving import request_schemas, schemas
from churn_utils.serving.direct_route import DirectRoute, json_response
from churn_utils.serving.error_responses import MOST_ERRORS, problem
from churn_utils.serving.examples import EXAMPLE_PREDICTION
from churn_utils.serving.openapi import document
from churn_utils.serving.predictor import SCORES, Answers, Predictor
from churn_utils.serving.request_bodies import parse_body

RECEIPTS_AT_ONCE = 1
MOST_RECEIPTS = 32  # that are looked for or wait; more are refused
PredictionId = Annotated[
    str,
    Path(
        pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
        examples=[EXAMPLE_PREDICTION["prediction_id"]],
    ),
]


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
        body = parse_body(request, request_schemas.PredictionRequest)
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
        body = parse_body(request, request_schemas.ScoreRequest)
        customers: list[dict[str, Any]] = [dict(customer) for customer in body.customers]
        predictions = await score_customers(request, predictor, customers)
        return json_response({"predictions": predictions})

    by_id = DirectRoute(
        "/v1/predictions",
        predict,
        request_schemas.PredictionRequest,
        response_model=schemas.PredictionResponse,
        tags=["predictions"],
        responses=document(401, 404, 408, 413, 415, 421, 422, 429, 503),
        operation_id="predict",
        summary="Answer for customers by id",
    )
    given_whole = DirectRoute(
        "/v1/scores",
        score,
        request_schemas.ScoreRequest,
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
