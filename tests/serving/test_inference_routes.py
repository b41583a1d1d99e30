import json

import factories
import httpx
import numpy as np
import pytest

from churn_utils import settings
from churn_utils.data.columns import CUSTOMER_COLUMNS
from churn_utils.serving import ab_test
from churn_utils.serving.client import Api
from churn_utils.serving.examples import EXAMPLE_CUSTOMER
from churn_utils.serving.inference_schemas import DATATYPE_OF_COLUMN, OUTPUTS

MODEL = f"/v2/models/{settings.MODEL_NAME}"
NEW_CUSTOMER = EXAMPLE_CUSTOMER | {"customer_id": "0001-NEW", "tenure": 0, "total_charges": None}


def build_tensors(*customers, **changes):
    """Return a tensor per column; ``changes`` replaces members of those that it names."""
    tensors = []
    for name in CUSTOMER_COLUMNS:
        tensor = {
            "name": name,
            "datatype": DATATYPE_OF_COLUMN[name],
            "shape": [len(customers)],
            "data": [customer[name] for customer in customers],
        }
        tensors.append(tensor | changes.get(name, {}))
    return tensors


def infer(caller, tensors, path=f"{MODEL}/infer", **members):
    return caller.post(path, json={"inputs": tensors, **members})


def read_outputs(answer):
    return {output["name"]: output["data"] for output in answer.json()["outputs"]}


def test_tensors_are_answered_as_scores_are(caller, shared_serving_home):
    answer = infer(caller, build_tensors(EXAMPLE_CUSTOMER, NEW_CUSTOMER), id="a-1", parameters={})
    body = {"customers": [EXAMPLE_CUSTOMER, NEW_CUSTOMER]}
    scored = caller.post("/v1/scores", json=body).json()["predictions"]
    outputs = read_outputs(answer)
    assert answer.json()["id"] == "a-1"
    assert answer.json()["model_version"] == str(shared_serving_home.predecessor)
    assert list(outputs) == list(OUTPUTS)
    for name in OUTPUTS:
        if name != "prediction_id":
            assert outputs[name] == [prediction[name] for prediction in scored]
    receipt = caller.get(f"/v1/predictions/{outputs['prediction_id'][1]}").json()
    assert (receipt["route"], receipt["caller"]) == ("infer", "app")
    assert receipt["reproduced_probability"] == scored[1]["churn_probability"]


def test_every_legal_datatype_and_shape_is_taken(caller):
    expected = read_outputs(infer(caller, build_tensors(EXAMPLE_CUSTOMER)))["churn_probability"]
    for datatype in ("INT8", "UINT64"):
        nested = {"datatype": datatype, "shape": [1, 1], "data": [[1]]}
        flat = {"datatype": "FP32", "shape": [1, 1]}
        tensors = build_tensors(EXAMPLE_CUSTOMER, tenure=nested, monthly_charges=flat)
        assert read_outputs(infer(caller, tensors))["churn_probability"] == expected


def test_only_the_wanted_outputs_are_answered(caller):
    wanted = [{"name": "decision", "parameters": {"binary_data": True}}]
    answer = infer(caller, build_tensors(EXAMPLE_CUSTOMER), outputs=wanted)
    assert list(read_outputs(answer)) == ["decision"] and "id" not in answer.json()
    unknown = infer(caller, build_tensors(EXAMPLE_CUSTOMER), outputs=[{"name": "all"}])
    assert unknown.status_code == 422
    assert unknown.json()["errors"][0]["field"] == "outputs.0.name"


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"tenure": {"datatype": "FP64"}}, "inputs.tenure.datatype", "INT64"),
        ({"tenure": {"datatype": "INT128"}}, "inputs.2.datatype", "INT64"),
        ({"tenure": {"data": [1.5]}}, "inputs.tenure.data.0", "integer"),
        ({"tenure": {"data": [300]}}, "inputs.tenure.data.0", "less than or equal to 240"),
        ({"tenure": {"data": [1, 2]}}, "inputs.tenure.data", "2 values"),
        ({"tenure": {"shape": [2]}}, "inputs.tenure.shape", "[2]"),
        ({"tenure": {"shape": [1, 2]}}, "inputs.tenure.shape", "[1, 2]"),
        ({"tenure": {"name": "age"}}, "inputs", "lacks tenure"),
        ({"contract": {"data": ["Weekly"]}}, "inputs.contract.data.0", "Month-to-month"),
        ({"contract": {"data": [[["a"]]]}}, "inputs.contract.data.0", "Month-to-month"),
        ({"multiple_lines": {"data": ["Yes"]}}, "inputs.multiple_lines.data.0", "contradicts"),
        ({"customer_id": {"shape": [1001]}}, "inputs.customer_id.shape", "1 to 1000"),
        ({"customer_id": {"shape": [-1]}}, "inputs.customer_id.shape", "1 to 1000"),
    ],
)
def test_a_wrong_tensor_is_422_and_named(caller, changes, field, message):
    tensors = build_tensors(EXAMPLE_CUSTOMER, **changes)
    if field == "inputs.2.datatype":
        tensors = sorted(tensors, key=lambda tensor: tensor["name"] == "tenure")[-3:]
    answer = infer(caller, tensors)
    problem = answer.json()
    error = problem["errors"][0]
    assert answer.status_code == 422 and problem["status"] == 422
    assert error["field"] == field and message in error["message"]
    assert field in problem["error"]


