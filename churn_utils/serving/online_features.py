"""Online features as the API reads them: the store, and whether it can be used at the moment."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from churn_utils.data import tables
from churn_utils.errors import NotReadyError, OnlineStoreError
from churn_utils.features import online
from churn_utils.features.online_rows import OnlineRow

UNPUBLISHED = "The features are not in the online store yet; try again."
AWAY = "The online store does not answer; try again."
log = logging.getLogger(__name__)


class OnlineFeatures:
    """Reads and publishes online features, and remembers what is wrong with the store.

    Requests read while a refresh publishes. Both may set ``newest`` and the trouble; the last one
    to see the store is right.

    Attributes:
        newest: date of the newest features in the store, ``YYYY-MM-DD``; empty if there are none.
    """

    def __init__(self, address: str, prefix: str, on_loss: Callable[[], None]) -> None:
        """Prepare to open a store.

        Args:
            address: of a Redis server; empty for SQLite in the home.
            prefix: of the keys in Redis.
            on_loss: called when a request finds that the features are gone.
        """
        self.newest = ""
        self._address = address
        self._prefix = prefix
        self._on_loss = on_loss
        self._trouble = ""
        self._store: online.SqliteStore | online.RedisStore

    @property
    def problem(self) -> str:
        """Why features cannot be read at the moment, for callers; empty if they can."""
        if self._trouble:
            return self._trouble
        return "" if self.newest else UNPUBLISHED

    def open(self) -> None:
        """Open the store."""
        self._store = online.open_store(self._address, self._prefix)

    async def close(self) -> None:
        """Close the store."""
        await self._store.close()

    async def read(self, customer_ids: Sequence[str]) -> list[OnlineRow | None]:
        """Return the newest row of each customer, None for an unknown one, in the given order.

        Raises:
            NotReadyError: nothing is published, or the store does not answer.
        """
        try:
            return await self._store.look_up(customer_ids)
        except NotReadyError as error:
            if self.newest:  # lost: published again at once; what never was there is waited for
                self.newest = ""
                self._on_loss()
            raise NotReadyError(UNPUBLISHED) from error
        except OnlineStoreError as error:
            self._trouble = AWAY
            log.error("%s", error)
            raise NotReadyError(AWAY) from error

    def read_newest(self) -> str:
        """Return the date of the newest features in the store; empty if there are none.

        Raises:
            NotReadyError: the store does not answer.
            OnlineStoreError: the store cannot be read.
        """
        try:
            newest = self._store.read_published().newest
        except (NotReadyError, OnlineStoreError):
            self._trouble = AWAY
            raise
        self.newest = newest
        self._trouble = ""
        return newest

    def reopen_if_replaced(self) -> None:
        """Open the store's file again if another one lies in its place."""
        if self._store.reopen_if_replaced():
            log.warning("the online store's file was replaced: opened again")

    def publish(self) -> int:
        """Publish changed features into the store; return the number of rows."""
        if not tables.exists(online.TABLE):
            return 0
        return online.publish_changes(self._store).rows
