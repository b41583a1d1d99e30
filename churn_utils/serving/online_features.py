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

    Requests read while a refresh publishes. Both may set ``newest`` and ``problem``; the last one
    to see the store is right.
    """

    def __init__(self, address: str, prefix: str, on_loss: Callable[[], None]) -> None:
        """Prepare to open a store.

        Args:
            address: of a Redis server; empty for SQLite in the home.
            prefix: of the keys in Redis.
            on_loss: called when a request finds that the features are gone.
        """
        self.newest = ""  # date of the newest features, YYYY-MM-DD; empty if there are none
        self._address = address
        self._prefix = prefix
        self._on_loss = on_loss
        self.problem = UNPUBLISHED  # for callers, why features cannot be read; empty if they can
        self._store: online.SqliteStore | online.RedisStore

    def open(self) -> None:
        """Open the store.

        Raises:
            OnlineStoreError: no Redis server answers at the address.
        """
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
            self.problem = UNPUBLISHED
            if self.newest:  # lost: published again at once; what never was there is waited for
                self.newest = ""
                self._on_loss()
            raise NotReadyError(UNPUBLISHED) from error
        except OnlineStoreError as error:
            self.problem = AWAY
            log.error("%s", error)
            raise NotReadyError(AWAY) from error

    def read_newest(self) -> str:
        """Return the date of the newest features in the store; empty if there are none.

        Raises:
            NotReadyError: the store does not answer.
            OnlineStoreError: the store cannot be read.
        """
        try:
            published = self._store.read_published()
        except (NotReadyError, OnlineStoreError):
            self.problem = AWAY
            raise
        # Without the features of today it is as good as empty, until it is published again.
        self.newest = published.newest if online.has_columns_of_today(published) else ""
        self.problem = "" if self.newest else UNPUBLISHED
        return self.newest

    def reopen_if_replaced(self) -> None:
        """Open the store's file again if another one lies in its place."""
        if self._store.reopen_if_replaced():
            log.warning("the online store's file was replaced: opened again")

    def publish(self) -> int:
        """Publish changed features into the store; return the number of rows."""
        if not tables.exists(online.TABLE):
            return 0
        return online.publish_changes(self._store).rows