def test_tensors_are_json_also_where_the_head_names_no_kind(caller):
    """As Triton's client sends them."""
    content = json.dumps({"inputs": build_tensors(EXAMPLE_CUSTOMER)})
    request = caller.build_request("POST", f"{MODEL}/infer", content=content)
    assert "content-type" not in request.headers
    assert caller.send(request).status_code == 200
    binary = caller.post(
        f"{MODEL}/infer", content=b"{}1234", headers={"Inference-Header-Content-Length": "2"}
    )
    assert binary.status_code == 415 and "binary" in binary.json()["error"]
    named = caller.post(f"{MODEL}/infer", content=content, headers={"content-type": "text/plain"})
    assert named.status_code == 415


def test_small_bodies_cannot_ask_for_many_errors(caller):
    for tensors in ([{}] * 50, [{str(i): 0 for i in range(10_000)}]):
        answer = infer(caller, tensors)
        assert answer.status_code == 422 and len(answer.json()["errors"]) <= 20
    wrong = build_tensors(*[EXAMPLE_CUSTOMER] * 1000, contract={"data": ["Weekly"] * 1000})
    answer = infer(caller, wrong)
    assert answer.status_code == 422 and len(answer.json()["errors"]) == 20


def test_probes_need_neither_key_nor_host(api, shared_serving_home):
    version = shared_serving_home.predecessor
    probes = {
        "/v2/health/live": {"live": True},
        "/v2/health/ready": {"ready": True},
        f"{MODEL}/ready": {"name": settings.MODEL_NAME, "ready": True},
        f"{MODEL}/versions/{version}/ready": {"name": settings.MODEL_NAME, "ready": True},
    }
    for path, expected in probes.items():
        answer = httpx.get(api.address + path, headers={"Host": "10.0.0.1"})
        assert (answer.status_code, answer.json()) == (200, expected)
        assert httpx.head(api.address + path).status_code == 200
    for path in ("/v2/models/other/ready", f"{MODEL}/versions/99/ready"):
        assert httpx.get(api.address + path).status_code == 404


def test_everything_else_needs_a_key(api):
    for path in (MODEL, f"{MODEL}/versions/1", f"{MODEL}/infer", f"{MODEL}/infer/ready"):
        answer = httpx.get(api.address + path)
        assert answer.status_code == 401 and "valid key" in answer.json()["error"]
    refused = httpx.get(f"{api.address}/v2", headers={"Host": "10.0.0.1"})
    assert refused.status_code == 421 and "error" in refused.json()


def test_metadata_says_what_infer_takes(caller, shared_serving_home):
    assert caller.get("/v2").json()["extensions"] == []
    described = caller.get(MODEL).json()
    version = str(shared_serving_home.predecessor)
    assert described["versions"] == [version]
    tensors = [
        tensor | {"shape": [1], "data": [EXAMPLE_CUSTOMER[tensor["name"]]]}
        for tensor in described["inputs"]
    ]
    answer = infer(caller, tensors)
    assert [output["name"] for output in described["outputs"]] == list(read_outputs(answer))
    assert caller.get(f"{MODEL}/versions/{version}").json() == described


def test_another_model_or_version_is_404_in_words(caller, shared_serving_home):
    tensors = build_tensors(EXAMPLE_CUSTOMER)
    version = shared_serving_home.predecessor
    assert infer(caller, tensors, f"{MODEL}/versions/{version}/infer").status_code == 200
    for path in (f"{MODEL}/versions/99/infer", f"{MODEL}/versions/x/infer"):
        refused = infer(caller, tensors, path)
        assert refused.status_code == 404
        assert refused.json()["error"].endswith(f"what answers is version {version}.")
    refused = infer(caller, tensors, "/v2/models/other/infer")
    assert refused.status_code == 404 and settings.MODEL_NAME in refused.json()["error"]


def test_a_batch_counts_its_customers_against_the_rate(shared_serving_home):
    limited = Api(CHURN_TODAY="2025-02-01", CHURN_RATE_LIMIT="10")
    with limited as opened, httpx.Client(base_url=opened.address, timeout=60) as client:
        answer = infer(client, build_tensors(*[EXAMPLE_CUSTOMER] * 100))
        assert answer.status_code == 200
        refused = infer(client, build_tensors(EXAMPLE_CUSTOMER))
        assert refused.status_code == 429 and "error" in refused.json()


def test_in_a_split_each_customer_has_its_version(serving_home):
    ab_test.start(serving_home.challenger, factories.AS_OF, 0.5)
    customers = [EXAMPLE_CUSTOMER | {"customer_id": f"{i:04}-ABCDE"} for i in range(40)]
    tensors = build_tensors(*customers)
    split = Api(CHURN_TODAY="2025-02-01")
    with split as opened, httpx.Client(base_url=opened.address, timeout=60) as client:
        opened.wait_for_ab_test()
        answered = read_outputs(infer(client, tensors))["model_version"]
        assert set(answered) == {serving_home.predecessor, serving_home.challenger}
        described = client.get(MODEL).json()
        assert set(described["versions"]) == {str(version) for version in answered}
        own = np.array(answered) == serving_home.challenger
        path = f"{MODEL}/versions/{serving_home.challenger}/infer"
        mixed = infer(client, tensors, path)
        assert mixed.status_code == 404 and "(champion) does" in mixed.json()["error"]
        chosen = [customer for customer, is_own in zip(customers, own, strict=True) if is_own]
        answer = infer(client, build_tensors(*chosen), path)
        assert answer.json()["model_version"] == str(serving_home.challenger)
