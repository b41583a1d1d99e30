"""Checks of a request before the application: API key and rate of the caller."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable

from fastapi import Response
from starlette.types import Scope

from churn_utils.serving.error_responses import problem

Headers = dict[bytes, bytes]
MOST_CALLERS = 10_000  # remembered; beyond, the one that was silent longest is forgotten


class RateLimiter:
    """A token bucket per caller: ``rate`` requests a second on average, twice that at once."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with full buckets; a rate of 0 allows any number of requests."""
        self._rate = rate
        self._clock = clock
        self._capacity = max(1.0, 2 * rate)
        self._buckets: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of callers that are remembered."""
        return len(self._buckets)

    def take(self, caller: bytes) -> float:
        """Take a token of a caller; return 0 if there was one, else the seconds until there is."""
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


class CallerCheck:
    """Refuse callers without a valid key, and callers beyond the rate limit.

    A caller is its key, else its address. Callers without a valid key have buckets of their own, so
    that they cannot use up the rate of a key.
    """

    def __init__(self, keys: tuple[bytes, ...], rate_limit: float) -> None:
        """Ask for one of the keys, if there are any; limit requests a second, if it is not 0."""
        self._key_hashes = [hashlib.sha256(key).digest() for key in keys]
        self._limiter = RateLimiter(rate_limit)
        self._unauthenticated = RateLimiter(rate_limit)

    def refuse(self, scope: Scope, headers: Headers) -> Response | None:
        """Return 429 for a caller beyond its rate, else 401 without a valid key, else None."""
        caller = client_address(scope).encode()
        limiter = self._limiter
        is_authenticated = True
        if self._key_hashes:
            key = headers.get(b"x-api-key", b"")
            key_hash = hashlib.sha256(key).digest()
            is_authenticated = self._is_valid(key_hash)
            if is_authenticated:
                caller = key_hash
            else:
                limiter = self._unauthenticated
        wait_seconds = limiter.take(caller)
        if wait_seconds:
            retry_after = max(1, round(wait_seconds))
            detail = "Too many requests; see Retry-After."
            return problem(scope, 429, detail, retry_after=retry_after)
        if not is_authenticated:
            return problem(scope, 401, "The header X-API-Key must hold a valid key.")
        return None

    def _is_valid(self, key_hash: bytes) -> bool:
        """Compare with every key in constant time, so that timing shows nothing of a valid one."""
        matches = [hmac.compare_digest(key_hash, valid) for valid in self._key_hashes]
        return any(matches)


def client_address(scope: Scope) -> str:
    """Return the caller's address; empty where the server does not know it."""
    client: tuple[str, int] | None = scope.get("client")
    return "" if client is None else client[0]
