import asyncio
import socket
from contextlib import asynccontextmanager

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse

from churn_utils.serving_transport import GatheringProtocol, GatheringTransport


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


def test_what_is_kept_leaves_before_the_close_and_nothing_after_it():
    async def steps(transport, below):
        transport.write(b"last words")
        transport.close()
        assert below.written == [b"last words"] and transport.is_closing()
        transport.write(b"too late")
        await asyncio.sleep(0)

    assert play(steps).written == [b"last words"]


@asynccontextmanager
async def serve():
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

    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, http=GatheringProtocol, ws="none", log_level="error"))
    running = asyncio.create_task(server.serve([listening]))
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running


@pytest.mark.parametrize(
    ("method", "path", "status", "size"),
    [("GET", "/small", 200, 13), ("HEAD", "/small", 200, 0), ("GET", "/nothing", 204, 0),
     ("GET", "/large", 200, 5_000_000), ("GET", "/stream", 200, 5_000_000)],
)  # fmt: skip
@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_answers_of_every_kind_arrive_whole(method, path, status, size, connection):
    async def ask():
        async with serve() as url, httpx.AsyncClient(timeout=20) as client:
            for _ in range(2):
                found = await client.request(method, url + path, headers={"Connection": connection})
                assert (found.status_code, len(found.content)) == (status, size)

    asyncio.run(ask())


def test_many_requests_on_one_connection_are_answered_in_order():
    async def ask():
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

    asyncio.run(ask())
