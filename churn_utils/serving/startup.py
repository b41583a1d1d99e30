"""What the API looks at before it starts, so that one line says what is missing: its port, its home, its store."""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import tempfile

from churn_utils import settings
from churn_utils.errors import ChurnError, UsageError
from churn_utils.features import online
from churn_utils.serving.settings import ServingSettings

OTHER_FILES = (
    256  # that the process holds open beside its connections: libraries, tables, databases
)


def prepare(serving: ServingSettings, host: str, port: int) -> list[socket.socket]:
    """Check what the API needs; return the sockets that it is to listen on.

    Raises:
        UsageError: an option or variable that it cannot work with.
        ChurnError: a port that is taken, a home that cannot be written, a store that does not open.
    """
    found = bind(host, port)
    try:
        check_home()
        check_store(serving.online_store)
    except ChurnError:
        for bound in found:
            bound.close()
        raise
    allow_files(2 * serving.max_connections + OTHER_FILES)
    return found


def bind(host: str, port: int) -> list[socket.socket]:
    """Take a port at every address of a host, without listening yet: until then callers are refused.

    Raises:
        UsageError: no such host or port.
        ChurnError: it is taken, or not ours to take.
    """
    if not 0 <= port <= 65535:
        raise UsageError(f"--port is {port}; it must be 0 (any free port) to 65535.")
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise UsageError(f"--host is {host!r}, which cannot be found: {error.strerror}.") from error
    found: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in addresses:
            found.append(socket.socket(family, kind, protocol))
            found[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                found[-1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            found[-1].bind(address)
    except OSError as error:
        for bound in found:
            bound.close()
        message = (
            f"port {port} of {host} cannot be had: {error.strerror}. Choose another with --port."
        )
        raise ChurnError(message) from error
    return found


def check_home() -> None:
    """Check that the home can be written: log, online features and registry are kept there.

    Raises:
        ChurnError: it cannot, or one of its folders.
    """
    home = settings.home()
    try:
        home.mkdir(parents=True, exist_ok=True)
        for folder in (home, settings.lakehouse(), settings.mlflow_folder(), home / "online"):
            if folder.exists():
                with tempfile.TemporaryFile(dir=folder):
                    pass
    except OSError as error:
        raise ChurnError(
            f"the home {home} (CHURN_HOME) cannot be written: {error.strerror}."
        ) from error


def check_store(address: str) -> None:
    """Check that the online store opens.

    Raises:
        UsageError: an address that is none.
        ChurnError: nobody answers there, or its file cannot be opened.
    """
    try:
        asyncio.run(online.open_store(address).close())
    except ValueError as error:
        raise UsageError(f"CHURN_ONLINE_STORE is no address of a Redis server: {error}.") from error
    except (ChurnError, OSError, sqlite3.Error) as error:
        raise ChurnError(f"the online store does not open: {error}") from error


def allow_files(count: int) -> None:
    """Let the process hold as many files and connections open, if the system lets it."""
    if os.name != "posix":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
