"""The API's documents: what ``/openapi.json`` says of answers and errors, and the page ``/docs`` that shows it."""

from __future__ import annotations

from http import HTTPStatus
from importlib import resources
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel

from churn_utils.serving import schemas as models
from churn_utils.serving.settings import ServingSettings

ABOUT = """Answers how likely a customer is to leave, and whether a retention offer pays.

`POST /v1/predictions` takes customer ids and looks their features up; `POST /v1/scores` takes customers given whole.
Every answer names the model version that gave it and has a receipt under its `prediction_id`. Customers without
features are listed in `unknown_customers`; if none of those asked for has any, the answer is 404."""
HEADERS = {
    "X-Request-ID": "Name of the request in the log: the one that was sent, if it is letters, digits and ._- (64 at "
    "most), else a new one.",
    "Retry-After": "Seconds after which to try again.",
}
ERRORS = {
    401: (
        "The key is missing or wrong (only where keys are asked for).",
        "The header X-API-Key must hold a valid key.",
    ),
    404: (
        "What was asked for does not exist; for predictions: none of the customers has features.",
        "None of the customers has features.",
    ),
    413: ("The body is too large.", "The body is larger than 1000000 bytes."),
    422: (
        "The request is not as documented; `errors` names each field.",
        "1 field(s) are not as documented.",
    ),
    429: ("Too many requests.", "Too many requests; see Retry-After."),
    503: (
        "Not ready, the inference log is full, what the answer needs is away, or too many connections are open.",
        "No model is in place yet.",
    ),
}
FIELD_ERRORS = {
    404: [{"field": "customer_ids", "message": "7590-VHVEG has no features"}],
    422: [models.EXAMPLE_FIELD_ERROR],
}


def document(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the errors that a route may answer, for its ``responses``."""
    return {status: _document_error(status) for status in statuses}


def _document_error(status: int) -> dict[str, Any]:
    description, detail = ERRORS[status]
    example = {
        **models.EXAMPLE_PROBLEM,
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "errors": FIELD_ERRORS.get(status, []),
    }
    schema = {"$ref": "#/components/schemas/Problem"}
    headers = (
        {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}
        if status in (429, 503)
        else {}
    )
    content = {"application/problem+json": {"schema": schema, "example": example}}
    return {"description": description, "content": content, "headers": headers}


def document_body(model: type[BaseModel]) -> dict[str, Any]:
    """Describe the body of a route that parses it itself, for its ``openapi_extra``."""
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": reference}}}
    }


def add_documents(app: FastAPI, settings: ServingSettings) -> None:
    """Serve /docs from files of our own, and put into /openapi.json what the framework does not know."""
    folder = (
        resources.files("fastapi_offline") / "static"
    )  # Swagger UI; the framework's own page loads it from afar
    app.mount("/docs/assets", StaticFiles(directory=str(folder)), name="assets")

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

    def complete() -> dict[str, Any]:
        document = build()
        schemas = document["components"]["schemas"]
        for name in (
            "HTTPValidationError",
            "UsageError",
        ):  # the framework's error form, which we do not use
            schemas.pop(name, None)
        for model in (models.Problem, models.PredictionRequest, models.ScoreRequest):
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update({**schema.pop("$defs", {}), model.__name__: schema})
        for model in (
            models.ScoreResponse,
            models.ModelInfo,
        ):  # of whose examples the framework left the nulls out
            schemas[model.__name__]["examples"] = model.model_config["json_schema_extra"][
                "examples"
            ]
        document["components"]["headers"] = {
            name: {"description": text, "required": True, "schema": {"type": "string"}}
            for name, text in HEADERS.items()
        }
        for operations in document["paths"].values():
            for answer in [
                answer
                for operation in operations.values()
                for answer in operation["responses"].values()
            ]:
                answer.setdefault("headers", {})["X-Request-ID"] = {
                    "$ref": "#/components/headers/X-Request-ID"
                }
        if settings.keys:
            key = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
            document["components"]["securitySchemes"] = {"key": key}
            for path, operations in document["paths"].items():
                if path.startswith("/v1/"):
                    for operation in operations.values():
                        operation["security"] = [{"key": []}]
        return document

    app.openapi = complete
