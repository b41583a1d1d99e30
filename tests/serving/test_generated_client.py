"""A client that openapi-python-client generates from the API's own document."""

import importlib
import os
import subprocess

import httpx
import pytest

from churn_utils import settings
from churn_utils.serving.examples import EXAMPLE_CUSTOMER

PROGRAMS = settings.PROJECT / ".venv-client" / "bin"
ID = "7590-VHVEG"


@pytest.fixture(scope="module")
def generated(api, tmp_path_factory):
    """The package that is generated."""
    program = PROGRAMS / "openapi-python-client"
    if not program.exists():
        pytest.skip("the generator is not installed: make .venv-client/installed")
    folder = tmp_path_factory.mktemp("generated")
    document = folder / "openapi.json"
    document.write_bytes(httpx.get(f"{api.address}/openapi.json").content)
    command = [program, "generate", "--path", document, "--meta", "none", "--fail-on-warning"]
    environment = os.environ | {"PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"}
    package = folder / "churn_client"
    ended = subprocess.run(
        [*command, "--output-path", package], env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield importlib.import_module(package.name)


@pytest.fixture
def client(api, generated):
    with generated.AuthenticatedClient(
        api.address, token="secret", prefix="", auth_header_name="X-API-Key", timeout=60
    ) as opened:
        yield opened


def load(name):
    """Return the module of an operation, such as ``predictions.predict``."""
    return importlib.import_module(f"churn_client.api.{name}")


@pytest.mark.long
def test_a_generated_client_predicts_scores_and_reads_receipts(client):
    from churn_client import models

    predict, score = load("predictions.predict"), load("predictions.score")
    read_receipt = load("predictions.read_receipt")
    by_id = predict.sync(client=client, body=models.PredictionRequest(customer_ids=[ID]))
    assert by_id.predictions[0].customer_id == ID
    customer = models.Customer.from_dict(EXAMPLE_CUSTOMER)
    given = score.sync(client=client, body=models.ScoreRequest(customers=[customer]))
    for prediction in (by_id.predictions[0], given.predictions[0]):
        receipt = read_receipt.sync(prediction.prediction_id, client=client)
        assert receipt.reproduced_probability == prediction.churn_probability
        assert receipt.caller == "app"


@pytest.mark.long
def test_a_generated_client_reads_problems_and_adapters(client):
    from churn_client import models

    refused = load("predictions.predict").sync(
        client=client, body=models.PredictionRequest(customer_ids=["0000-NONE"])
    )
    assert isinstance(refused, models.Problem) and refused.status == 404
    customer = models.Customer.from_dict(EXAMPLE_CUSTOMER)
    body = models.Invocation(dataframe_records=[customer])
    answered = load("mlflow.invoke").sync(client=client, body=body)
    assert answered.predictions[0].customer_id == ID
    described = load("open_inference_protocol.read_model_metadata").sync(
        settings.MODEL_NAME, client=client
    )
    assert described.versions == ["1"]
