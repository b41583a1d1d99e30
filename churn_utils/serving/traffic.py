"""Traffic: callers that request one customer after the other, and how long each request took.

The callers use ``http.client``: a request costs the caller a third of the CPU that it costs with
httpx, and all of that would be measured as latency of the API.
"""

from __future__ import annotations

import http.client
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pandas as pd

HEADERS = {"Content-Type": "application/json"}
TIMEOUT_SECONDS = 10


class Outcome(NamedTuple):
    """One request and its response."""

    customer_id: str
    status: int  # 0 without a response
    model_version: int | None  # None without a prediction, as the arm
    arm: str | None
    second: float  # of the request, since the start of the traffic
    milliseconds: float  # until the response was read


def send(
    host: str,
    port: int,
    customer_ids: Sequence[str],
    callers: int = 2,
    seconds: float | None = None,
) -> pd.DataFrame:
    """Request one customer after the other, with several callers at once.

    Args:
        customer_ids: split among the callers.
        callers: at once, each with a connection of its own.
        seconds: how long; each customer once when not given.

    Returns:
        One row per request with the fields of ``Outcome``: ``customer_id, status, model_version,
        arm, second, milliseconds``.
    """
    start = time.perf_counter()

    def call(number: int) -> list[Outcome]:
        """Send the requests of one caller."""
        own_ids = customer_ids[number::callers]
        repeated = _repeat(own_ids, start, seconds)
        return _call(host, port, repeated, start)

    with ThreadPoolExecutor(callers) as pool:
        outcomes = itertools.chain.from_iterable(pool.map(call, range(callers)))
        return pd.DataFrame(outcomes, columns=list(Outcome._fields))


def _repeat(customer_ids: Sequence[str], start: float, seconds: float | None) -> Iterator[str]:
    """Yield each customer once, or all of them repeatedly until the time is over."""
    if seconds is None or not customer_ids:
        yield from customer_ids
        return
    for customer_id in itertools.cycle(customer_ids):
        if time.perf_counter() > start + seconds:
            return
        yield customer_id


def _call(host: str, port: int, customer_ids: Iterator[str], start: float) -> list[Outcome]:
    """Request the customers over one connection."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    outcomes = []
    for customer_id in customer_ids:
        sent = time.perf_counter()
        status, version, arm = _request(connection, customer_id)
        milliseconds = 1000 * (time.perf_counter() - sent)
        outcomes.append(Outcome(customer_id, status, version, arm, sent - start, milliseconds))
    connection.close()
    return outcomes


def _request(
    connection: http.client.HTTPConnection, customer_id: str
) -> tuple[int, int | None, str | None]:
    """Request one prediction; return its status, model version and arm."""
    body = json.dumps({"customer_ids": [customer_id]})
    try:
        connection.request("POST", "/v1/predictions", body, HEADERS)
        response = connection.getresponse()
        document = json.loads(response.read())
    except (OSError, http.client.HTTPException):
        connection.close()  # the next request opens it again
        return 0, None, None
    if response.status != 200:
        return response.status, None, None
    prediction = document["predictions"][0]
    return 200, prediction["model_version"], prediction["arm"]
