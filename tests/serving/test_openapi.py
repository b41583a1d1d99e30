import json

import pytest

from churn_utils.serving import app, inference_schemas, mlflow_schemas, request_schemas, schemas
from churn_utils.serving.settings import ServingSettings

DOCUMENT = app.create_app(ServingSettings(access_log=False)).openapi()
ANSWERS = {
    f"{method.upper()} {path} {status}": answer
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
    for status, answer in operation["responses"].items()
}


def test_every_referenced_schema_exists():
    for answer in ANSWERS.values():
        for content in answer.get("content", {}).values():
            name = content.get("schema", {}).get("$ref", "").removeprefix("#/components/schemas/")
            assert not name or name in DOCUMENT["components"]["schemas"]


@pytest.mark.parametrize(
    "model",
    [
        request_schemas.PredictionRequest,
        request_schemas.ScoreRequest,
        schemas.Prediction,
        schemas.PredictionResponse,
        schemas.ScoreResponse,
        schemas.Receipt,
        schemas.ModelInfo,
        schemas.Health,
        schemas.Problem,
        schemas.FieldError,
        inference_schemas.InferenceProblem,
        inference_schemas.InferenceRequest,
        inference_schemas.InferenceResponse,
        inference_schemas.ModelMetadata,
        inference_schemas.ModelReady,
        inference_schemas.ServerLive,
        inference_schemas.ServerMetadata,
        inference_schemas.ServerReady,
        mlflow_schemas.SplitFrame,
    ],
)
def test_every_schema_has_a_complete_valid_example(model):
    for example in DOCUMENT["components"]["schemas"][model.__name__]["examples"]:
        model.model_validate_json(json.dumps(example))
        assert set(example) == set(model.model_fields)


@pytest.mark.parametrize("name", ANSWERS)
def test_responses_document_headers_and_error_examples(name):
    answer, status = ANSWERS[name], int(name[-3:])
    headers = {"X-Request-ID", "Retry-After"} if status in (429, 503) else {"X-Request-ID"}
    assert set(answer["headers"]) == headers == headers & set(DOCUMENT["components"]["headers"])
    if status >= 400:
        example = answer["content"]["application/problem+json"]["example"]
        assert schemas.Problem(**example).status == status


def test_every_route_documents_a_body_that_is_too_large():
    named = {name.rsplit(" ", 1)[0] for name in ANSWERS}
    assert {f"{name} 413" for name in named} <= set(ANSWERS)
