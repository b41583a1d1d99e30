"""Routes of MLflow's scoring protocol: an adapter over ``/v1/scores``, for MLflow's own clients."""

from __future__ import annotations

from importlib import metadata

from fastapi import FastAPI, Request, Response

from churn_utils.serving import schemas
from churn_utils.serving.adapter_customers import read_invocation
from churn_utils.serving.direct_route import json_response
from churn_utils.serving.mlflow_schemas import Invocation
from churn_utils.serving.openapi import document, document_body
from churn_utils.serving.predictor import Predictor
from churn_utils.serving.readiness import check_ready
from churn_utils.serving.request_bodies import parse_body
from churn_utils.serving.routes import score_customers
from churn_utils.serving.shutdown import Drain

ROUTE = "invocations"  # in the inference log
TAGS: list = ["mlflow"]  # a generated client makes a folder of it


def add_mlflow_routes(app: FastAPI, predictor: Predictor, drain: Drain) -> None:
    """Add ``/ping``, ``/version`` and ``/invocations``."""
    mlflow_version = metadata.version("mlflow-skinny")

    @app.get(
        "/ping",
        response_class=Response,
        tags=TAGS,
        responses={200: _describe_text("\n"), **document(408, 413, 503)},
        operation_id="ping",
        summary="Tell whether requests can be answered, as MLflow does",
    )
    async def ping() -> Response:
        """Tell whether requests can be answered; `/readyz` says more."""
        check_ready(predictor, drain)
        return Response("\n", media_type="text/plain")

    @app.get(
        "/version",
        response_class=Response,
        tags=TAGS,
        responses={200: _describe_text(mlflow_version), **document(408, 413, 421)},
        operation_id="read_mlflow_version",
        summary="Tell which MLflow the models are read with",
    )
    async def version() -> Response:
        """Tell which MLflow the models are read with."""
        return Response(mlflow_version, media_type="text/plain")

    @app.post(
        "/invocations",
        response_model=schemas.ScoreResponse,
        tags=TAGS,
        responses=document(401, 408, 413, 415, 421, 422, 429, 503),
        openapi_extra=document_body(Invocation),
        operation_id="invoke",
        summary="Answer for customers given whole, as MLflow does",
    )
    async def invoke(request: Request) -> Response:
        """Answer for customers in a data frame, with the columns and answers of `/v1/scores`."""
        body = parse_body(request, Invocation)
        customers = read_invocation(body)
        predictions = await score_customers(request, predictor, customers, ROUTE)
        return json_response({"predictions": predictions})


def _describe_text(example: str) -> dict:
    """Describe an answer that is plain text."""
    content = {"text/plain": {"schema": {"type": "string"}, "example": example}}
    return {"description": "Plain text", "content": content}
