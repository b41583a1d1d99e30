"""Ordinary callers beside attacks on the API, and a soak of both.

python benchmarks/attacks.py                 every attack in turn, beside ordinary callers
python benchmarks/attacks.py --soak 10       all attacks beside ordinary callers for ten minutes

Attacks come from a process and an address of their own (127.0.0.2), go to an API that is started
for this over a copy of a home, and are bounded in rate and time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import pandas as pd
import psutil
from results import save_table
from serving_endurance import Tally, report, send_load
from serving_throughput import copy_home

from churn_utils.data import tables
from churn_utils.serving.client import Api
from churn_utils.serving.request_bodies import MOST_VALUES

ROUNDS, SECONDS, RATE = 3, 5, 100  # of ordinary callers: requests a second, one customer each
WARM_UP_SECONDS = 3
MOST_P99, MOST_MEMORY, MOST_GROWTH = 3.0, 1.2, 1.05  # times the figure of before
ATTACKER = "127.0.0.2"
MISSING = "answers that are not in the log"
ANSWER_SECONDS = 15  # that an attacker waits for its answer
MEGABYTE = 2**20


@dataclass(frozen=True)
class Attack:
    """Bytes that are sent over and over.

    Attributes:
        content: what a connection sends.
        per_second: connections that are opened in a second.
        at_once: connections that may be open at once.
    """

    content: bytes
    per_second: int = 20
    at_once: int = 50


def build_post(path: str, body: bytes, *fields: str) -> bytes:
    """Return an HTTP request that posts JSON and closes the connection."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *fields,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def build_get(path: str, *fields: str) -> bytes:
    """Return an HTTP request that gets a path and closes the connection."""
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *fields]
    return "\r\n".join([*lines, "", ""]).encode()


MANY_KEYS = json.dumps({f"unknown{number}": 0 for number in range(50_000)}).encode()
FEWER_KEYS = json.dumps({f"unknown{number}": 0 for number in range(MOST_VALUES)}).encode()
MANY_LISTS = b'{"customer_ids": [' + b"[]," * 300_000 + b"[]]}"
EMPTY_CUSTOMERS = json.dumps({"customers": [{} for _ in range(1_000)]}).encode()
DEEP = b'{"customer_ids": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
UNKNOWN_RECEIPT = "/v1/predictions/01946dc1-6f3a-7c2e-9a51-3c5f2b9d8e0f"
ATTACKS = {
    "a head of 1 MB": Attack(build_get("/healthz", "X-Fill: " + "a" * MEGABYTE)),
    "half a head, kept open": Attack(b"POST /v1/predictions HTTP/1.1\r\nHost: ", 100, 400),
    "one byte of a body, kept open": Attack(
        build_post("/v1/predictions", b"x" * 100)[:-99], 100, 400
    ),
    "50,000 unknown keys": Attack(build_post("/v1/scores", MANY_KEYS)),
    f"{MOST_VALUES:,} unknown keys": Attack(build_post("/v1/scores", FEWER_KEYS)),
    "300,000 lists in a list": Attack(build_post("/v1/predictions", MANY_LISTS)),
    "1,000 empty customers": Attack(build_post("/v1/scores", EMPTY_CUSTOMERS)),
    "lists 100,000 deep": Attack(build_post("/v1/predictions", DEEP)),
    "a body that is announced with 1 TB": Attack(
        b"POST /v1/scores HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000000000\r\n\r\n"
    ),
    "receipts of unknown ids": Attack(build_get(UNKNOWN_RECEIPT)),
    "no HTTP": Attack(b"\x16\x03\x01\x00\xff" * 1_000),
    "another host": Attack(build_post("/v1/predictions", b"{}", "Host: example.org")),
}


async def send_attack(port: int, attack: Attack, statuses: Counter[str]) -> None:
    """Open a connection, send the bytes, read until the server closes it; count the status."""
    received = b""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, local_addr=(ATTACKER, 0)
            )
            try:
                writer.write(attack.content)
                while part := await reader.read(65_536):
                    received += part
            finally:
                writer.close()
    status = received[9:12].decode() if received.startswith(b"HTTP/1.1 ") else "closed"
    statuses[status] += 1


async def keep_attacking(port: int, attack: Attack, seconds: float, statuses: Counter[str]) -> None:
    """Repeat an attack at its rate for some seconds."""
    end = time.monotonic() + seconds
    running: set[asyncio.Task] = set()
    while time.monotonic() < end:
        if len(running) < attack.at_once:
            task = asyncio.create_task(send_attack(port, attack, statuses))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.sleep(1 / attack.per_second)
    for task in running:
        task.cancel()


def run_attacks(
    port: int, names: list[str], seconds: float, results: SimpleQueue[Counter[str]]
) -> None:
    """Make attacks side by side and hand out how they ended (what the attacking process does)."""
    statuses: Counter[str] = Counter()

    async def run() -> None:
        attacks = [keep_attacking(port, ATTACKS[name], seconds, statuses) for name in names]
        await asyncio.gather(*attacks)

    asyncio.run(run())
    results.put(statuses)


@contextlib.contextmanager
def attacking(port: int, names: list[str], seconds: float) -> Iterator[Counter[str]]:
    """Have attacks made by another process meanwhile; it ends by itself.

    Yields:
        How often the attacks ended with each status, filled when the process has ended.
    """
    context = multiprocessing.get_context("spawn")
    results: SimpleQueue[Counter[str]] = context.SimpleQueue()
    process = context.Process(target=run_attacks, args=(port, names, seconds, results), daemon=True)
    statuses: Counter[str] = Counter()
    process.start()
    try:
        yield statuses
    finally:
        process.join()
    if process.exitcode:
        sys.exit(f"the attacking process failed with exit code {process.exitcode}")
    statuses.update(results.get())
    if not statuses:
        sys.exit(f"no attack came to an end: {', '.join(names)}")


