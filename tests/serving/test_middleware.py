import asyncio
import json

import pytest
from fastapi import FastAPI, Request, Response
from starlette.testclient import TestClient

from churn_utils.errors import ChurnError
from churn_utils.serving.error_responses import add_error_handlers
from churn_utils.serving.log_lines import LineWriter
from churn_utils.serving.metrics import ServingMetrics
from churn_utils.serving.middleware import ApiMiddleware
from churn_utils.serving.settings import ServingSettings

STANDARD_OUTPUT = 1


def build_client(**changes):
    app = FastAPI()
    add_error_handlers(app)
    app.state.metrics = ServingMetrics()
    app.state.access_log = LineWriter(STANDARD_OUTPUT)

    @app.post("/v1/echo")
    async def echo(request: Request) -> Response:
        return Response(await request.body())

    @app.post("/v1/batch")
    async def take_batch(request: Request) -> Response:
        request.scope["state"]["charge"](99)
        return Response()

    @app.get("/v1/broken")
    async def broken() -> Response:
        raise RuntimeError("secret at /home/ada/key")

    @app.get("/v1/away")
    async def away() -> Response:
        raise ChurnError("no Redis at /var/run/redis.sock")

    @app.get("/open")
    async def is_open() -> Response:
        return Response("open")

    app.add_middleware(
        ApiMiddleware,
        settings=ServingSettings(**changes),
        metrics=app.state.metrics,
        access_log=app.state.access_log,
    )
    return TestClient(app, raise_server_exceptions=False)


def test_a_body_over_the_limit_is_refused():
    client = build_client(max_body_bytes=100)
    assert client.post("/v1/echo", content=b"x" * 100).content == b"x" * 100
    refused = client.post("/v1/echo", content=b"x" * 101)
    assert (
        refused.status_code == 413
        and refused.json()["detail"] == "The body is larger than 100 bytes."
    )


def test_a_body_in_parts_is_joined_or_refused():
    client = build_client(max_body_bytes=100)
    assert (
        client.post("/v1/echo", content=iter([b"a" * 50, b"b" * 50])).content
        == b"a" * 50 + b"b" * 50
    )
    assert client.post("/v1/echo", content=iter([b"a" * 50] * 1000)).status_code == 413


def test_a_length_that_is_not_a_number_is_refused():
    assert (
        build_client().post("/v1/echo", content=b"x", headers={"content-length": "-1"}).status_code
        == 413
    )


@pytest.mark.parametrize(
    ("key", "status"),
    [
        (None, 401),
        ("", 401),
        ("wrong", 401),
        ("firs", 401),
        ("first,second", 401),
        ("first", 200),
        ("second", 200),
    ],
)
def test_only_a_valid_key_opens_protected_routes(key, status):
    client = build_client(api_keys="first,second")
    headers = {} if key is None else {"X-API-Key": key}
    assert client.post("/v1/echo", headers=headers).status_code == status
    assert client.get("/open").status_code == 200


def test_a_caller_over_its_rate_gets_retry_after():
    client = build_client(rate_limit=2, api_keys="first,second")
    statuses = [
        client.post("/v1/echo", headers={"X-API-Key": "first"}).status_code for _ in range(6)
    ]
    assert statuses[:4] == [200] * 4 and 429 in statuses
    refused = client.post("/v1/echo", headers={"X-API-Key": "first"})
    assert int(refused.headers["Retry-After"]) >= 1 and refused.json()["status"] == 429
    assert client.post("/v1/echo", headers={"X-API-Key": "second"}).status_code == 200
    assert client.get("/open").status_code == 200


def test_guessing_keys_is_limited_apart_from_valid_keys():
    client = build_client(rate_limit=2, api_keys="first")
    answers = [client.post("/v1/echo", headers={"X-API-Key": f"made-up-{i}"}) for i in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 4 + [429] * 2
    assert int(answers[-1].headers["Retry-After"]) >= 1
    assert client.post("/v1/echo", headers={"X-API-Key": "first"}).status_code == 200


def test_a_made_up_key_does_not_evade_the_rate_limit():
    client = build_client(rate_limit=1)
    statuses = [
        client.post("/v1/echo", headers={"X-API-Key": f"made-up-{i}"}).status_code for i in range(5)
    ]
    assert 429 in statuses


ORIGIN = "https://a.example"


def send_preflight(client, origin=ORIGIN):
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-api-key,content-type",
    }
    return client.options("/v1/echo", headers={"Origin": origin, **asked})


def test_a_preflight_needs_no_key_and_is_counted():
    client = build_client(api_keys="key", cors_origins=ORIGIN)
    answer = send_preflight(client)
    assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == ORIGIN
    assert (
        "x-api-key" in answer.headers["access-control-allow-headers"].lower()
        and answer.headers["X-Request-ID"]
    )
    assert 'route="other",status="200"} 1.0' in _metrics(client)
    assert send_preflight(client, "https://b.example").status_code == 400
    assert (
        client.options("/v1/echo", headers={"Origin": ORIGIN}).status_code == 401
    )  # not a preflight
    assert (
        send_preflight(build_client(api_keys="key")).status_code == 401
    )  # where no origin is let in


