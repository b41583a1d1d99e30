"""Online features in Redis, which several machines, and several homes, may share."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

from churn_utils import settings
from churn_utils.data.files import create_once
from churn_utils.errors import NotReadyError, OnlineStoreError
from churn_utils.features.online_rows import OnlineRow, Published, row_of_text, text_of_row

if TYPE_CHECKING:
    import redis.asyncio


class RedisStore:
    """Online features in one Redis hash."""

    def __init__(self, url: str, prefix: str) -> None:
        """Connect to ``redis://host:port/db``; ``prefix`` keeps homes that share a server apart.

        Raises:
            OnlineStoreError: no server answers there.
        """
        import redis

        self._url = url
        self._reader: redis.asyncio.Redis | None = None
        self._rows = f"{prefix}:online"
        self._published = f"{prefix}:published"
        self._db = redis.Redis.from_url(url, socket_timeout=5, decode_responses=True)
        try:
            self._db.ping()
        except redis.RedisError as error:
            raise OnlineStoreError(
                f"no Redis server answers for CHURN_ONLINE_STORE: {error}."
            ) from error

    def reopen_if_replaced(self) -> bool:
        """Return False: a server has no file that could be replaced."""
        return False

    async def look_up(self, customer_ids: Sequence[str]) -> list[OnlineRow | None]:
        """Do as ``SqliteStore.look_up``, in one round trip if all customers are known.

        Raises:
            OnlineStoreError: the server does not answer.
            NotReadyError: nothing was published, or the server lost it, so no customer is known.
        """
        import redis.asyncio

        if self._reader is None:  # made here because it belongs to the event loop that uses it
            self._reader = redis.asyncio.Redis.from_url(
                self._url, socket_timeout=2, decode_responses=True
            )
        reader = self._reader
        try:
            found = await reader.hmget(self._rows, list(customer_ids))
            if None in found:
                found = await self._select_published_rows(reader, customer_ids)
        except redis.RedisError as error:
            raise OnlineStoreError(f"the Redis server does not answer: {error}.") from error
        return [row_of_text(text) if text else None for text in found]

    async def _select_published_rows(
        self, reader: redis.asyncio.Redis, customer_ids: Sequence[str]
    ) -> list[str | bytes | None]:
        """Look up in one transaction with the check that anything is published at all.

        Without it a customer would count as unknown while a publication is under way.
        """
        async with reader.pipeline(transaction=True) as pipe:
            pipe.exists(self._published, self._rows)
            pipe.hmget(self._rows, list(customer_ids))
            existing, found = await pipe.execute()
        if existing < 2:
            raise NotReadyError("nothing was published into the online store, or it was lost.")
        return found

    def read_published(self) -> Published:
        """Return what the store was filled from.

        Raises:
            OnlineStoreError: the server does not answer.
        """
        import redis

        try:
            # A server short of memory may have evicted the rows alone: then nothing is published.
            has_rows = self._db.exists(self._rows)
            text = self._db.get(self._published) if has_rows else None
        except redis.RedisError as error:
            raise OnlineStoreError(f"the Redis server does not answer: {error}.") from error
        return Published.from_text(text)

    def write(self, rows: list[tuple], before: Published, after: Published, replace: bool) -> bool:
        """Do as ``SqliteStore.write``: an older row never overwrites a newer one."""
        import redis

        with self._db.pipeline() as pipe:
            pipe.watch(self._published)
            if self.read_published() != before:
                return False
            if rows and not replace:
                rows = self._drop_outdated(rows)
            pipe.multi()
            if replace:
                pipe.delete(self._rows)
            if rows:
                pipe.hset(self._rows, mapping={row[0]: text_of_row(row) for row in rows})
            pipe.set(self._published, after.to_text())
            try:
                pipe.execute()
            except redis.WatchError:
                return False
        return True

    def _drop_outdated(self, rows: list[tuple]) -> list[tuple]:
        """Return the rows that are at least as new as those in the store."""
        customer_ids = [row[0] for row in rows]
        existing = self._db.hmget(self._rows, customer_ids)
        kept = []
        for row, text in zip(rows, existing, strict=True):
            dates = row[1:3]
            if not text or dates >= row_of_text(text)[:2]:
                kept.append(row)
        return kept

    def erase(self, customer_id: str) -> int:
        """Delete a customer's row; return how many there were."""
        return self._db.hdel(self._rows, customer_id)

    def count(self) -> int:
        """Return the number of customers in the store."""
        return self._db.hlen(self._rows)

    async def close(self) -> None:
        """Close the connections."""
        self._db.close()
        if self._reader is not None:
            await self._reader.aclose()


def derive_prefix() -> str:
    """Return the prefix of this home's keys, the same for its processes on all machines.

    It comes from a random number in the home's file ``home_id`` and from the home's path. The
    number alone would be shared with a copy of the home, the path with a home in the same place on
    another machine (all containers may have theirs in ``/data``). The table's own id changes when a
    new home is made, and would leave the old keys behind.
    """
    path = settings.home() / "home_id"
    create_once(path, uuid.uuid4().hex)
    identity = f"{path.read_text()} {path}"
    return "churn:" + hashlib.sha256(identity.encode()).hexdigest()[:16]
