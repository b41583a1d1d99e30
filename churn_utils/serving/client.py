"""Client: start the API as a process of its own, send it requests, for notebooks and tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pandas as pd

from churn_utils.errors import ChurnError
from churn_utils.serving import traffic

HOST = "127.0.0.1"
READY_SECONDS = 60.0
REQUEST_SECONDS = 10.0
END_SECONDS = 30.0
LAST_OUTPUT = 2000  # characters


class Api:
    """A running API of this home; ends with ``close``, a ``with`` block, or this process.

    After ``close``, ``last_output`` holds the end of what it wrote. A wait that takes too long and
    an unexpected status raise ``ChurnError``.
    """

    def __init__(self, **variables: str) -> None:
        """Start the API on a free port of this machine; it becomes ready in the background.

        ``variables`` are environment variables for it, such as ``CHURN_TODAY``.
        """
        self.port = find_free_port()
        self.last_output = ""
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        command = [sys.executable, "-m", "churn_utils", "serve", "--port", str(self.port)]
        self._process = subprocess.Popen(
            [*command, "--until-stdin-closes"],
            env={**os.environ, "CHURN_ACCESS_LOG": "0", "CHURN_DRAIN_SECONDS": "0", **variables},
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        self._client = httpx.Client(
            base_url=self.address,
            timeout=REQUEST_SECONDS,
            trust_env=False,  # no proxy stands before this machine
            verify=False,  # there is no TLS; certificates would take 0.1 s to load
        )

    def __enter__(self) -> Api:
        """Wait until the API is ready."""
        self.wait_until_ready()
        return self

    def __exit__(self, *_: object) -> None:
        """End the API."""
        self.close()

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    @property
    def address(self) -> str:
        """URL that the API listens on."""
        return f"http://{HOST}:{self.port}"

    def wait_until_ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait until ``/readyz`` says so.

        Raises:
            ChurnError: the API ended, or was not ready in time; the message has the end of its
                output.
        """
        end = time.monotonic() + seconds
        while self._process.poll() is None and time.monotonic() < end:
            if self._is_ready():
                return
            time.sleep(0.05)
        self.close()
        raise ChurnError(f"the API did not become ready; the end of its output: {self.last_output}")

    def _is_ready(self) -> bool:
        try:
            return self._client.get("/readyz").status_code == 200
        except httpx.TransportError:  # it does not listen yet
            return False

    def wait_for_version(self, version: int, seconds: float = READY_SECONDS) -> float:
        """Wait until a version serves as champion; return the seconds that it took."""
        start = time.monotonic()
        failure = f"version {version} does not serve"
        _wait_for(lambda: self.get("model")["model_version"] == version, seconds, failure)
        return time.monotonic() - start

    def wait_for_ab_test(self, seconds: float = READY_SECONDS) -> dict:
        """Wait until an A/B test runs; return ``version, mode, share, started`` of it."""
        return _wait_for(lambda: self.get("model")["trial"], seconds, "no A/B test runs")

    def wait_for_log(self, seconds: float = READY_SECONDS) -> None:
        """Wait until every prediction that was returned is in the inference log.

        Raises:
            ChurnError: some are still waiting after that time.
        """
        all_written = "\nchurn_log_waiting 0.0\n"
        _wait_for(
            lambda: all_written in self._client.get("/metrics").text,
            seconds,
            "the inference log is not written",
        )

    def request(self, method: str, name: str, content: dict | None = None) -> tuple[int, dict]:
        """Send a request to a resource under ``/v1``, such as ``predictions``.

        Returns:
            The status, and the document that ``/docs`` describes.
        """
        response = self._client.request(method, f"/v1/{name}", json=content)
        return response.status_code, response.json()

    def get(self, name: str) -> dict:
        """Read a resource under ``/v1``, such as ``model``; ``/docs`` describes the document."""
        return self._request_successfully("GET", name)

    def predict(self, customer_ids: Sequence[str]) -> pd.DataFrame:
        """Request predictions by id.

        Returns:
            One row per known customer, with the fields of ``schemas.Prediction`` as columns.
        """
        content = {"customer_ids": list(customer_ids)}
        document = self._request_successfully("POST", "predictions", content)
        return pd.DataFrame(document["predictions"])

    def _request_successfully(self, method: str, name: str, content: dict | None = None) -> dict:
        status, document = self.request(method, name, content)
        if status != 200:
            raise ChurnError(f"{method} {name} returned {status}: {document['detail']}")
        return document

    def send_traffic(
        self, customer_ids: Sequence[str], callers: int = 2, seconds: float | None = None
    ) -> pd.DataFrame:
        """Request one customer after the other, as ``traffic.send``, and return its frame."""
        return traffic.send(HOST, self.port, customer_ids, callers, seconds)

    def start_traffic(
        self, customer_ids: Sequence[str], seconds: float, callers: int = 2
    ) -> Future[pd.DataFrame]:
        """Send traffic in the background.

        Returns:
            A future whose ``result()`` is the frame of ``send_traffic``.
        """
        pool = ThreadPoolExecutor(1)
        future = pool.submit(self.send_traffic, customer_ids, callers, seconds)
        pool.shutdown(wait=False)
        return future

    def close(self) -> None:
        """End the process, which writes its log first; kill it after half a minute.

        Its last output is kept.
        """
        self._client.close()
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if not self._output.closed:
            self._output.seek(0)
            self.last_output = self._output.read()[-LAST_OUTPUT:]
            self._output.close()


def _wait_for(find: Callable[[], Any], seconds: float, failure: str) -> Any:
    """Call a function until it returns something true; return that."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = find()
        if found:
            return found
        time.sleep(0.02)
    raise ChurnError(f"{failure} after {seconds:.0f} s.")


def find_free_port() -> int:
    """Return a port of this machine that is free now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]
