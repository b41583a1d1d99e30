"""Run the API as a process: check what it needs (port, home, store), listen, serve."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sqlite3
import sys
import tempfile
from functools import partial

import uvicorn

from churn_utils import settings
from churn_utils.errors import ChurnError, UsageError
from churn_utils.features import online
from churn_utils.serving.app import create_app
from churn_utils.serving.connections import ConnectionLimits, OpenConnections
from churn_utils.serving.log_lines import log_to_standard_error
from churn_utils.serving.protocol import ChurnProtocol
from churn_utils.serving.settings import ServingSettings
from churn_utils.serving.shutdown import FINISH_SECONDS, DrainingServer

# How long an answer waits for the thread that writes the log; Python's own 5 ms show in the p99.
SWITCH_SECONDS = 0.0005
OTHER_FILES = 256  # held open beside the connections: libraries, tables, databases
HIGHEST_PORT = 65535
log = logging.getLogger(__name__)


def run_server(host: str, port: int) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        host: address to listen on.
        port: port to listen on; 0 takes any free one.

    Raises:
        UsageError, ChurnError: as ``prepare``; a variable that it cannot work with.
    """
    serving = ServingSettings()
    sockets = prepare(serving, host, port)
    close_log = log_to_standard_error()
    sys.setswitchinterval(SWITCH_SECONDS)
    bound_port = sockets[0].getsockname()[1]
    log.info("serving on http://%s:%d; Ctrl-C ends it", host, bound_port)
    app = create_app(serving)
    open_connections = OpenConnections(_limits_of(serving), app.state.metrics.count_refused_head)
    config = uvicorn.Config(
        app,
        access_log=False,
        server_header=False,
        proxy_headers=bool(serving.proxies),
        forwarded_allow_ips=serving.proxies,
        timeout_graceful_shutdown=FINISH_SECONDS,
        log_config=None,
        # uvicorn calls it as it would a class
        http=partial(ChurnProtocol, open_connections=open_connections),  # type: ignore[arg-type]
        ws="none",
    )
    server = DrainingServer(config, app.state.drain, serving.drain_seconds, close_log)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets)


def _limits_of(serving: ServingSettings) -> ConnectionLimits:
    """Return the limits of connections that the settings ask for."""
    return ConnectionLimits(
        connections=serving.max_connections,
        per_address=serving.max_connections_per_address,
        seconds=serving.receive_seconds,
        unlimited_addresses=frozenset(serving.proxies),
    )


def prepare(serving: ServingSettings, host: str, port: int) -> list[socket.socket]:
    """Check what the API needs; return the sockets to listen on.

    Raises:
        UsageError: an option or variable that it cannot work with.
        ChurnError: a port that is taken, a home that cannot be written, a store that does not open.
    """
    sockets = bind(host, port)
    try:
        check_home()
        check_store(serving.online_store)
    except ChurnError:
        _close(sockets)
        raise
    allow_files(2 * serving.max_connections + OTHER_FILES)
    return sockets


def bind(host: str, port: int) -> list[socket.socket]:
    """Bind a port at every address of a host; connections are refused until somebody listens.

    Raises:
        UsageError: no such host or port.
        ChurnError: the port is taken, or not allowed.
    """
    if not 0 <= port <= HIGHEST_PORT:
        raise UsageError(f"--port is {port}; it must be 0 (any free port) to {HIGHEST_PORT}.")
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise UsageError(f"--host is {host!r}, which cannot be found: {error.strerror}.") from error
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in addresses:
            opened = socket.socket(family, kind, protocol)
            sockets.append(opened)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:  # IPv4 has a socket of its own
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            opened.bind(address)
    except OSError as error:
        _close(sockets)
        raise ChurnError(
            f"port {port} of {host} cannot be had: {error.strerror}. Choose another with --port."
        ) from error
    return sockets


def _close(sockets: list[socket.socket]) -> None:
    """Close every socket."""
    for opened in sockets:
        opened.close()


def check_home() -> None:
    """Check that the home can be written: log, online features and registry are kept there.

    Raises:
        ChurnError: it or one of its folders cannot.
    """
    home = settings.home()
    folders = (home, settings.lakehouse(), settings.mlflow_folder(), home / "online")
    try:
        home.mkdir(parents=True, exist_ok=True)
        for folder in folders:
            if folder.exists():
                with tempfile.TemporaryFile(dir=folder):
                    pass
    except OSError as error:
        raise ChurnError(
            f"the home {home} (CHURN_HOME) cannot be written: {error.strerror}."
        ) from error


def check_store(address: str) -> None:
    """Check that the online store opens: a Redis server, or SQLite in the home if empty.

    Raises:
        UsageError: not an address.
        ChurnError: no server answers there, or its file cannot be opened.
    """
    try:
        asyncio.run(online.open_store(address).close())
    except ValueError as error:
        raise UsageError(f"CHURN_ONLINE_STORE is no address of a Redis server: {error}.") from error
    except (ChurnError, OSError, sqlite3.Error) as error:
        raise ChurnError(f"the online store does not open: {error}") from error


def allow_files(count: int) -> None:
    """Raise the limit of open files and connections to ``count``, if the system allows."""
    if os.name != "posix":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
