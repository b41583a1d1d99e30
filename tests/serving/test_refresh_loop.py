import asyncio
import time

import pytest

from churn_utils.serving.metrics import ServingMetrics
from churn_utils.serving.refresh_loop import RefreshLoop


def run_loop(refresh, pause_seconds, use):
    """Run a loop while a coroutine uses it; return what that returned."""

    async def play():
        loop = RefreshLoop(refresh, pause_seconds, ServingMetrics())
        loop.start()
        found = await use(loop)
        loop.stop()
        await loop.join()
        return found

    return asyncio.run(asyncio.wait_for(play(), 30))


def test_join_waits_for_the_refresh_under_way():
    events = []

    def refresh():
        events.append("started")
        time.sleep(0.3)
        events.append("ended")

    async def wait_for_start(loop):
        while not events:
            await asyncio.sleep(0.01)

    run_loop(refresh, 60, wait_for_start)
    assert events == ["started", "ended"]


@pytest.mark.parametrize("fails", [False, True])
def test_no_pause_delays_the_end(fails):
    async def rest(loop):
        await asyncio.sleep(0.3)

    started = time.monotonic()
    run_loop(lambda: 1 / (not fails), 60, rest)
    assert time.monotonic() - started < 20


def test_wake_ends_a_pause_but_not_after_a_failure():
    calls = []

    def refresh():
        calls.append(1)
        if len(calls) == 2:
            raise ZeroDivisionError

    async def wake_twice(loop):
        for _ in range(2):
            await asyncio.sleep(0.2)
            loop.wake()
        await asyncio.sleep(0.2)

    run_loop(refresh, 60, wake_twice)
    assert len(calls) == 2


def test_failures_are_counted_and_do_not_count_as_a_success():
    metrics, succeeds = ServingMetrics(), []

    async def play():
        loop = RefreshLoop(lambda: 1 / len(succeeds), 0.02, metrics)
        loop.start()
        await asyncio.sleep(0.4)
        failing = loop.seconds_since_success
        succeeds.append(1)
        await asyncio.sleep(0.4)
        loop.stop()
        await loop.join()
        return failing, loop.seconds_since_success

    failing, succeeding = asyncio.run(asyncio.wait_for(play(), 30))
    assert failing > 0.3 and succeeding < failing
    assert metrics.registry.get_sample_value("churn_refresh_failures_total") > 0
