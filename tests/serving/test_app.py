import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import factories
import httpx
import pytest
import uvicorn
from log_entries import id_of
from starlette.testclient import TestClient

from churn_utils.data import tables
from churn_utils.registry import approvals, deployments, promotion
from churn_utils.serving import app
from churn_utils.serving.client import find_free_port
from churn_utils.serving.examples import EXAMPLE_CUSTOMER
from churn_utils.serving.settings import ServingSettings

ID = "7590-VHVEG"
SETTINGS = ServingSettings(today="2025-02-01", poll_seconds=0.05, log_seconds=0.1, access_log=False)


def wait_until_ready(client):
    end = time.monotonic() + 300
    while client.get("/readyz").status_code != 200:
        assert time.monotonic() < end, client.get("/readyz").text
        time.sleep(0.05)


@pytest.fixture(scope="module")
def client(shared_serving_home):
    """The API of one home, for all tests of this module that do not change what is in place."""
    with TestClient(app.create_app(SETTINGS)) as opened:
        wait_until_ready(opened)
        yield opened


def predict(client, *customer_ids):
    return client.post("/v1/predictions", json={"customer_ids": customer_ids})


def test_a_prediction_has_every_documented_value(client, shared_serving_home):
    answer = predict(client, ID).json()
    found = answer["predictions"][0]
    assert (
        found["customer_id"] == ID
        and found["features_as_of"] == "2025-01-01"
        and answer["unknown_customers"] == []
    )
    assert (
        found["expected_value_usd"] == 2000 * found["churn_probability"] - 500
        and found["threshold"] == 0.25
    )
    assert (found["decision"] == "offer") == (found["churn_probability"] >= 0.25)
    assert (found["model_version"], found["arm"]) == (shared_serving_home.predecessor, "champion")


def test_unknown_customers_are_named_or_404_if_all_are(client):
    some = predict(client, "0000-NONE", ID, "NOTHERE")
    assert some.status_code == 200 and some.json()["unknown_customers"] == ["0000-NONE", "NOTHERE"]
    assert [p["customer_id"] for p in some.json()["predictions"]] == [ID]
    none = predict(client, "0000-NONE")
    assert (
        none.status_code == 404
        and none.json()["errors"][0]["message"] == "0000-NONE has no features"
    )


