"""The API under stress: 100 changes of champion under load, then 60 s at twice what it sustains.

Counts failed requests, memory and predictions in the log.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil
from results import save_table
from serving_throughput import copy_home

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.registry import approvals, deployments, promotion
from churn_utils.serving import sandbox
from churn_utils.serving.client import Api

CHANGES, OVERLOAD_SECONDS, PROBE_SECONDS, BATCH, CALLERS = 100, 60, 5, 100, 200
AS_OF = settings.month_start(1)


def measure_changes(api: Api, versions: list[int], customer_ids: list[str]) -> dict:
    """Put two versions in effect in turn under load, each loaded by the API before the next.

    Each change is recorded as a promotion is, approval, audit and alias included. Only the rule of
    ``promote`` is left out that the gate compared a version with the champion that it replaces: two
    versions that take turns cannot keep it.

    Returns:
        What was counted, by the text to print.
    """
    granted = {version: promotion.check_deployed(version) for version in versions}
    running = api.start_traffic(customer_ids, seconds=CHANGES * 1.5, callers=2)
    seconds = []
    for number in range(CHANGES):
        version = versions[number % 2]
        promotion.activate(version, AS_OF, granted[version], deployments.PROMOTED)
        seconds.append(api.wait_for_version(version))
        print(f"change {number + 1} loaded after {seconds[-1]:.2f} s", end="\r", flush=True)
    if running.done():
        sys.exit("the changes outlasted the traffic; run it again on a machine that is less busy")
    traffic = running.result()
    other_versions = set(traffic["model_version"].dropna()) - set(versions)
    median = pd.Series(seconds).median()
    return {
        "requests": len(traffic),
        "failed requests": int((traffic["status"] != 200).sum()),
        "answers from other versions": len(other_versions),
        "taken up after, s (median / worst)": f"{median:.2f} / {max(seconds):.2f}",
    }


@dataclass
class Tally:
    """What happened to the requests of an open-loop load."""

    sent_or_due: int = 0
    answered: int = 0
    refused: int = 0
    lost: int = 0
    unsent: int = 0
    predictions: int = 0
    milliseconds: list[float] = field(default_factory=list)


async def send_load(
    port: int, ids: list[str], rate: float, seconds: float, memory: list[int], pid: int
) -> Tally:
    """Send requests at a fixed rate, whether answers come or not.

    A request that finds no free caller is counted as not sent. The memory of process ``pid`` is
    added to ``memory`` once a second, in bytes.
    """
    tally, free = Tally(), asyncio.Queue()
    for _ in range(CALLERS):
        free.put_nowait(None)
    body = json.dumps({"customer_ids": ids}).encode()
    lines = [
        "POST /v1/predictions HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    head = "\r\n".join([*lines, "", ""])
    start, tasks = time.perf_counter(), set()
    process, seen = psutil.Process(pid), 0.0
    while (now := time.perf_counter() - start) < seconds:
        while tally.sent_or_due < now * rate:
            tally.sent_or_due += 1
            if free.empty():
                tally.unsent += 1
                continue
            task = asyncio.create_task(
                _ask(port, head.encode() + body, free.get_nowait(), free, tally)
            )
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        if now > seen + 1:
            memory.append(process.memory_info().rss)
            seen = now
        await asyncio.sleep(0.002)
    await asyncio.gather(*tasks)
    while not free.empty():
        connection = free.get_nowait()
        if connection is not None:
            connection[1].close()
    return tally


async def _ask(port: int, message: bytes, connection, free: asyncio.Queue, tally: Tally) -> None:
    sent = time.perf_counter()
    try:
        reader, writer = connection or await asyncio.open_connection("127.0.0.1", port)
        writer.write(message)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
    except (OSError, asyncio.IncompleteReadError):
        tally.lost += 1
        free.put_nowait(None)
        return
    free.put_nowait((reader, writer))
    tally.milliseconds.append(1000 * (time.perf_counter() - sent))
    if head.startswith(b"HTTP/1.1 200"):
        tally.answered += 1
        tally.predictions += body.count(b'"prediction_id"')
    else:
        tally.refused += 1


def measure_overload(api: Api, ids: list[str]) -> dict:
    """Find the rate that can be sustained, then offer twice as much for a minute.

    Returns:
        What was counted, by the text to print.
    """
    memory: list[int] = []
    logged_before = len(tables.read("inference_log", columns=["prediction_id"]))
    probe = asyncio.run(send_load(api.port, ids, 1e6, PROBE_SECONDS, memory, api.pid))
    sustained = probe.answered / PROBE_SECONDS
    memory.clear()
    tally = asyncio.run(send_load(api.port, ids, 2 * sustained, OVERLOAD_SECONDS, memory, api.pid))
    api.wait_for_log()
    logged = len(tables.read("inference_log", columns=["prediction_id"])) - logged_before
    given = probe.predictions + tally.predictions
    mb = (pd.Series(memory) / 2**20).round().astype(int)
    return {
        f"sustained, requests/s of {BATCH} customers": round(sustained),
        "offered, requests/s": round(2 * sustained),
        "answered": tally.answered,
        "refused with 503": tally.refused,
        "without an answer": tally.lost,
        f"not sent, all {CALLERS} callers waiting": tally.unsent,
        "p99, ms": round(pd.Series(tally.milliseconds).quantile(0.99)),
        "memory at start / after 30 s / at the end, MB": " / ".join(
            str(mb.iloc[at]) for at in (0, len(mb) // 2, -1)
        ),
        "answers given / logged": f"{given:,} / {logged:,}",
    }


def report(title: str, findings: dict) -> None:
    """Save what was found as a table of two columns."""
    frame = pd.DataFrame({"what": findings.keys(), "measured": findings.values()})
    save_table(title, frame, Path(__file__).name)


def main() -> None:
    """Change champions in a copy of a home, then overload another API over the same copy."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as text:
        folder = Path(text)
        copy_home(folder)
        copy = sandbox.build_sandbox(folder / "rehearsal", AS_OF)
        approvals.approve(
            copy.challenger, approvals.AUTOMATIC, "to take turns with its predecessor", AS_OF
        )
        promotion.promote(copy.challenger, AS_OF)
        ids = tables.read("customer_features", columns=["customer_id"])["customer_id"].tolist()
        with Api(CHURN_TODAY="2025-02-01", CHURN_POLL_SECONDS="0.2") as api:
            changes = measure_changes(api, [copy.predecessor, copy.challenger], ids)
            api.wait_for_log()
        before = len(tables.read("inference_log", columns=["prediction_id"]))
        if before != changes["requests"] - changes["failed requests"]:
            sys.exit(f"{changes['requests']} requests, {before} answers logged")
        report(f"{CHANGES} changes of champion under load", changes)
        with Api(CHURN_TODAY="2025-02-01") as api:
            overload = measure_overload(api, ids[:BATCH])
        report(f"{OVERLOAD_SECONDS} s at twice the sustainable load", overload)


if __name__ == "__main__":
    main()
