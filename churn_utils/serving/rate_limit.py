"""A rate limit per caller."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

MOST_CALLERS = 10_000  # remembered; beyond, the one that was silent longest is forgotten


class RateLimiter:
    """A token bucket per caller: ``rate`` requests a second on average, twice that at once."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with full buckets.

        Args:
            rate: requests a second that one caller may send; 0 allows any number.
            clock: seconds that only grow.
        """
        self._rate = rate
        self._clock = clock
        self._capacity = max(1.0, 2 * rate)
        self._buckets: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of callers that are remembered."""
        return len(self._buckets)

    def take(self, caller: bytes) -> float:
        """Take a token of a caller.

        Returns:
            0 if there was one, else the seconds until there is.
        """
        if not self._rate:
            return 0.0
        now = self._clock()
        tokens, last_seen = self._buckets.pop(caller, (self._capacity, now))
        earned = (now - last_seen) * self._rate
        refilled = min(self._capacity, tokens + earned)
        if refilled >= 1:
            wait = 0.0
            left = refilled - 1
        else:
            wait = (1 - refilled) / self._rate
            left = refilled
        self._buckets[caller] = (left, now)
        if len(self._buckets) > MOST_CALLERS:
            self._buckets.popitem(last=False)  # silent longest: its bucket is full again
        return wait