def test_a_damaged_row_makes_its_customer_alone_unavailable(client):
    factories.change_online_store(
        f"CREATE TABLE kept AS SELECT * FROM online WHERE customer_id='{ID}'"
    )
    factories.change_online_store(
        f"UPDATE online SET row = replace(row, 29.85, -1e9) WHERE customer_id = '{ID}'"
    )
    try:
        both = predict(client, ID, "5575-GNVDE")
        alone = predict(client, ID)
        ready = client.get("/readyz")
        counted = client.get("/metrics").text
    finally:
        factories.change_online_store("INSERT OR REPLACE INTO online SELECT * FROM kept")
        factories.change_online_store("DROP TABLE kept")
    assert both.status_code == 200 and both.json()["unavailable_customers"] == [ID]
    assert [found["customer_id"] for found in both.json()["predictions"]] == ["5575-GNVDE"]
    assert alone.status_code == 503 and ID in alone.json()["errors"][0]["message"]
    assert ready.status_code == 200 and "churn_damaged_rows_total 2.0" in counted
    assert predict(client, ID).status_code == 200


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"tenure": 1.5}, "tenure", "valid integer"),
        ({"contract": "Weekly"}, "contract", "Month-to-month"),
        ({"monthly_charges": 1e400}, "monthly_charges", ""),
        ({"multiple_lines": "Yes"}, "multiple_lines", "contradicts"),
        ({"total_charges": None}, "total_charges", "blank although tenure is not 0"),
        ({"extra": 1}, "extra", "not permitted"),
    ],
)
def test_a_wrong_field_is_422_and_named(client, changes, field, message):
    body = json.dumps({"customers": [EXAMPLE_CUSTOMER, EXAMPLE_CUSTOMER | changes]})
    answer = client.post("/v1/scores", content=body, headers={"content-type": "application/json"})
    error = answer.json()["errors"][0]
    assert (
        answer.status_code == 422
        and error["field"] == f"customers.1.{field}"
        and message in error["message"]
    )


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"customer_ids": NaN}']
)
def test_a_body_that_is_not_a_request_is_422(client, body):
    answer = client.post(
        "/v1/predictions", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 422 and answer.json()["errors"]


def test_a_receipt_exists_before_and_after_the_log_write(client):
    shown = predict(client, ID).json()["predictions"][0]
    path = f"/v1/predictions/{shown['prediction_id']}"
    first = client.get(path).json()
    assert (
        first["reproduced_probability"] == first["churn_probability"] == shown["churn_probability"]
    )
    while client.app.state.predictor.log.written == 0 or len(client.app.state.predictor.log):
        time.sleep(0.02)
    assert client.get(path).json() == first
    for unknown in (id_of(1, datetime.now(UTC)), "ffffffff-ffff-7fff-8000-000000000000"):
        assert client.get(f"/v1/predictions/{unknown}").status_code == 404
    assert client.get("/v1/predictions/../etc/passwd").status_code == 404
    assert client.get("/v1/predictions/something").status_code == 422


def test_the_receipt_of_an_answer_that_is_too_old_is_410(client):
    made = datetime.now(UTC) - timedelta(days=400)
    answer = client.get(f"/v1/predictions/{id_of(1, made)}")
    assert answer.status_code == 410
    assert answer.json()["detail"] == "Answers are kept for 13 months, and this one is older."
    made = datetime.now(UTC) - timedelta(days=380)
    assert client.get(f"/v1/predictions/{id_of(1, made)}").status_code == 404


def test_model_health_and_metrics_are_shown(client, shared_serving_home):
    assert client.get("/healthz").json()["status"] == "alive"
    info = client.get("/v1/model").json()
    assert info["model_version"] == shared_serving_home.predecessor and info["trial"] is None
    assert info["approved_by"] == approvals.AUTOMATIC and info["features_published"] == "2025-01-01"
    text = client.get("/metrics").text
    assert (
        f'churn_model_serving{{arm="champion",model_version="{info["model_version"]}"}} 1.0' in text
    )
    assert "churn_feature_age_days 31.0" in text


def test_each_prediction_route_has_its_own_series(client):
    predict(client, ID)
    predict(client)
    client.post("/v1/scores", json={"customers": [EXAMPLE_CUSTOMER]})
    text = client.get("/metrics").text
    for route, status in (("predictions", 200), ("predictions", 422), ("scores", 200)):
        assert (
            f'churn_request_seconds_count{{method="POST",route="/v1/{route}",status="{status}"}}'
            in text
        )


def test_documents_are_complete_and_load_local_files(client):
    page = client.get("/docs").text
    assert (
        "https://" not in page
        and client.get("/docs/assets/swagger-ui-bundle.js").status_code == 200
    )
    document = client.get("/openapi.json").json()
    assert (
        "HTTPValidationError" not in json.dumps(document)
        and "securitySchemes" not in document["components"]
    )
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["description"]
            if path.startswith("/v1/") and "post" in operations:
                assert {"401", "413", "422", "429", "503"} <= set(operation["responses"])


def test_readyz_gives_the_reason_when_not_ready(client, monkeypatch):
    monkeypatch.setattr(
        client.app.state.predictor, "why_not_ready", lambda: "The inference log cannot be written."
    )
    answer = client.get("/readyz")
    assert answer.status_code == 503 and answer.headers["Retry-After"] == "1"
    assert answer.json()["detail"] == "The inference log cannot be written."
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("path", ["/v1/model/", "/v1/predictions/", "/healthz/", "/docs/"])
def test_a_trailing_slash_is_404_without_a_redirect(client, path):
    for method in ("GET", "POST"):
        answer = client.request(
            method, path, headers={"Host": "elsewhere.example"}, follow_redirects=False
        )
        assert answer.status_code == 421
        answer = client.request(method, path, json={}, follow_redirects=False)
        assert (
            answer.status_code == 404
            and answer.json()["status"] == 404
            and "location" not in answer.headers
        )


def test_the_head_of_what_can_be_read_may_be_requested_alone(client):
    for path in ("/healthz", "/readyz", "/v1/model", "/docs"):
        answer = client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == str(len(client.get(path).content))
        series = f'churn_request_seconds_count{{method="HEAD",route="{path}",status="200"}}'
        assert series in client.get("/metrics").text
    assert client.head("/v1/predictions").status_code == 405


# From here on tests have homes of their own. The API above reads its home from the environment: it
# would take the home of another test for its own, replaced, and not be ready for a moment.


def test_other_origins_are_allowed_only_by_a_setting(client, serving_home):
    assert (
        "access-control-allow-origin"
        not in client.get("/healthz", headers={"Origin": "https://a.example"}).headers
    )
    open_one = TestClient(
        app.create_app(ServingSettings(cors_origins="https://a.example", access_log=False))
    )
    for origin, allowed in (("https://a.example", True), ("https://b.example", False)):
        headers = open_one.get("/healthz", headers={"Origin": origin}).headers
        assert ("access-control-allow-origin" in headers) == allowed


def test_required_keys_are_documented(serving_home):
    keyed = TestClient(app.create_app(ServingSettings(api_keys="key", access_log=False)))
    document = keyed.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["key"]["name"] == "X-API-Key"
    assert document["paths"]["/v1/scores"]["post"]["security"] == [{"key": []}]
    assert (
        "security" not in document["paths"]["/healthz"]["get"]
        and keyed.get("/v1/model").status_code == 401
    )


def test_an_empty_home_is_alive_but_not_ready(home):
    with TestClient(app.create_app(SETTINGS)) as empty:
        assert empty.get("/healthz").status_code == 200
        for answer in (empty.get("/readyz"), predict(empty, ID), empty.get("/v1/model")):
            assert answer.status_code == 503 and answer.headers["Retry-After"] == "1"


@pytest.fixture(scope="module")
def live_server(serving_world, tmp_path_factory):
    """Address of a server that listens on a port of this machine."""
    with factories.at_home(
        shutil.copytree(serving_world.home, tmp_path_factory.mktemp("live") / "home")
    ):
        port = find_free_port()
        server = uvicorn.Server(
            uvicorn.Config(app.create_app(SETTINGS), port=port, log_config=None)
        )
        thread = threading.Thread(target=server.run)
        thread.start()
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", transport=httpx.HTTPTransport(retries=5)
        ) as client:
            wait_until_ready(client)
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True
        thread.join()


