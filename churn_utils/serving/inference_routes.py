"""Routes of the Open Inference Protocol v2 (KServe, Triton): an adapter over ``/v1/scores``.

Tensors are JSON; the protocol's extension for binary ones is not offered.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Path, Request, Response

from churn_utils import settings
from churn_utils.data.columns import CUSTOMER_COLUMNS
from churn_utils.errors import NotReadyError, UsageError
from churn_utils.serving import inference_schemas
from churn_utils.serving.adapter_customers import read_tensors
from churn_utils.serving.direct_route import json_response
from churn_utils.serving.inference_schemas import (
    DATATYPE_OF_COLUMN,
    OUTPUTS,
    InferenceRequest,
    OutputName,
)
from churn_utils.serving.metrics import VERSION
from churn_utils.serving.openapi import Documented, document, document_body
from churn_utils.serving.predictor import Predictor
from churn_utils.serving.readiness import check_ready
from churn_utils.serving.request_bodies import JSON, parse_body
from churn_utils.serving.routes import score_customers
from churn_utils.serving.shutdown import Drain

ROUTE = "infer"  # in the inference log
BINARY = b"inference-header-content-length"  # in the head of a request with binary tensors
TAGS: list = ["Open Inference Protocol"]
MODEL = "/v2/models/{name}"
OF_VERSION = MODEL + "/versions/{version}"
ModelName = Annotated[str, Path(examples=[settings.MODEL_NAME])]
Version = Annotated[str, Path(examples=["1"])]


def add_inference_routes(app: FastAPI, predictor: Predictor, drain: Drain) -> None:
    """Add the routes under ``/v2``."""
    _add_server_routes(app, predictor, drain)
    _add_model_routes(app, predictor, drain)
    _add_infer_routes(app, predictor)


def _document(*statuses: int) -> Documented:
    return document(*statuses, model=inference_schemas.InferenceProblem)


def _add_server_routes(app: FastAPI, predictor: Predictor, drain: Drain) -> None:
    """Add what tells of the process."""

    @app.get(
        "/v2/health/live",
        response_model=inference_schemas.ServerLive,
        tags=TAGS,
        responses=_document(408, 413),
        operation_id="read_server_live",
        summary="Tell that the process lives",
    )
    async def live() -> Response:
        """Tell that the process lives, as `/healthz`."""
        return json_response({"live": True})

    @app.get(
        "/v2/health/ready",
        response_model=inference_schemas.ServerReady,
        tags=TAGS,
        responses=_document(408, 413, 503),
        operation_id="read_server_ready",
        summary="Tell whether requests can be answered",
    )
    async def ready() -> Response:
        """Tell whether requests can be answered, as `/readyz`."""
        check_ready(predictor, drain)
        return json_response({"ready": True})

    @app.get(
        "/v2",
        response_model=inference_schemas.ServerMetadata,
        tags=TAGS,
        responses=_document(408, 413, 421),
        operation_id="read_server_metadata",
        summary="Tell what answers",
    )
    async def server() -> Response:
        """Tell what answers, in which version."""
        return json_response({"name": app.title, "version": VERSION, "extensions": []})


def _add_model_routes(app: FastAPI, predictor: Predictor, drain: Drain) -> None:
    """Add what tells of the model, with and without a version."""

    @app.get(
        MODEL,
        response_model=inference_schemas.ModelMetadata,
        tags=TAGS,
        responses=_document(401, 404, 408, 413, 421, 422, 429, 503),
        operation_id="read_model_metadata",
        summary="Tell what the model takes and gives",
    )
    async def model(name: ModelName) -> Response:
        """Tell which versions answer, and which inputs and outputs the model has."""
        _check_name(name)
        return json_response(_describe_model(predictor))

    @app.get(
        OF_VERSION,
        response_model=inference_schemas.ModelMetadata,
        tags=TAGS,
        responses=_document(401, 404, 408, 413, 421, 422, 429, 503),
        operation_id="read_model_version_metadata",
        summary="Tell what a version takes and gives",
    )
    async def version_of_model(name: ModelName, version: Version) -> Response:
        """Tell which inputs and outputs the model has; 404 if this version does not answer."""
        _check_name(name)
        _check_version(predictor, version)
        return json_response(_describe_model(predictor))

    @app.get(
        MODEL + "/ready",
        response_model=inference_schemas.ModelReady,
        tags=TAGS,
        responses=_document(404, 408, 413, 422, 503),
        operation_id="read_model_ready",
        summary="Tell whether the model answers",
    )
    async def model_ready(name: ModelName) -> Response:
        """Tell whether the model answers, as `/readyz`."""
        _check_name(name)
        check_ready(predictor, drain)
        return json_response({"name": name, "ready": True})

    @app.get(
        OF_VERSION + "/ready",
        response_model=inference_schemas.ModelReady,
        tags=TAGS,
        responses=_document(404, 408, 413, 422, 503),
        operation_id="read_model_version_ready",
        summary="Tell whether a version answers",
    )
    async def version_ready(name: ModelName, version: Version) -> Response:
        """Tell whether a version answers; 404 if another one does."""
        _check_name(name)
        check_ready(predictor, drain)
        _check_version(predictor, version)
        return json_response({"name": name, "ready": True})


def _add_infer_routes(app: FastAPI, predictor: Predictor) -> None:
    """Add what predicts, with and without a version."""

    @app.post(
        MODEL + "/infer",
        response_model=inference_schemas.InferenceResponse,
        tags=TAGS,
        responses=_document(401, 404, 408, 413, 415, 421, 422, 429, 503),
        openapi_extra=document_body(InferenceRequest),
        operation_id="infer",
        summary="Answer for customers given whole, as tensors",
    )
    async def infer(request: Request, name: ModelName) -> Response:
        """Answer for customers given as one tensor per column, the columns of `/v1/scores`."""
        _check_name(name)
        return await _infer(request, predictor)

    @app.post(
        OF_VERSION + "/infer",
        response_model=inference_schemas.InferenceResponse,
        tags=TAGS,
        responses=_document(401, 404, 408, 413, 415, 421, 422, 429, 503),
        openapi_extra=document_body(InferenceRequest),
        operation_id="infer_with_version",
        summary="Answer for customers by one version",
    )
    async def infer_with_version(request: Request, name: ModelName, version: Version) -> Response:
        """Answer as without a version; 404 if another version answers for one of the customers."""
        _check_name(name)
        number = _check_version(predictor, version)
        return await _infer(request, predictor, number)


async def _infer(request: Request, predictor: Predictor, version: int | None = None) -> Response:
    """Answer for the customers of a request."""
    headers = request.scope["state"]["header"]
    if BINARY in headers:
        detail = "Tensors must be JSON: the protocol's extension for binary ones is not offered."
        raise HTTPException(415, detail)
    headers.setdefault(b"content-type", JSON)  # Triton's client names no kind for JSON
    body = parse_body(request, InferenceRequest)
    customers = read_tensors(body)
    try:
        predictions = await score_customers(request, predictor, customers, ROUTE, version)
    except UsageError as error:  # that version does not answer
        raise HTTPException(404, str(error)) from error
    wanted = [output.name for output in body.outputs] or list(OUTPUTS)
    content = {
        "model_name": settings.MODEL_NAME,
        "model_version": str(predictions[0]["model_version"]),
        "outputs": [_build_tensor(name, predictions) for name in wanted],
    }
    if body.id is not None:
        content["id"] = body.id
    return json_response(content)


def _build_tensor(name: OutputName, predictions: list[dict]) -> dict[str, Any]:
    """Return a field of the predictions as a tensor."""
    values = [prediction[name] for prediction in predictions]
    return {"name": name, "datatype": OUTPUTS[name], "shape": [len(values)], "data": values}


def _check_name(name: str) -> None:
    """Refuse another model than the one that is served.

    Raises:
        HTTPException: 404.
    """
    if name != settings.MODEL_NAME:
        detail = f"There is no model of this name; the one that answers is {settings.MODEL_NAME}."
        raise HTTPException(404, detail)


def _check_version(predictor: Predictor, version: str) -> int:
    """Return the number of a version, if it answers.

    Raises:
        HTTPException: 404 if another one does.
        NotReadyError: none does.
    """
    answering = _list_versions(predictor)
    if version not in answering:
        named = " and ".join(answering)
        raise HTTPException(404, f"This version does not answer; what answers is version {named}.")
    return int(version)


def _list_versions(predictor: Predictor) -> list[str]:
    """Return the versions that answer: the champion, and the challenger that shares its traffic.

    Raises:
        NotReadyError: none does.
    """
    models = predictor.state.models
    if models is None:
        raise NotReadyError(predictor.why_not_ready())
    versions = [str(models.champion.version)]
    if models.challenger is not None and models.shadow is None:
        versions.append(str(models.challenger.version))
    return versions


def _describe_model(predictor: Predictor) -> dict[str, Any]:
    """Describe the model, with the keys of ``ModelMetadata``."""
    inputs = [_describe_tensor(name, DATATYPE_OF_COLUMN[name]) for name in CUSTOMER_COLUMNS]
    outputs = [_describe_tensor(name, datatype) for name, datatype in OUTPUTS.items()]
    return {
        "name": settings.MODEL_NAME,
        "versions": _list_versions(predictor),
        "platform": "churn_utils",
        "inputs": inputs,
        "outputs": outputs,
    }


def _describe_tensor(name: str, datatype: str) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [-1]}
