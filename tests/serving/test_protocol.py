import asyncio
import json
import socket
from contextlib import asynccontextmanager

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse

from churn_utils.serving.metrics import ServingMetrics
from churn_utils.serving.middleware import ApiMiddleware
from churn_utils.serving.protocol import GatheringProtocol, GatheringTransport
from churn_utils.serving.settings import ServingSettings


class Recorder:
    """The parts of a transport that are written to, and what arrived there."""

    def __init__(self):
        self.written, self.closed = [], False

    def write(self, data):
        self.written.append(data)

    def close(self):
        self.closed = True

    def is_closing(self):
        return self.closed


def play(steps):
    async def run():
        below = Recorder()
        await steps(GatheringTransport(below, asyncio.get_running_loop()), below)
        return below

    return asyncio.run(run())


def test_writes_of_one_turn_leave_together_and_in_order():
    async def steps(transport, below):
        transport.write(b"head ")
        transport.write(b"body")
        assert below.written == []
        await asyncio.sleep(0)
        assert below.written == [b"head body"]
        transport.write(b"next")
        await asyncio.sleep(0)

    assert play(steps).written == [b"head body", b"next"]


def test_kept_writes_leave_before_the_close():
    async def steps(transport, below):
        transport.write(b"last words")
        transport.close()
        assert below.written == [b"last words"] and transport.is_closing()
        transport.write(b"too late")
        await asyncio.sleep(0)

    assert play(steps).written == [b"last words"]


@asynccontextmanager
async def serve(app=None, **changes):
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app or build_app(),
        http=GatheringProtocol,
        ws="none",
        log_level="error",
        lifespan="off",
        **changes,
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve([listening]))
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running


def build_app():
    app = FastAPI()
    large = bytes(5_000_000)

    @app.get("/small")
    @app.head("/small")
    async def small():
        return {"answer": 42}

    @app.get("/nothing")
    async def nothing():
        return Response(status_code=204)

    @app.get("/large")
    async def all_at_once():
        return Response(large)

    @app.get("/stream")
    async def in_parts():
        async def parts():
            for start in range(0, len(large), 100_000):
                yield large[start : start + 100_000]
                await asyncio.sleep(0)

        return StreamingResponse(parts())

    return app


@pytest.mark.parametrize(
    ("method", "path", "status", "size"),
    [
        ("GET", "/small", 200, 13),
        ("HEAD", "/small", 200, 0),
        ("GET", "/nothing", 204, 0),
        ("GET", "/large", 200, 5_000_000),
        ("GET", "/stream", 200, 5_000_000),
    ],
)
@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_responses_of_every_kind_arrive_whole(method, path, status, size, connection):
    async def call():
        async with serve() as url, httpx.AsyncClient(timeout=20) as client:
            for _ in range(2):
                found = await client.request(method, url + path, headers={"Connection": connection})
                assert (found.status_code, len(found.content)) == (status, size)

    asyncio.run(call())


def test_pipelined_requests_are_answered_in_order():
    async def call():
        async with serve() as url:
            host, port = url.removeprefix("http://").split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n" * 50)  # pipelined: 50 at once
            text = b""
            while text.count(b'{"answer":42}') < 50:
                part = await asyncio.wait_for(reader.read(65536), 10)
                assert part
                text += part
            writer.close()
            assert text.count(b"HTTP/1.1 200 OK") == 50

    asyncio.run(call())


async def send_over(connection, path):
    """Send a request over an open connection; its head and document."""
    reader, writer = connection
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return head.decode().lower(), await reader.readexactly(length)


def build_limited(most):
    app, metrics = FastAPI(), ServingMetrics()
    app.add_api_route("/v1/thing", lambda: {"answer": 42})
    app.add_api_route("/healthz", lambda: {"status": "alive"})
    app.add_middleware(
        ApiMiddleware,
        settings=ServingSettings(max_connections=most),
        metrics=metrics,
    )
    return app, metrics


def test_surplus_connections_get_503_but_probes_an_answer():
    app, metrics = build_limited(3)

    async def call():
        async with serve(app, limit_concurrency=3) as url:
            port = int(url.rsplit(":")[-1])
            opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
            heads = [
                (await send_over(connection, "/v1/thing"))[0].split("\r\n")[0]
                for connection in opened
            ]
            assert heads == ["http/1.1 200 ok"] * 3 + ["http/1.1 503 service unavailable"] * 2
            head, body = await send_over(opened[4], "/v1/thing")
            assert "content-type: application/problem+json" in head and "retry-after: 1" in head
            document = json.loads(body)
            assert (
                document["request_id"] in head and "More than 3 connections" in document["detail"]
            )
            assert (await send_over(opened[4], "/healthz"))[0].startswith("http/1.1 200")
            for _, writer in opened[:2]:
                writer.close()
            while not (await send_over(opened[4], "/v1/thing"))[0].startswith(
                "http/1.1 200"
            ):  # there is room again
                await asyncio.sleep(0.01)
            for _, writer in opened[2:]:
                writer.close()

    asyncio.run(asyncio.wait_for(call(), 20))
    refused = metrics.seconds_of("other", "GET", 503)
    assert refused._sum.get() > 0


def test_connections_are_bounded_and_silent_ones_closed():
    app, _ = build_limited(10)

    async def call():
        async with serve(app, limit_concurrency=10, timeout_keep_alive=1) as url:
            port = int(url.rsplit(":")[-1])
            opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(300)]
            ended = await asyncio.gather(*(is_ended(reader, 0.3) for reader, _ in opened))
            assert ended.count(False) == 20
            ended = await asyncio.gather(*(is_ended(reader, 3) for reader, _ in opened))
            assert all(ended)
            for _, writer in opened:
                writer.close()
            again = await asyncio.open_connection("127.0.0.1", port)
            assert (await send_over(again, "/v1/thing"))[0].startswith("http/1.1 200")
            again[1].close()

    asyncio.run(asyncio.wait_for(call(), 20))


async def is_ended(reader, seconds):
    try:
        return await asyncio.wait_for(reader.read(1), seconds) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True