# A customer may fit the types and contradict itself (a second line without a phone): 422 is right.
# An id may be of a time whose answers are no longer kept, as the documented example is: 410.
SCHEMATHESIS = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "404", "410", "422"]
"""


@pytest.mark.long  # test_openapi and the generated client try the document in short
def test_schemathesis_finds_no_undocumented_response(live_server, tmp_path):
    """All its checks: examples, edges of every field, random and chained requests."""
    (tmp_path / "schemathesis.toml").write_text(SCHEMATHESIS)
    command = [
        Path(sys.executable).with_name("schemathesis"),
        "--config-file",
        "schemathesis.toml",
        "run",
        f"{live_server}/openapi.json",
        "--checks",
        "all",
        "--max-examples",
        "25",
        "--seed",
        "1",
        "--no-color",
    ]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert found.returncode == 0, found.stdout[-6000:]
    assert "Tested: 19" in found.stdout and "No issues found" in found.stdout


def approve_for_promotion(home):
    approvals.approve(home.challenger, "Ada", "good", factories.AS_OF)
    return [home.challenger, home.predecessor]


@pytest.mark.parametrize("rounds", [4, pytest.param(10, marks=pytest.mark.long)])
def test_promotions_under_load_fail_no_request(serving_home, rounds):
    versions = approve_for_promotion(serving_home)
    promotion.promote(versions[0], factories.AS_OF)
    granted = {version: promotion.check_deployed(version) for version in versions}
    answers, ended = [], threading.Event()

    def load(opened):
        while not ended.is_set():
            answer = predict(opened, ID)
            answers.append((answer.status_code, answer.json()["predictions"][0]["model_version"]))
            answers.append((opened.get("/readyz").status_code, None))

    with TestClient(app.create_app(SETTINGS)) as opened:
        wait_until_ready(opened)
        worker = threading.Thread(target=load, args=(opened,))
        worker.start()
        for i in range(1, rounds + 1):
            # not ``promote``: the gate has compared neither version with the other
            promotion.activate(
                versions[i % 2], factories.AS_OF, granted[versions[i % 2]], deployments.PROMOTED
            )
            end = time.monotonic() + 120
            while serving_version(opened) != versions[i % 2]:
                assert time.monotonic() < end, "the promotion was not taken up"
                time.sleep(0.01)
        ended.set()
        worker.join()
    assert {status for status, _ in answers} == {200}
    assert {version for _, version in answers if version} == set(versions)


def serving_version(client):
    return client.app.state.predictor.state.models.champion.version


def test_an_overloaded_server_logs_every_answer(serving_home):
    """The command itself, with many callers and a SIGTERM: no answer is missing in the table."""
    port = find_free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "churn_utils", "serve", "--port", str(port)],
        env={
            **os.environ,
            "CHURN_TODAY": "2025-02-01",
            "CHURN_LOG_CAPACITY": "2000",
            "CHURN_LOG_SECONDS": "0.2",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    given, refused = [], []

    def post():
        body = json.dumps({"customer_ids": [ID] * 20}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/predictions", body, {"content-type": "application/json"}
        )
        while True:
            try:
                with urllib.request.urlopen(request, timeout=120) as answer:
                    given.extend(p["prediction_id"] for p in json.load(answer)["predictions"])
            except urllib.error.HTTPError as error:
                refused.append(error.code)
            except OSError:  # the server has ended
                return

    try:
        end = time.monotonic() + 300
        while time.monotonic() < end:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5)
                break
            except OSError:
                time.sleep(0.2)
        callers = [threading.Thread(target=post) for _ in range(8)]
        for caller in callers:
            caller.start()
        time.sleep(3)
        server.send_signal(signal.SIGTERM)
        # uvicorn ends as the signal asked, after its clean-up
        assert server.wait(30) in (0, -signal.SIGTERM)
        for caller in callers:
            caller.join()
    finally:
        server.kill()
    stored = tables.read("inference_log")["prediction_id"]
    assert len(given) > 1000 and set(refused) <= {503}
    assert set(given) <= set(stored) and stored.is_unique


def test_features_come_from_redis_if_set(serving_home, redis_address):
    changed = ServingSettings(today="2025-02-01", access_log=False, online_store=redis_address)
    with TestClient(app.create_app(changed)) as opened:
        wait_until_ready(opened)
        assert predict(opened, ID).json()["predictions"][0]["features_as_of"] == "2025-01-01"
