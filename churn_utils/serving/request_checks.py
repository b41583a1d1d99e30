"""Checks of a request before the application: host, kind of body, API key, rate of the caller."""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache, partial

from fastapi import Response
from starlette.types import Scope

from churn_utils.serving.api_keys import ApiKeys
from churn_utils.serving.error_responses import problem

Headers = dict[bytes, bytes]
OWN = "/v1/"
PROTECTED = (OWN, "/v2/models/", "/invocations")  # need a key, unless they are probes
PROBE = re.compile(
    "/healthz|/readyz|/metrics|/ping|/v2/health/(live|ready)"
    "|/v2/models/[^/]+(/versions/[^/]+)?/ready"
)
MOST_CALLERS = 10_000  # remembered; beyond, the one that was silent longest is forgotten


def is_probe(path: str) -> bool:
    """Tell whether a path is asked for by what watches the process.

    Those are answered for any host, without a key, and over connections beyond the limits.
    """
    return not path.startswith(OWN) and PROBE.fullmatch(path) is not None


class RateLimiter:
    """A token bucket per caller: ``rate`` requests a second on average, twice that at once."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with full buckets; a rate of 0 allows any number of requests."""
        self._rate = rate
        self._clock = clock
        self._capacity = max(1.0, 2 * rate)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of callers that are remembered."""
        return len(self._buckets)

    def take(self, caller: str) -> float:
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

    def charge(self, caller: str, count: int) -> None:
        """Take more tokens of a caller than it may have: its next requests wait for them."""
        if self._rate and count > 0:
            tokens, last_seen = self._buckets.get(caller, (self._capacity, self._clock()))
            self._buckets[caller] = (tokens - count, last_seen)


class HostCheck:
    """Refuse requests for another host."""

    def __init__(self, hosts: list[str]) -> None:
        """Let requests for these hosts in; ``*`` stands for any."""
        self._hosts = frozenset(host.lower() for host in hosts)
        self._is_known = lru_cache(maxsize=1024)(self._is_known_host)

    def refuse(self, scope: Scope, headers: Headers) -> Response | None:
        """Return 421 for an unknown host, else None."""
        if self._is_known(headers.get(b"host", b"")):
            return None
        detail = "This API does not answer for the host that was named (CHURN_ALLOWED_HOSTS)."
        return problem(scope, 421, detail)

    def _is_known_host(self, header: bytes) -> bool:
        """Tell whether the header Host, without its port, names a known host."""
        name = header.decode("latin-1").lower()
        has_port = not name.endswith("]") and ":" in name
        if has_port:
            name = name.rpartition(":")[0]
        return "*" in self._hosts or name in self._hosts


class CallerCheck:
    """Refuse callers without a valid key, and callers beyond the rate limit.

    A caller is the name of its key, else its address. Callers without a valid key have buckets of
    their own, so that they cannot use up the rate of a key.
    """

    def __init__(self, keys: ApiKeys, rate_limit: float) -> None:
        """Ask for one of the keys, if there are any; limit requests a second, if it is not 0."""
        self._keys = keys
        self._limiter = RateLimiter(rate_limit)
        self._unauthenticated = RateLimiter(rate_limit)

    def refuse(self, scope: Scope, headers: Headers) -> Response | None:
        """Return 429 for a caller beyond its rate, else 401 without a valid key, else None.

        The state of ``scope`` gets the name of the key as ``caller``, and a function ``charge``
        that takes the rate of further customers in one request.
        """
        state = scope["state"]
        limiter = self._limiter
        caller = client_address(scope)
        name: str | None = ""
        if self._keys:
            name = self._keys.find_name(_read_key(headers))
            if name is None:
                limiter = self._unauthenticated
            else:
                state["caller"] = caller = name
        wait_seconds = limiter.take(caller)
        if wait_seconds:
            retry_after = max(1, round(wait_seconds))
            detail = "Too many requests; see Retry-After."
            return problem(scope, 429, detail, retry_after=retry_after)
        if name is None:
            detail = "The header X-API-Key, or Authorization: Bearer, must hold a valid key."
            return problem(scope, 401, detail, headers={"WWW-Authenticate": "Bearer"})
        state["charge"] = partial(limiter.charge, caller)
        return None


def _read_key(headers: Headers) -> bytes:
    """Return the key of a request; empty if it has none.

    It is the password of a Basic authorization: MLflow's client sends nothing else (name and
    password of an address).
    """
    key = headers.get(b"x-api-key")
    if key is not None:
        return key
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    kind = scheme.lower()
    if kind == b"basic":
        return _read_password(token)
    return token.strip() if kind == b"bearer" else b""


def _read_password(token: bytes) -> bytes:
    """Return the password of a Basic authorization; empty if it is none."""
    try:
        decoded = base64.b64decode(token.strip(), validate=True)
    except binascii.Error:
        return b""
    return decoded.partition(b":")[2]


def client_address(scope: Scope) -> str:
    """Return the caller's address; empty where the server does not know it."""
    client: tuple[str, int] | None = scope.get("client")
    return "" if client is None else client[0]
