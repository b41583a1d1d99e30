"""The API's documents: ``/openapi.json`` with every response and error, and the page ``/docs``."""

from __future__ import annotations

from http import HTTPStatus
from importlib import resources
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel

from churn_utils.serving import (
    examples,
    inference_schemas,
    mlflow_schemas,
    request_schemas,
    schemas,
)
from churn_utils.serving.request_checks import PROTECTED, is_probe
from churn_utils.serving.settings import ServingSettings

ABOUT = """Answers how likely a customer is to leave, and whether a retention offer pays.

`POST /v1/predictions` takes customer ids and reads their online features; `POST /v1/scores` takes
customers given whole. Every prediction names its model version and has a receipt under its
`prediction_id`. Customers without features are listed in `unknown_customers`, those whose row lacks
a feature of the model in `incomplete_customers`; if none of the request can be scored, the status
is 404."""
HEADERS = {
    "X-Request-ID": "Name of the request in the log: the one that was sent, if it is letters, "
    "digits and ._- (64 at most), else a new one.",
    "Retry-After": "Seconds after which to try again.",
}
ERRORS = {
    401: (
        "The key is missing or wrong (only where keys are asked for).",
        "The header X-API-Key, or Authorization: Bearer, must hold a valid key.",
    ),
    404: (
        "What was asked for does not exist; for predictions: none of the customers has features.",
        "None of the customers has features.",
    ),
    408: (
        "The body did not arrive in time.",
        "The body of the request did not arrive.",
    ),
    410: (
        "The answer is older than answers are kept.",
        "Answers are kept for 13 months, and this one is older.",
    ),
    413: ("The body is too large.", "The body is larger than 1000000 bytes."),
    415: (
        "The body is not JSON, or encoded.",
        "The body must be JSON as it is: Content-Type application/json, no encoding.",
    ),
    421: (
        "The API does not answer for the host that was named.",
        "This API does not answer for the host that was named (CHURN_ALLOWED_HOSTS).",
    ),
    422: (
        "The request is not as documented; `errors` names each field.",
        "1 field(s) are not as documented.",
    ),
    429: ("Too many requests.", "Too many requests; see Retry-After."),
    503: (
        "Not ready, the inference log is full, what the answer needs is away, or too many "
        "connections are open.",
        "No model is in place yet.",
    ),
}
# the framework's own error schemas, which no route answers with
FRAMEWORK_ERRORS = ("HTTPValidationError", "UsageError")
# schemas that no route declares to the framework
PARSED_BY_ROUTES: tuple[type[BaseModel], ...] = (
    schemas.Problem,
    request_schemas.PredictionRequest,
    request_schemas.ScoreRequest,
    inference_schemas.InferenceProblem,
    inference_schemas.InferenceRequest,
    mlflow_schemas.Invocation,
)
Documented = dict[int | str, dict[str, Any]]
REFERENCE = "#/components/schemas/{model}"
FIELD_ERRORS = {
    404: [{"field": "customer_ids", "message": "7590-VHVEG has no features"}],
    422: [examples.EXAMPLE_FIELD_ERROR],
}


def document(*statuses: int, model: type[BaseModel] = schemas.Problem) -> Documented:
    """Describe the errors of a route for its ``responses``: status to OpenAPI description."""
    return {status: _document_error(status, model) for status in statuses}


def _document_error(status: int, model: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI description of one error response, with an example."""
    description, detail = ERRORS[status]
    example = {
        **examples.EXAMPLE_PROBLEM,
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "errors": FIELD_ERRORS.get(status, []),
    }
    if model is inference_schemas.InferenceProblem:
        example["error"] = detail
    schema = {"$ref": REFERENCE.format(model=model.__name__)}
    headers = {}
    if status in (429, 503):
        headers = {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}
    content = {"application/problem+json": {"schema": schema, "example": example}}
    return {
        "description": description,
        "content": content,
        "headers": headers,
    }


def document_body(model: type[BaseModel]) -> dict[str, Any]:
    """Describe the body of a route that parses it itself, for its ``openapi_extra``."""
    schema = {"$ref": REFERENCE.format(model=model.__name__)}
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


def add_documents(app: FastAPI, settings: ServingSettings) -> None:
    """Serve /docs from local files, and complete /openapi.json."""
    # Swagger UI as files of this machine; the framework's own page loads it from a CDN
    folder = resources.files("fastapi_offline") / "static"
    app.mount("/docs/assets", StaticFiles(directory=str(folder)), name="assets")

    @app.get("/", include_in_schema=False)
    async def lead_to_docs() -> Response:
        return RedirectResponse("/docs")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="Telco churn",
            swagger_js_url="/docs/assets/swagger-ui-bundle.js",
            swagger_css_url="/docs/assets/swagger-ui.css",
            swagger_favicon_url="/docs/assets/favicon.png",
        )

    build = app.openapi

    def build_complete() -> dict[str, Any]:
        """Return the document, with ``components`` and ``paths`` completed.

        FastAPI keeps and changes one document, so a second call changes nothing.
        """
        document = build()
        components = document["components"]
        _complete_schemas(components["schemas"])
        _add_headers(components, document["paths"])
        if settings.api_keys or settings.api_keys_file:
            _add_security(components, document["paths"])
        return document

    app.openapi = build_complete  # type: ignore[method-assign]  # as FastAPI documents it


def _complete_schemas(documented: dict[str, Any]) -> None:
    """Add the schemas of bodies and errors, which routes name without FastAPI's knowing them."""
    for name in FRAMEWORK_ERRORS:
        documented.pop(name, None)
    for model in PARSED_BY_ROUTES:
        schema = model.model_json_schema(ref_template=REFERENCE)
        documented.update(schema.pop("$defs", {}))
        documented[model.__name__] = schema
    # the framework leaves nulls out of examples
    documented["ScoreResponse"]["examples"] = [examples.EXAMPLE_SCORES]
    documented["ModelInfo"]["examples"] = [examples.EXAMPLE_MODEL]


def _add_headers(components: dict[str, Any], paths: dict[str, Any]) -> None:
    """Describe the headers of every response."""
    components["headers"] = {
        name: {"description": text, "required": True, "schema": {"type": "string"}}
        for name, text in HEADERS.items()
    }
    request_id = {"$ref": "#/components/headers/X-Request-ID"}
    for methods in paths.values():
        for operation in methods.values():
            for response in operation["responses"].values():
                headers = response.setdefault("headers", {})
                headers["X-Request-ID"] = request_id


def _add_security(components: dict[str, Any], paths: dict[str, Any]) -> None:
    """Say which routes need a key."""
    key = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
    components["securitySchemes"] = {"key": key}
    for path, methods in paths.items():
        if path.startswith(PROTECTED) and not is_probe(path):
            for operation in methods.values():
                operation["security"] = [{"key": []}]
