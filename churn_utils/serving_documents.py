"""The API's documents: what ``/openapi.json`` says of answers and errors, and the page ``/docs`` that shows it."""

from __future__ import annotations

from importlib import resources
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel

from churn_utils import serving_models as models
from churn_utils.serving_settings import ServingSettings

ABOUT = """Answers how likely a customer is to leave, and whether a retention offer pays.

`POST /v1/predictions` takes customer ids and looks their features up; `POST /v1/scores` takes customers given whole.
Every answer names the model version that gave it and has a receipt under its `prediction_id`. Customers without
features are listed in `unknown_customers`; if none of those asked for has any, the answer is 404."""
ERRORS = {
    401: "The key is missing or wrong (only where keys are asked for).",
    404: "What was asked for does not exist; for predictions: none of the customers has features.",
    413: "The body is too large.",
    422: "The request is not as documented; `errors` names each field.",
    429: "Too many requests; `Retry-After` says when to try again.",
    503: "Not ready, or the inference log is full; `Retry-After` says when to try again.",
}


def document(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the errors that a route may answer, for its ``responses``."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": ERRORS[status], "content": content} for status in statuses}


def document_body(model: type[BaseModel]) -> dict[str, Any]:
    """Describe the body of a route that parses it itself, for its ``openapi_extra``."""
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": reference}}}}


def add_documents(app: FastAPI, settings: ServingSettings) -> None:
    """Serve /docs from files of our own, and put into /openapi.json what the framework does not know."""
    folder = resources.files("fastapi_offline") / "static"  # Swagger UI; the framework's own page loads it from afar
    app.mount("/docs/assets", StaticFiles(directory=str(folder)), name="assets")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return get_swagger_ui_html(
            openapi_url="/openapi.json", title="Telco churn", swagger_js_url="/docs/assets/swagger-ui-bundle.js",
            swagger_css_url="/docs/assets/swagger-ui.css", swagger_favicon_url="/docs/assets/favicon.png",
        )  # fmt: skip

    build = app.openapi

    def complete() -> dict[str, Any]:
        document = build()
        schemas = document["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):  # the framework's error form, which we do not use
            schemas.pop(name, None)
        for model in (models.Problem, models.PredictionRequest, models.ScoreRequest):
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update({**schema.pop("$defs", {}), model.__name__: schema})
        if settings.keys:
            key = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
            document["components"]["securitySchemes"] = {"key": key}
            for path, operations in document["paths"].items():
                if path.startswith("/v1/"):
                    for operation in operations.values():
                        operation["security"] = [{"key": []}]
        return document

    app.openapi = complete
