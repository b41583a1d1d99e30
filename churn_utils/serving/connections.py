"""The open connections of a server, and the limits that they count against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class Connection(Protocol):
    """What is asked of a connection here."""

    address: str

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""

    def abort(self) -> None:
        """Close the connection at once."""


@dataclass(frozen=True)
class ConnectionLimits:
    """What callers may use up before the application sees a request."""

    connections: int = 1_000
    per_address: int = 250
    head_bytes: int = 65_536
    seconds: float = 10.0  # for a request's head, for its body, and for taking an answer
    unlimited_addresses: frozenset[str] = frozenset()  # proxies, behind which are many callers


class OpenConnections:
    """The connections of one server that count against its limits."""

    def __init__(self, limits: ConnectionLimits, count_refusal: Callable[[int], None]) -> None:
        """Start without connections; ``count_refusal`` is called with each status of a refusal."""
        self.limits = limits
        self.count_refusal = count_refusal
        self._all: set[Connection] = set()
        self._of_address: Counter[str] = Counter()
        self._surplus: dict[Connection, None] = {}  # those beyond a limit, oldest first

    def add(self, connection: Connection) -> bool:
        """Count a connection; return whether it is beyond a limit."""
        self._all.add(connection)
        self._of_address[connection.address] += 1
        is_surplus = self.is_full_for(connection.address)
        if is_surplus:
            self._surplus[connection] = None
            if len(self._surplus) > self.limits.connections:
                self._abort_one()
        return is_surplus

    def remove(self, connection: Connection) -> None:
        """Stop counting a connection."""
        self._all.discard(connection)
        self._surplus.pop(connection, None)
        self._of_address[connection.address] -= 1
        if not self._of_address[connection.address]:
            del self._of_address[connection.address]

    def is_full_for(self, address: str) -> bool:
        """Tell whether more connections are open than allowed, in all or of an address."""
        if len(self._all) > self.limits.connections:
            return True
        if address in self.limits.unlimited_addresses:
            return False
        return self._of_address[address] > self.limits.per_address

    def _abort_one(self) -> None:
        """Abort the oldest surplus connection without a request, else the newest one.

        So connections that only wait cannot keep a health probe out.
        """
        newest = next(reversed(self._surplus))
        idle = (found for found in self._surplus if found is not newest and found.is_idle)
        aborted = next(idle, newest)
        self._surplus.pop(aborted)
        aborted.abort()
