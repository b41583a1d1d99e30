"""Run the API as a process: check what it needs, listen, serve until a signal ends it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading

import uvicorn

from churn_utils.serving.app import create_app
from churn_utils.serving.protocol import GatheringProtocol
from churn_utils.serving.settings import ServingSettings
from churn_utils.serving.startup import prepare

# How long an answer waits for the thread that writes the log; Python's own 5 ms show in the p99.
SWITCH_SECONDS = 0.0005
DRAIN_SECONDS = 10  # that requests under way have to end after SIGTERM
log = logging.getLogger(__name__)


def run_server(host: str, port: int, until_stdin_closes: bool = False) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        host: address to listen on.
        port: port to listen on; 0 takes any free one.
        until_stdin_closes: also end when standard input does.

    Raises:
        UsageError: an option or a variable that it cannot work with.
        ChurnError: a port that is taken, a home that cannot be written, a store that does not open.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    settings = ServingSettings()
    sockets = prepare(settings, host, port)
    sys.setswitchinterval(SWITCH_SECONDS)
    if until_stdin_closes:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    bound_port = sockets[0].getsockname()[1]
    log.info("serving on http://%s:%d; Ctrl-C ends it", host, bound_port)
    _serve(settings, sockets)


def _serve(settings: ServingSettings, sockets: list[socket.socket]) -> None:
    config = uvicorn.Config(
        create_app(settings),
        access_log=False,
        server_header=False,
        limit_concurrency=settings.max_connections,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        log_config=None,
        http=GatheringProtocol,
        ws="none",
    )
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets)


def _end_with_stdin() -> None:
    """Send this process SIGTERM when standard input closes."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