def call(api: Api, ids: list[str], seconds: float) -> Tally:
    """Have ordinary callers send their requests for some seconds."""
    return asyncio.run(send_load(api.port, ids, RATE, seconds, [], api.pid))


def describe_ends(statuses: Counter[str]) -> str:
    """Return statuses and how often each was seen, such as ``431 × 120, closed × 3``."""
    return ", ".join(f"{status} × {count}" for status, count in statuses.most_common())


def measure_attack(api: Api, ids: list[str], name: str) -> dict[str, object]:
    """Measure ordinary callers with and without an attack, in turn.

    Returns:
        What was measured, by the column to print: p99 in ms, memory in MB, failed requests.
    """
    process = psutil.Process(api.pid)
    memory_before = process.memory_info().rss
    alone: list[float] = []
    attacked: list[float] = []
    ended: Counter[str] = Counter()
    failed = 0
    for _ in range(ROUNDS):
        quiet = call(api, ids, SECONDS)
        with attacking(api.port, [name], SECONDS + WARM_UP_SECONDS) as statuses:
            time.sleep(WARM_UP_SECONDS)  # the attacking process starts
            beside = call(api, ids, SECONDS)
        ended += statuses
        alone += quiet.milliseconds
        attacked += beside.milliseconds
        failed += quiet.refused + quiet.lost + beside.refused + beside.lost
    p99_alone = pd.Series(alone).quantile(0.99)
    p99_attacked = pd.Series(attacked).quantile(0.99)
    memory_after = process.memory_info().rss
    return {
        "attack": name,
        "ended with": describe_ends(ended),
        "p99 alone, ms": round(p99_alone, 1),
        "p99 beside it, ms": round(p99_attacked, 1),
        "times as long": round(p99_attacked / p99_alone, 2),
        "failed requests": failed,
        "memory before / after, MB": f"{memory_before >> 20} / {memory_after >> 20}",
        "times as much": round(memory_after / memory_before, 2),
    }


def measure_attacks(api: Api, ids: list[str]) -> pd.DataFrame:
    """Measure every attack; one row each, with the columns of ``measure_attack``."""
    call(api, ids, SECONDS)  # the memory of an API that has answered nothing is no measure
    rows = []
    for name in ATTACKS:
        print(f"{name} …", flush=True)
        rows.append(measure_attack(api, ids, name))
    return pd.DataFrame(rows)


def soak(api: Api, ids: list[str], minutes: float) -> dict[str, object]:
    """Call and attack for some minutes.

    Returns:
        What was measured, by the text to print.
    """
    process = psutil.Process(api.pid)
    memory: list[int] = []
    files: list[int] = []
    tally = Tally()
    parts = max(2, round(minutes * 60 / SECONDS))
    with attacking(api.port, list(ATTACKS), minutes * 60) as statuses:
        for number in range(parts):
            part = call(api, ids, SECONDS)
            tally.answered += part.answered
            tally.predictions += part.predictions
            tally.refused += part.refused
            tally.lost += part.lost
            memory.append(process.memory_info().rss)
            files.append(process.num_fds())
            left = (parts - number - 1) * SECONDS
            print(f"{left:.0f} s left, {memory[-1] >> 20} MB ", end="\r", flush=True)
    tally.predictions += call(api, ids, SECONDS).predictions
    time.sleep(1)
    files.append(process.num_fds())
    api.wait_for_log()
    logged = len(tables.read("inference_log", columns=["prediction_id"]))
    warm = parts // 5  # the first fifth is the warm-up
    start = pd.Series(memory[warm : 2 * warm]).median()
    end = pd.Series(memory[-warm:]).median()
    return {
        "minutes": minutes,
        "attacks ended with": describe_ends(statuses),
        "ordinary requests answered": tally.answered,
        "refused": tally.refused,
        "lost": tally.lost,
        "memory after warm-up / at the end, MB": f"{int(start) >> 20} / {int(end) >> 20}",
        "growth": round(end / start, 3),
        "open files before / most / after": f"{files[0]} / {max(files)} / {files[-1]}",
        MISSING: tally.predictions - logged,
    }


def main() -> int:
    """Print and keep what was measured; exit 1 if a bound was not kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--soak", type=float, default=0, metavar="MINUTES")
    minutes = parser.parse_args().soak
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as text:
        copy_home(Path(text))
        ids = tables.read("customer_features", columns=["customer_id"])["customer_id"].tolist()
        with Api(CHURN_RECEIVE_SECONDS="2") as api:
            if minutes:
                measured = soak(api, ids[:1], minutes)
                report("Soak", measured)
                is_kept = measured["growth"] <= MOST_GROWTH
                return int(not is_kept or measured["lost"] > 0 or measured[MISSING] != 0)
            table = measure_attacks(api, ids[:1])
    save_table("Attacks beside ordinary callers", table, Path(__file__).name)
    is_kept = (table["times as long"] <= MOST_P99) & (table["times as much"] <= MOST_MEMORY)
    return int(not is_kept.all() or table["failed requests"].any())


if __name__ == "__main__":
    sys.exit(main())
