"""Online features in Redis, which several machines, and several homes, may share."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict

from churn_utils import settings
from churn_utils.data.files import create_once
from churn_utils.errors import NotReadyError, OnlineStoreError
from churn_utils.features.online_rows import OnlineRow, Published, row_of_text, text_of_row


class RedisStore:
    """Online features in one Redis hash."""

    def __init__(self, url: str, prefix: str) -> None:
        """Connect to ``redis://host:port/db``; ``prefix`` keeps homes that share a server apart.

        Raises:
            OnlineStoreError: nobody answers there.
        """
        import redis

        self._url, self._reader = url, None
        self._rows, self._published = f"{prefix}:online", f"{prefix}:published"
        self._db = redis.Redis.from_url(url, socket_timeout=5, decode_responses=True)
        self._changed, self._error = redis.WatchError, redis.RedisError
        try:
            self._db.ping()
        except redis.RedisError as error:
            raise OnlineStoreError(
                f"no Redis server answers for CHURN_ONLINE_STORE: {error}."
            ) from error

    def reopen_if_replaced(self) -> bool:
        """Never: a server has no file that could be replaced."""
        return False

    async def look_up(self, customer_ids: Sequence[str]) -> list[OnlineRow | None]:
        """Newest row of each customer, None where there is none, in the order asked; one round trip if all are known.

        Raises:
            OnlineStoreError: the server does not answer.
            NotReadyError: nothing was published, or the server lost it, so nobody is known.
        """
        import redis.asyncio

        if self._reader is None:  # made here because it belongs to the event loop that uses it
            self._reader = redis.asyncio.Redis.from_url(
                self._url, socket_timeout=2, decode_responses=True
            )
        try:
            found = await self._reader.hmget(self._rows, list(customer_ids))
            if None in found:
                found = await self._look_up_again(customer_ids)
        except redis.RedisError as error:
            raise OnlineStoreError(f"the Redis server does not answer: {error}.") from error
        return [row_of_text(text) if text else None for text in found]

    async def _look_up_again(self, customer_ids: Sequence[str]) -> list:
        """Look up in one transaction with whether anything is published: who is unknown must not be so by accident."""
        async with self._reader.pipeline(transaction=True) as pipe:
            pipe.exists(self._published, self._rows).hmget(self._rows, list(customer_ids))
            standing, found = await pipe.execute()
        if standing < 2:
            raise NotReadyError("nothing was published into the online store, or it was lost.")
        return found

    def read_published(self) -> Published:
        """What the store was filled from.

        Raises:
            OnlineStoreError: the server does not answer.
        """
        try:
            text = (
                self._db.get(self._published) if self._db.exists(self._rows) else None
            )  # an evicted hash is lost
        except self._error as error:
            raise OnlineStoreError(f"the Redis server does not answer: {error}.") from error
        return Published(**json.loads(text)) if text else Published()

    def write(self, rows: list[tuple], before: Published, after: Published, replace: bool) -> bool:
        """Write rows in one transaction, unless another publisher was faster (False); older never overwrites newer."""
        with self._db.pipeline() as pipe:
            pipe.watch(self._published)
            if self.read_published() != before:
                return False
            if not replace and rows:
                standing = self._db.hmget(self._rows, [row[0] for row in rows])
                rows = [
                    row
                    for row, text in zip(rows, standing, strict=True)
                    if not text or row[1:3] >= row_of_text(text)[:2]
                ]
            pipe.multi()
            if replace:
                pipe.delete(self._rows)
            if rows:
                pipe.hset(self._rows, mapping={row[0]: text_of_row(row) for row in rows})
            pipe.set(self._published, json.dumps(asdict(after)))
            try:
                pipe.execute()
            except self._changed:
                return False
        return True

    def count(self) -> int:
        """Number of customers in the store."""
        return self._db.hlen(self._rows)

    async def close(self) -> None:
        """Close the connections."""
        self._db.close()
        if self._reader is not None:
            await self._reader.aclose()


def derive_prefix() -> str:
    """Prefix of this home's keys on a server: the same for all its processes on all machines, and no other home's.

    It comes from a random number in the home's file ``home_id`` and from the home's path. The number alone would be
    shared with a copy of the home, the path with a home in the same place on another machine (all containers may have
    theirs in ``/data``). The table's own id changes when a home is made anew, and would leave its old keys behind.
    """
    path = settings.home() / "home_id"
    create_once(path, uuid.uuid4().hex)
    return "churn:" + hashlib.sha256(f"{path.read_text()} {path}".encode()).hexdigest()[:16]
