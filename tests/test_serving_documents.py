from churn_utils import serving
from churn_utils.serving_settings import ServingSettings

DOCUMENT = serving.create_app(ServingSettings(access_log=False)).openapi()
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
