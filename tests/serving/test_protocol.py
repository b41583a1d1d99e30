import asyncio
import contextlib
import json
import socket
import sys
from contextlib import asynccontextmanager, closing
from functools import partial

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from churn_utils.serving.connections import ConnectionLimits, OpenConnections
from churn_utils.serving.gathering_transport import GatheringTransport
from churn_utils.serving.metrics import ServingMetrics
from churn_utils.serving.middleware import ApiMiddleware
from churn_utils.serving.protocol import ChurnProtocol
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


DEFAULT_LIMITS = ConnectionLimits()


@asynccontextmanager
async def serve(app=None, limits=DEFAULT_LIMITS, refused=None, **changes):
    """Serve an application; ``refused`` collects the statuses of heads that were refused."""
    listening = socket.create_server(("127.0.0.1", 0))
    statuses = [] if refused is None else refused
    open_connections = OpenConnections(limits, statuses.append)
    config = uvicorn.Config(
        app or build_app(),
        http=partial(ChurnProtocol, open_connections=open_connections),
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
        settings=ServingSettings(max_connections=most, allowed_hosts="*"),
        metrics=metrics,
    )
    return app, metrics


def test_surplus_connections_get_503_but_probes_an_answer():
    app, metrics = build_limited(3)

    async def call():
        async with serve(app, ConnectionLimits(connections=3)) as url:
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
        async with serve(app, ConnectionLimits(connections=10), timeout_keep_alive=1) as url:
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


SHORT = ConnectionLimits(seconds=0.3)


def port_of(url):
    return int(url.rsplit(":")[-1])


async def read_to_end(reader):
    """What arrives until the server closes; a reset ends it as well."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while part := await asyncio.wait_for(reader.read(65536), 20):
            received += part
    return received


async def send_raw(url, data):
    """What a server answers to bytes until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(url))
    writer.write(data)
    received = await read_to_end(reader)
    writer.close()
    return received


def check_problem(received, status):
    """Check that exactly one response came: a problem document of a status."""
    head, document = received.split(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"application/problem+json" in head and b"connection: close" in head
    assert json.loads(document)["status"] == status


HEAD = b"POST /body HTTP/1.1\r\nHost: x\r\n"
UNFINISHED = {
    "nothing of a head but its first byte": (b"P", 408),
    "half a head": (HEAD, 408),
    "one byte of a body": (HEAD + b"Content-Length: 100\r\n\r\nx", 408),
    "no part of a chunked body": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", 408),
    "no HTTP": (b"\x16\x03\x01 hello\r\n\r\n", 400),
    "a head without end": (HEAD + b"X-Fill: " + b"a" * 300_000, 431),
    "a header without end, in lines": (HEAD + b"X-Fill: a\r\n" * 30_000, 431),
    "a whole head that is too large": (HEAD + b"X-Fill: " + b"a" * 70_000 + b"\r\n\r\n", 431),
    "a path without end": (b"GET /" + b"a" * 300_000, 431),
}


def build_body_app(seen):
    """An application behind the middleware that notes the bodies it was given."""
    app = FastAPI()

    @app.post("/body")
    async def take(request: Request):
        seen.append(await request.body())
        return {"taken": True}

    settings = ServingSettings(allowed_hosts="*")
    app.add_middleware(ApiMiddleware, settings=settings, metrics=ServingMetrics())
    return app


@pytest.mark.parametrize("name", UNFINISHED)
def test_a_request_without_end_is_refused_and_closed(name):
    data, status = UNFINISHED[name]
    seen = []

    async def call():
        async with serve(build_body_app(seen), SHORT) as url:
            check_problem(await send_raw(url, data), status)

    asyncio.run(call())
    assert seen == []


def test_a_head_is_not_charged_for_the_body_before_it():
    seen, refused = [], []
    first = HEAD + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000
    second = HEAD + b"Connection: close\r\nContent-Length: 1\r\n\r\ny"

    async def call():
        async with serve(build_body_app(seen), DEFAULT_LIMITS, refused) as url:
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(url))
            # so much of the second head that a rest of it is left, whatever is read at once
            writer.write(first + second[:30])
            await asyncio.sleep(0.2)
            writer.write(second[30:])
            received = await read_to_end(reader)
            writer.close()
            return received

    received = asyncio.run(call())
    assert received.count(b"HTTP/1.1 200 ") == 2 and refused == []
    assert [len(body) for body in seen] == [100_000, 1]


