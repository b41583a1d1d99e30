"""Repeat the refresh of the API every few seconds, beside the requests."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from churn_utils.serving.metrics import ServingMetrics

log = logging.getLogger(__name__)


class RefreshLoop:
    """Runs a refresh every few seconds until it is stopped; a failed one is logged and repeated."""

    def __init__(
        self, refresh: Callable[[], None], pause_seconds: float, metrics: ServingMetrics
    ) -> None:
        """Prepare the loop; ``refresh`` is called in a thread, ``metrics`` counts its failures."""
        self._refresh = refresh
        self._pause_seconds = pause_seconds
        self._metrics = metrics
        self._wake = asyncio.Event()  # ends a pause
        self._stopped = asyncio.Event()  # ends the loop
        self._succeeded_at = time.monotonic()
        self._task: asyncio.Task | None = None

    @property
    def seconds_since_success(self) -> float:
        """Seconds since a refresh last succeeded, or since the loop was made."""
        return time.monotonic() - self._succeeded_at

    def start(self) -> None:
        """Start the loop in the running event loop."""
        self._task = asyncio.create_task(self._run())

    def wake(self) -> None:
        """End the pause, unless the last refresh failed."""
        self._wake.set()

    def stop(self) -> None:
        """Let the refresh that is under way be the last one."""
        self._stopped.set()
        self._wake.set()

    async def join(self) -> None:
        """Wait until the last refresh has ended."""
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        """Refresh, pause, and begin again until the loop is stopped.

        The pause ends early when ``wake`` is called, unless the refresh failed.
        """
        while not self._stopped.is_set():
            self._wake.clear()
            end_of_pause = self._wake
            try:
                await asyncio.to_thread(self._refresh)
                self._succeeded_at = time.monotonic()
            except Exception:  # a registry that is away must end neither the loop nor the requests
                self._metrics.refresh_failures.inc()
                log.exception("refreshing models and features failed; will try again")
                end_of_pause = self._stopped  # requests must not repeat a failure at their pace
            with suppress(TimeoutError):
                waiting = end_of_pause.wait()
                await asyncio.wait_for(waiting, self._pause_seconds)
