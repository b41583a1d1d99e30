import asyncio
import json

import pytest
from fastapi import FastAPI, Request, Response
from starlette.testclient import TestClient

from churn_utils.errors import ChurnError
from churn_utils.serving.metrics import ServingMetrics
from churn_utils.serving.middleware import (
    MOST_CALLERS,
    ApiMiddleware,
    RateLimiter,
    _note_access,
    _write_access_lines,
    add_error_handlers,
    flush_access_log,
)
from churn_utils.serving.settings import ServingSettings


def build_client(**changes):
    app = FastAPI()
    add_error_handlers(app)
    app.state.metrics = ServingMetrics()

    @app.post("/v1/echo")
    async def echo(request: Request) -> Response:
        return Response(await request.body())

    @app.get("/v1/broken")
    async def broken() -> Response:
        raise RuntimeError("secret at /home/somebody/key")

    @app.get("/v1/away")
    async def away() -> Response:
        raise ChurnError("no Redis at /var/run/redis.sock")

    @app.get("/open")
    async def is_open() -> Response:
        return Response("open")

    settings = ServingSettings(**{"access_log": False, **changes})
    app.add_middleware(ApiMiddleware, settings=settings, metrics=app.state.metrics)
    return TestClient(app, raise_server_exceptions=False)


def test_a_body_up_to_the_limit_passes_and_a_larger_one_does_not():
    client = build_client(max_body_bytes=100)
    assert client.post("/v1/echo", content=b"x" * 100).content == b"x" * 100
    refused = client.post("/v1/echo", content=b"x" * 101)
    assert (
        refused.status_code == 413
        and refused.json()["detail"] == "The body is larger than 100 bytes."
    )


def test_a_body_that_comes_in_parts_is_put_together_or_cut_off():
    client = build_client(max_body_bytes=100)
    assert (
        client.post("/v1/echo", content=iter([b"a" * 50, b"b" * 50])).content
        == b"a" * 50 + b"b" * 50
    )
    assert client.post("/v1/echo", content=iter([b"a" * 50] * 1000)).status_code == 413


def test_a_length_that_is_no_number_is_refused():
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
def test_where_keys_are_asked_for_only_a_valid_one_opens(key, status):
    client = build_client(api_keys="first,second")
    headers = {} if key is None else {"X-API-Key": key}
    assert client.post("/v1/echo", headers=headers).status_code == status
    assert client.get("/open").status_code == 200


def test_a_caller_beyond_its_rate_is_told_when_to_come_back():
    client = build_client(rate_limit=2, api_keys="first,second")
    statuses = [
        client.post("/v1/echo", headers={"X-API-Key": "first"}).status_code for _ in range(6)
    ]
    assert statuses[:4] == [200] * 4 and 429 in statuses
    refused = client.post("/v1/echo", headers={"X-API-Key": "first"})
    assert int(refused.headers["Retry-After"]) >= 1 and refused.json()["status"] == 429
    assert client.post("/v1/echo", headers={"X-API-Key": "second"}).status_code == 200
    assert client.get("/open").status_code == 200


def test_an_address_that_tries_keys_is_limited_and_a_valid_key_from_there_is_not():
    client = build_client(rate_limit=2, api_keys="first")
    answers = [client.post("/v1/echo", headers={"X-API-Key": f"made-up-{i}"}) for i in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 4 + [429] * 2
    assert int(answers[-1].headers["Retry-After"]) >= 1
    assert client.post("/v1/echo", headers={"X-API-Key": "first"}).status_code == 200


def test_without_keys_a_made_up_one_does_not_get_around_the_rate():
    client = build_client(rate_limit=1)
    statuses = [
        client.post("/v1/echo", headers={"X-API-Key": f"made-up-{i}"}).status_code for i in range(5)
    ]
    assert 429 in statuses


def test_the_bucket_fills_at_its_rate_and_callers_are_bounded():
    now = [0.0]
    limiter = RateLimiter(10, lambda: now[0])
    assert [limiter.ask(b"a") for _ in range(20)] == [0.0] * 20
    assert limiter.ask(b"a") == pytest.approx(0.1)
    now[0] = 0.1
    assert limiter.ask(b"a") == 0.0 and limiter.ask(b"a") > 0
    for i in range(MOST_CALLERS + 50):
        limiter.ask(str(i).encode())
    assert len(limiter._buckets) == MOST_CALLERS


ORIGIN = "https://a.example"


def ask_beforehand(client, origin=ORIGIN):
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-api-key,content-type",
    }
    return client.options("/v1/echo", headers={"Origin": origin, **asked})