def test_what_follows_a_refused_request_is_not_answered():
    seen, refused = [], []
    follows = HEAD + b"Content-Length: 1\r\n\r\nx"
    whole = HEAD + b"X-Fill: " + b"a" * 70_000 + b"\r\nContent-Length: 1\r\n\r\nx"

    async def call():
        async with serve(build_body_app(seen), SHORT, refused) as url:
            check_problem(await send_raw(url, whole + follows), 431)

    asyncio.run(call())
    assert seen == [] and refused == [431]


def test_a_slow_body_after_its_refusal_is_closed():
    head = HEAD + b"Content-Length: 2000000\r\n\r\n"

    async def call():
        async with serve(build_body_app([]), SHORT) as url:
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(url))
            writer.write(head)
            assert b" 413 " in await reader.readline()
            sending = asyncio.create_task(trickle(writer))
            await read_to_end(reader)
            sending.cancel()
            writer.close()

    asyncio.run(asyncio.wait_for(call(), 20))


async def trickle(writer):
    """Send a byte now and then, as long as the server lets it."""
    while True:
        writer.write(b"x")
        await asyncio.sleep(0.05)


def test_a_caller_that_takes_no_answer_is_closed():
    async def call():
        async with serve(limits=SHORT) as url:
            with closing(socket.create_connection(("127.0.0.1", port_of(url)))) as caller:
                caller.setblocking(False)
                caller.send(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n" * 4)
                await asyncio.sleep(1)
                received = await asyncio.to_thread(read_blocking, caller)
                assert received < 20_000_000

    asyncio.run(asyncio.wait_for(call(), 30))


def read_blocking(caller):
    """Read until the connection ends; return the number of bytes."""
    caller.settimeout(20)
    count = 0
    with contextlib.suppress(ConnectionError):
        while part := caller.recv(65536):
            count += len(part)
    return count


async def open_from(address, url):
    return await asyncio.open_connection("127.0.0.1", port_of(url), local_addr=(address, 0))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")
def test_an_address_cannot_use_up_what_others_need():
    app, _ = build_limited(100)
    limits = ConnectionLimits(connections=5, per_address=3)

    async def call():
        async with serve(app, limits) as url:
            greedy = [await open_from("127.0.0.2", url) for _ in range(4)]
            statuses = [(await send_over(opened, "/v1/thing"))[0][9:12] for opened in greedy]
            assert statuses == ["200"] * 3 + ["503"]
            other = await open_from("127.0.0.3", url)
            assert (await send_over(other, "/v1/thing"))[0][9:12] == "200"
            for _, writer in [*greedy, other]:
                writer.close()

    asyncio.run(asyncio.wait_for(call(), 20))


def test_proxies_are_not_limited_as_one_address():
    app, _ = build_limited(100)
    limits = ConnectionLimits(per_address=1, unlimited_addresses=frozenset({"127.0.0.1"}))

    async def call():
        async with serve(app, limits) as url:
            opened = [await open_from("127.0.0.1", url) for _ in range(3)]
            for connection in opened:
                assert (await send_over(connection, "/v1/thing"))[0][9:12] == "200"
                connection[1].close()

    asyncio.run(asyncio.wait_for(call(), 20))


def test_a_probe_is_answered_beside_connections_that_wait():
    app, _ = build_limited(100)

    async def call():
        async with serve(app, ConnectionLimits(connections=5)) as url:
            waiting = [await open_from("127.0.0.1", url) for _ in range(30)]
            probe = await open_from("127.0.0.1", url)
            assert (await send_over(probe, "/healthz"))[0][9:12] == "200"
            for _, writer in [*waiting, probe]:
                writer.close()

    asyncio.run(asyncio.wait_for(call(), 20))