def test_browsers_may_read_refusals_and_failures():
    client = build_client(api_keys="key", cors_origins=ORIGIN, rate_limit=2, max_body_bytes=10)
    headers = {"Origin": ORIGIN, "X-API-Key": "key"}
    answers = [
        client.post("/v1/echo", headers={"Origin": ORIGIN}),
        client.get("/v1/broken", headers=headers),
        *(client.post("/v1/echo", content=b"x" * 11, headers=headers) for _ in range(4)),
    ]
    assert [answer.status_code for answer in answers] == [401, 500, 413, 413, 413, 429]
    for answer in answers:
        assert (
            answer.headers["access-control-allow-origin"] == ORIGIN
            and answer.headers["X-Request-ID"]
        )
        assert (
            "x-request-id, retry-after" in answer.headers["access-control-expose-headers"].lower()
        )
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("given", "kept"), [("order-17", True), ("a b", False), ("x" * 65, False), ("", False)]
)
def test_only_a_well_formed_request_id_is_kept(given, kept):
    answer = build_client().get("/open", headers={"X-Request-ID": given})
    assert (answer.headers["X-Request-ID"] == given) == kept and len(
        answer.headers["X-Request-ID"]
    ) >= 8


def test_errors_are_problem_documents_without_trace():
    client = build_client()
    for path, status in (("/v1/broken", 500), ("/v1/away", 503), ("/nowhere", 404)):
        answer = client.get(path, headers={"X-Request-ID": "id-1"})
        assert (
            answer.status_code == status
            and answer.headers["content-type"] == "application/problem+json"
        )
        assert answer.json()["request_id"] == "id-1" and "/" not in answer.json()["detail"]
        assert answer.headers["X-Request-ID"] == "id-1"
    assert client.put("/v1/echo").status_code == 405


def test_requests_are_counted_by_route_pattern():
    client = build_client()
    for path in ("/open", "/open", "/x1", "/x2"):
        client.get(path)
    client.request("BREW", "/open")
    text = client.get("/open").status_code and _metrics(client)
    assert 'churn_request_seconds_count{method="GET",route="/open",status="200"} 3.0' in text
    assert 'churn_request_seconds_count{method="GET",route="other",status="404"} 2.0' in text
    assert "BREW" not in text


def test_refused_requests_are_counted_by_their_route():
    client = build_client(api_keys="key")
    for path in ("/v1/predictions", "/v1/predictions/some-id", "/v1/scores"):
        client.post(path)
    text = _metrics(client)
    for route in ("/v1/predictions", "/v1/scores", "other"):
        assert (
            f'churn_request_seconds_count{{method="POST",route="{route}",status="401"}} 1.0' in text
        )


def _metrics(client):
    from prometheus_client import generate_latest

    return generate_latest(client.app.state.metrics.registry).decode()


def test_every_request_leaves_a_json_line(capfdbinary):
    client = build_client(api_keys="crm:secret-key")
    client.get("/open", headers={"X-Request-ID": "id-1"})
    client.post("/v1/echo", headers={"X-API-Key": "secret-key"})
    client.app.state.access_log.start()
    client.app.state.access_log.close()
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [(line["request_id"], line["path"], line["status"]) for line in lines][0] == (
        "id-1",
        "/open",
        200,
    )
    assert len(lines) == 2 and lines[1]["milliseconds"] >= 0 and "secret-key" not in str(lines)
    assert [line["caller"] for line in lines] == ["", "crm"]


def test_a_trace_goes_on_in_answer_and_access_log(capfdbinary):
    client = build_client(api_keys="key")
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    given = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    for path in ("/open", "/v1/echo", "/healthz"):  # answered, refused, not found
        answer = client.post(path, headers=given)
        assert answer.headers["traceparent"].split("-")[::3] == ["00", "01"]
    broken = client.get("/v1/broken", headers=given | {"X-API-Key": "key"})
    assert broken.status_code == 500 and trace_id in broken.headers["traceparent"]
    without = client.get("/open", headers={"traceparent": "00-0-0-0"})
    assert "traceparent" not in without.headers
    client.app.state.access_log.start()
    client.app.state.access_log.close()
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [line.get("trace_id") for line in lines] == [trace_id] * 4 + [None]
    last = answer.headers["traceparent"].split("-")[2]
    assert lines[2]["span_id"] == last and "span_id" not in lines[4]


def test_another_host_is_refused():
    client = build_client(api_keys="key")
    assert client.get("/open", headers={"Host": "evil.example"}).status_code == 421


def test_a_bearer_token_is_a_key_too():
    client = build_client(api_keys="crm:key")
    refused = client.post("/v1/echo", headers={"Authorization": "Bearer wrong"})
    assert refused.status_code == 401 and refused.headers["WWW-Authenticate"] == "Bearer"
    for scheme in ("Bearer", "bearer"):
        headers = {"Authorization": f"{scheme} key"}
        assert client.post("/v1/echo", headers=headers).status_code == 200
    assert client.post("/v1/echo", headers={"Authorization": "Basic key"}).status_code == 401


def test_head_is_answered_as_get_without_its_body():
    client = build_client()
    answer = client.head("/open")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == "4"
    assert 'method="HEAD",route="/open",status="200"} 1.0' in _metrics(client)
    assert client.head("/nowhere").status_code == 404


def test_a_batch_is_paid_for_by_the_next_request():
    client = build_client(rate_limit=5)
    assert client.post("/v1/batch").status_code == 200
    refused = client.post("/v1/batch")
    assert refused.status_code == 429 and int(refused.headers["Retry-After"]) >= 10


def test_other_than_http_is_passed_on():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    asyncio.run(
        ApiMiddleware(app, ServingSettings(access_log=False), ServingMetrics())(
            {"type": "lifespan"}, None, None
        )
    )
    assert seen == ["lifespan"]