def test_a_browser_may_ask_beforehand_without_a_key_and_is_counted():
    client = build_client(api_keys="key", cors_origins=ORIGIN)
    answer = ask_beforehand(client)
    assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == ORIGIN
    assert (
        "x-api-key" in answer.headers["access-control-allow-headers"].lower()
        and answer.headers["X-Request-ID"]
    )
    assert 'route="other",status="200"} 1.0' in _metrics(client)
    assert ask_beforehand(client, "https://b.example").status_code == 400
    assert (
        client.options("/v1/echo", headers={"Origin": ORIGIN}).status_code == 401
    )  # asks nothing beforehand
    assert (
        ask_beforehand(build_client(api_keys="key")).status_code == 401
    )  # where no origin is let in


def test_a_browser_may_read_refusals_and_failures():
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
def test_a_sane_request_id_is_kept_and_any_other_replaced(given, kept):
    answer = build_client().get("/open", headers={"X-Request-ID": given})
    assert (answer.headers["X-Request-ID"] == given) == kept and len(
        answer.headers["X-Request-ID"]
    ) >= 8


def test_errors_have_one_form_without_path_or_trace():
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


def test_requests_are_counted_by_the_routes_pattern():
    client = build_client()
    for path in ("/open", "/open", "/x1", "/x2"):
        client.get(path)
    client.request("BREW", "/open")
    text = client.get("/open").status_code and _metrics(client)
    assert 'churn_request_seconds_count{method="GET",route="/open",status="200"} 3.0' in text
    assert 'churn_request_seconds_count{method="GET",route="other",status="404"} 2.0' in text
    assert "BREW" not in text


def test_refused_predictions_are_counted_where_answered_ones_are():
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


def test_every_request_leaves_a_line_that_a_machine_can_read(capfdbinary):
    client = build_client(access_log=True, api_keys="secret-key")
    client.get("/open", headers={"X-Request-ID": "id-1"})
    client.post("/v1/echo", headers={"X-API-Key": "secret-key"})
    _write_access_lines()
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [(line["request_id"], line["path"], line["status"]) for line in lines][0] == (
        "id-1",
        "/open",
        200,
    )
    assert len(lines) == 2 and lines[1]["milliseconds"] >= 0 and "secret-key" not in str(lines)


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


def test_a_write_that_fails_ends_neither_the_access_log_nor_keeps_its_lines_for_ever(
    capfdbinary, monkeypatch, caplog
):
    class Full:
        def write(self, data):
            raise OSError("No space left on device")

    async def play():
        flushing = asyncio.create_task(flush_access_log(0.01))
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout", type("Stream", (), {"buffer": Full()}))
            _note_access({"lost": 1})
            await asyncio.sleep(0.1)
        _note_access({"kept": 2})
        await asyncio.sleep(0.1)
        flushing.cancel()
        await asyncio.gather(flushing, return_exceptions=True)

    asyncio.run(play())
    assert capfdbinary.readouterr().out == b'{"kept":2}\n'
    assert "1 line(s) of the access log could not be written: No space left" in caplog.text


def test_the_access_log_is_emptied_in_time_and_at_the_end(capfdbinary):
    async def play():
        flushing = asyncio.create_task(flush_access_log(0.01))
        _note_access({"first": 1})
        assert capfdbinary.readouterr().out == b""  # not a write of its own for each line
        await asyncio.sleep(0.1)
        first = capfdbinary.readouterr().out
        _note_access({"second": 2})
        flushing.cancel()
        await asyncio.gather(flushing, return_exceptions=True)
        return first

    assert asyncio.run(play()) == b'{"first":1}\n'
    assert capfdbinary.readouterr().out == b'{"second":2}\n'
