import json

import pytest

from churn_utils.serving import app, schemas
from churn_utils.serving.settings import ServingSettings

DOCUMENT = app.create_app(ServingSettings(access_log=False)).openapi()
ANSWERS = {
    f"{method.upper()} {path} {status}": answer
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
    for status, answer in operation["responses"].items()
}


def test_every_schema_that_is_named_is_there():
    for answer in ANSWERS.values():
        for content in answer.get("content", {}).values():
            name = content.get("schema", {}).get("$ref", "").removeprefix("#/components/schemas/")
            assert not name or name in DOCUMENT["components"]["schemas"]


@pytest.mark.parametrize(
    "name",
    [
        "PredictionRequest",
        "ScoreRequest",
        "Prediction",
        "PredictionResponse",
        "ScoreResponse",
        "Receipt",
        "ModelInfo",
        "Problem",
        "FieldError",
        "Health",
    ],
)
def test_every_document_has_an_example_that_fits_it_and_holds_every_field(name):
    model = getattr(schemas, name)
    for example in DOCUMENT["components"]["schemas"][name]["examples"]:
        model.model_validate_json(json.dumps(example))
        assert set(example) == set(model.model_fields)


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_name_their_headers_and_errors_show_an_example(name):
    answer, status = ANSWERS[name], int(name[-3:])
    headers = {"X-Request-ID", "Retry-After"} if status in (429, 503) else {"X-Request-ID"}
    assert set(answer["headers"]) == headers == headers & set(DOCUMENT["components"]["headers"])
    if status >= 400:
        example = answer["content"]["application/problem+json"]["example"]
        assert schemas.Problem(**example).status == status


def test_a_body_that_is_too_large_is_documented_wherever_it_is_refused():
    named = {name.rsplit(" ", 1)[0] for name in ANSWERS}
    assert {f"{name} 413" for name in named} <= set(ANSWERS)
