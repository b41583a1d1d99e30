"""Start the API as a process of its own, ask it, and send it traffic: for notebooks, tests and benchmarks."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pandas as pd

from churn_utils.errors import ChurnError

READY_SECONDS = 60.0
HEADERS = {"Content-Type": "application/json"}


class Api:
    """A running API of this home; ends with ``close``, a ``with`` block, or this process."""

    def __init__(self, **variables: str) -> None:
        """Start it on a free port of this machine; it becomes ready while other things are done.

        Args:
            variables: environment variables for it, such as ``CHURN_TODAY``.
        """
        self.port = find_free_port()
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "churn_utils",
                "serve",
                "--port",
                str(self.port),
                "--until-stdin-closes",
            ],
            env={**os.environ, "CHURN_ACCESS_LOG": "0", **variables},
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> Api:
        """Wait until it is ready."""
        self.wait_until_ready()
        return self

    def __exit__(self, *_) -> None:
        """End it."""
        self.close()

    @property
    def pid(self) -> int:
        """Number of its process."""
        return self._process.pid

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def wait_until_ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait until it can answer.

        Raises:
            ChurnError: it ended, or was not ready in time; the message holds the end of its output.
        """
        end = time.monotonic() + seconds
        while self._process.poll() is None and time.monotonic() < end:
            try:
                if self._send("GET", "/readyz")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        self.close()
        raise ChurnError(f"the API did not become ready; its last words: {self.last_words}")

    def wait_for_version(self, version: int, seconds: float = READY_SECONDS) -> float:
        """Wait until a version answers as champion; return the seconds that it took.

        Raises:
            ChurnError: it does not in time.
        """
        start = time.monotonic()
        _wait_for(
            lambda: self.get("model")["model_version"] == version,
            seconds,
            f"version {version} does not answer",
        )
        return time.monotonic() - start

    def wait_for_trial(self, seconds: float = READY_SECONDS) -> dict:
        """Wait until a trial runs and return what ``model`` says of it.

        Raises:
            ChurnError: none runs in time.
        """
        return _wait_for(lambda: self.get("model")["trial"], seconds, "no trial runs")

    def wait_for_log(self, seconds: float = READY_SECONDS) -> None:
        """Wait until every answer that was given is in the inference log.

        Raises:
            ChurnError: some are still waiting after that time.
        """
        written = b"\nchurn_log_waiting 0.0\n"
        _wait_for(
            lambda: written in self._send("GET", "/metrics")[1],
            seconds,
            "the inference log is not written",
        )

    def request(self, method: str, name: str, content: dict | None = None) -> tuple[int, dict]:
        """Send one request to a resource under ``/v1``, such as ``predictions``; return status and document."""
        status, body = self._send(method, f"/v1/{name}", content)
        return status, json.loads(body)

    def _send(self, method: str, path: str, content: dict | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(
                method, path, None if content is None else json.dumps(content), HEADERS
            )
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def get(self, name: str) -> dict:
        """Read a resource under ``/v1``, such as ``model``.

        Raises:
            ChurnError: another answer than 200.
        """
        status, document = self.request("GET", name)
        if status != 200:
            raise ChurnError(f"{name} was answered {status}: {document['detail']}")
        return document

    def predict(self, customer_ids: Sequence[str]) -> pd.DataFrame:
        """Ask for predictions by id: one row per answer.

        Raises:
            ChurnError: another answer than 200.
        """
        status, document = self.request("POST", "predictions", {"customer_ids": list(customer_ids)})
        if status != 200:
            raise ChurnError(f"the request was answered {status}: {document['detail']}")
        return pd.DataFrame(document["predictions"])

    def send_traffic(
        self, customer_ids: Sequence[str], callers: int = 2, seconds: float | None = None
    ) -> pd.DataFrame:
        """Ask for one customer after the other, each once, or again and again for some seconds.

        Returns:
            One row per request: ``customer_id, status, model_version, arm, second`` (since the start) and
            ``milliseconds``; a request without an answer has status 0.
        """
        start = time.perf_counter()
        shares = [customer_ids[i::callers] for i in range(callers)]
        with ThreadPoolExecutor(callers) as pool:
            rows = pool.map(lambda share: self._call(share, start, seconds), shares)
        columns = ["customer_id", "status", "model_version", "arm", "second", "milliseconds"]
        return pd.DataFrame([row for part in rows for row in part], columns=columns)

    def start_traffic(
        self, customer_ids: Sequence[str], seconds: float, callers: int = 2
    ) -> Future:
        """Send traffic in the background; ``result()`` waits for its end and returns the frame."""
        pool = ThreadPoolExecutor(1)
        future = pool.submit(self.send_traffic, customer_ids, callers, seconds)
        pool.shutdown(wait=False)
        return future

    def _call(
        self, customer_ids: Sequence[str], start: float, seconds: float | None
    ) -> list[tuple]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        rows: list[tuple] = []
        while seconds is None or time.perf_counter() < start + seconds:
            for customer_id in customer_ids:
                sent = time.perf_counter()
                if seconds is not None and sent > start + seconds:
                    break
                status, version, arm = _ask_one(connection, customer_id)
                rows.append(
                    (
                        customer_id,
                        status,
                        version,
                        arm,
                        sent - start,
                        1000 * (time.perf_counter() - sent),
                    )
                )
            if seconds is None:
                break
        connection.close()
        return rows

    def close(self) -> None:
        """End the process, which writes what waits to be logged; kill it after half a minute."""
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if not self._output.closed:
            self._output.seek(0)
            self.last_words = self._output.read()[-2000:]
            self._output.close()


def _wait_for(look: Callable[[], Any], seconds: float, otherwise: str) -> Any:
    """Look until something is found and return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.02)
    raise ChurnError(f"{otherwise} after {seconds:.0f} s.")


def _ask_one(
    connection: http.client.HTTPConnection, customer_id: str
) -> tuple[int, int | None, str | None]:
    try:
        connection.request(
            "POST", "/v1/predictions", json.dumps({"customer_ids": [customer_id]}), HEADERS
        )
        answer = connection.getresponse()
        document = json.loads(answer.read())
    except (OSError, http.client.HTTPException):
        connection.close()
        return 0, None, None
    if answer.status != 200:
        return answer.status, None, None
    found = document["predictions"][0]
    return 200, found["model_version"], found["arm"]


def find_free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
