"""The end of the API's process, with callers at work."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import httpx
import pytest

from churn_utils.serving.client import find_free_port

pytestmark = pytest.mark.slow
SERVER = """
import socket, sys
from functools import partial
import uvicorn
from fastapi import FastAPI
from churn_utils.serving.metrics import ServingMetrics
from churn_utils.serving.middleware import ApiMiddleware
from churn_utils.serving.connections import ConnectionLimits, OpenConnections
from churn_utils.serving.protocol import ChurnProtocol
from churn_utils.serving.settings import ServingSettings
from churn_utils.serving.shutdown import Drain, DrainingServer

app, drain = FastAPI(), Drain()
app.add_api_route("/thing", lambda: {"draining": drain.is_draining})
app.add_middleware(
    ApiMiddleware, settings=ServingSettings(), metrics=ServingMetrics(), drain=drain
)
protocol = partial(ChurnProtocol, open_connections=OpenConnections(ConnectionLimits(), print))
config = uvicorn.Config(app, http=protocol, log_level="error")
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
DrainingServer(config, drain, drain_seconds=1.0, close_log=lambda: None).run([listening])
"""


@pytest.fixture
def server():
    """A small server in a process of its own, and its port."""
    port = find_free_port()
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(SERVER), str(port)])
    with httpx.Client(trust_env=False) as client:
        while process.poll() is None:
            try:
                client.get(f"http://127.0.0.1:{port}/thing")
                break
            except httpx.ConnectError:
                time.sleep(0.02)
    yield process, port
    process.kill()
    process.wait()


def call_until_refused(port, failures, answers):
    """Call over one connection until the server no longer listens."""
    with httpx.Client(trust_env=False, timeout=30) as client:
        while True:
            try:
                answer = client.get(f"http://127.0.0.1:{port}/thing")
                answers.append(answer.json()["draining"])
            except httpx.ConnectError:
                return
            except httpx.TransportError as error:
                failures.append(repr(error))
                return


@pytest.mark.parametrize(
    "round_", [0, *(pytest.param(n, marks=pytest.mark.long) for n in range(1, 10))]
)
def test_no_caller_sees_a_reset_after_sigterm(server, round_):
    process, port = server
    failures, answers = [], []
    callers = [
        threading.Thread(target=call_until_refused, args=(port, failures, answers))
        for _ in range(8)
    ]
    for caller in callers:
        caller.start()
    while len(answers) < 100:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGTERM)
    for caller in callers:
        caller.join(60)
    assert failures == []
    assert answers.count(True) > 8  # they went on while it drained
    assert process.wait(60) in (0, -signal.SIGTERM)
