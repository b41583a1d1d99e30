"""Online features: the newest row of each customer under its key, in SQLite (default) or Redis, as JSON.

``publish_changes`` takes over what the change data feed of ``customer_features`` holds since the last publication. A
feed with deletions, or a table that is another one or older than what was published, means that the table went back
(a restore, a new home): then everything is published anew, in one transaction, because a row that the table no longer
holds must not go on answering.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.data.files import identify_file
from churn_utils.errors import DataError, NotReadyError, OnlineStoreError
from churn_utils.features import definitions
from churn_utils.features.online_redis import RedisStore, derive_prefix
from churn_utils.features.online_rows import OnlineRow, Published, row_of_text, text_of_row

TABLE = "customer_features"
COLUMNS = ["customer_id", "snapshot_date", "written_at", *definitions.STORED]
ATTEMPTS = 5
_QUERY = "SELECT row FROM online WHERE customer_id = ?"


@dataclass(frozen=True)
class Publication:
    """What one publication did: ``nothing``, ``changes`` or ``everything``, with how many rows, up to which version."""

    kind: str
    rows: int
    version: int


class SqliteStore:
    """Online features in one SQLite file; readers in other processes see a publication whole or not at all."""

    def __init__(self, path: Path) -> None:
        """Open the file, made when missing."""
        self._path = path
        self._open()

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._db, self._reader = (
            sqlite3.connect(self._path, isolation_level=None, timeout=30, check_same_thread=False)
            for _ in range(2)
        )  # two, because a reader that shares the publisher's connection would see its transaction half done
        self._file = identify_file(self._path)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS published (only INTEGER PRIMARY KEY CHECK (only = 1), facts TEXT)"
        )
        columns = ", ".join(
            f"{name} TEXT NOT NULL"
            for name in ("customer_id", "snapshot_date", "written_at", "row")
        )
        self._db.execute(
            f"CREATE TABLE IF NOT EXISTS online ({columns}, PRIMARY KEY (customer_id)) WITHOUT ROWID"
        )

    def reopen_if_replaced(self) -> bool:
        """Open the file anew if it was deleted or another lies in its place, and tell so."""
        if identify_file(self._path) == self._file:
            return False
        self._open()  # the old connections are closed when the last look-up has let go of them
        return True

    async def look_up(self, customer_ids: Sequence[str]) -> list[OnlineRow | None]:
        """Newest row of each customer, None where there is none, in the order asked (4 µs a customer).

        Raises:
            OnlineStoreError: the file cannot be read.
            NotReadyError: nothing was published, so nobody is known.
        """
        reader = self._reader
        try:
            found = [
                reader.execute(_QUERY, (customer_id,)).fetchone() for customer_id in customer_ids
            ]
            if None in found:
                found = _look_up_again(reader, customer_ids)
        except sqlite3.Error as error:
            raise OnlineStoreError(f"{self._path} cannot be read: {error}.") from error
        return [row_of_text(row[0]) if row else None for row in found]

    def read_published(self) -> Published:
        """What the store was filled from.

        Raises:
            OnlineStoreError: the file cannot be read.
        """
        try:
            row = self._db.execute("SELECT facts FROM published").fetchone()
        except sqlite3.Error as error:
            raise OnlineStoreError(f"{self._path} cannot be read: {error}.") from error
        return Published(**json.loads(row[0])) if row else Published()

    def write(self, rows: list[tuple], before: Published, after: Published, replace: bool) -> bool:
        """Write rows in one transaction, unless another publisher was faster (False); older never overwrites newer."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            unchanged = self.read_published() == before
            if unchanged:
                if replace:
                    self._db.execute("DELETE FROM online")
                self._db.executemany(
                    "INSERT INTO online VALUES (?, ?, ?, ?) ON CONFLICT (customer_id) DO UPDATE SET "
                    "snapshot_date = excluded.snapshot_date, written_at = excluded.written_at, row = excluded.row "
                    "WHERE (excluded.snapshot_date, excluded.written_at) >= (snapshot_date, written_at)",
                    [(*row[:3], text_of_row(row)) for row in rows],
                )
                self._db.execute(
                    "INSERT OR REPLACE INTO published VALUES (1, ?)", (json.dumps(asdict(after)),)
                )
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        return unchanged

    def count(self) -> int:
        """Number of customers in the store."""
        return self._db.execute("SELECT count(*) FROM online").fetchone()[0]

    async def close(self) -> None:
        """Close the file."""
        self._reader.close()
        self._db.close()


def _look_up_again(reader: sqlite3.Connection, customer_ids: Sequence[str]) -> list:
    """Look up in one transaction with whether anything is published: who is unknown must not be so by accident."""
    reader.execute("BEGIN")
    try:
        if reader.execute("SELECT 1 FROM published").fetchone() is None:
            raise NotReadyError("nothing was published into the online store.")
        return [reader.execute(_QUERY, (customer_id,)).fetchone() for customer_id in customer_ids]
    finally:
        reader.execute("COMMIT")


def open_store(address: str = "", prefix: str = "") -> SqliteStore | RedisStore:
    """Open the store at an address: ``redis://…``, or nothing for SQLite in this home (``online/store.sqlite``).

    Args:
        address: of the Redis server.
        prefix: of the keys there; one that this home alone has when not given.

    Raises:
        OnlineStoreError: an address of another kind, or a Redis server that does not answer.
    """
    if not address:
        return SqliteStore(settings.home() / "online" / "store.sqlite")
    if not address.startswith(("redis://", "rediss://", "unix://")):
        raise OnlineStoreError(
            "CHURN_ONLINE_STORE must be empty (SQLite) or start with redis://, rediss:// or unix://."
        )
    return RedisStore(address, prefix or derive_prefix())


def publish_changes(store: SqliteStore | RedisStore) -> Publication:
    """Bring the store to the latest version of ``customer_features``: what changed, or everything if it went back.

    Raises:
        DataError: the table was never written.
        OnlineStoreError: other publishers were faster each time.
    """
    for _ in range(ATTEMPTS):
        before, table = store.read_published(), _open_table()
        after = Published(
            str(table.metadata().id), table.version(), ",".join(COLUMNS), before.newest
        )
        if (before.table_id, before.version, before.columns) == (
            after.table_id,
            after.version,
            after.columns,
        ):
            return Publication("nothing", 0, after.version)
        changes = _read_changes(table, before, after)
        kind = "everything" if changes is None else "changes"
        frame = tables.read(TABLE, version=after.version) if changes is None else changes
        newest = f"{frame['written_at'].max():%Y-%m-%d}" if len(frame) else ""
        newest = newest if changes is None else max(newest, before.newest)
        rows = _newest_rows(frame)
        if store.write(
            rows,
            before,
            Published(after.table_id, after.version, after.columns, newest),
            changes is None,
        ):
            return Publication(kind, len(rows), after.version)
    raise OnlineStoreError(
        f"others published into the online store {ATTEMPTS} times in a row; try again."
    )


def _open_table() -> DeltaTable:
    if not tables.exists(TABLE):
        raise DataError(f"{TABLE} was never written in this home; run notebook 01 first.")
    return DeltaTable(str(tables.path_of(TABLE)))


def _read_changes(table: DeltaTable, before: Published, after: Published) -> pd.DataFrame | None:
    """Rows that were added or changed since the last publication; None where only everything will do."""
    if (before.table_id, before.columns) != (
        after.table_id,
        after.columns,
    ) or before.version > after.version:
        return None
    try:
        feed = table.load_cdf(starting_version=before.version + 1, ending_version=after.version)
    except (
        DeltaError
    ):  # versions that were cleaned away: their changes are in the table all the same
        return None
    frame = pa.table(feed).to_pandas(date_as_object=False)
    if (frame["_change_type"] == "delete").any():
        return None
    return frame[frame["_change_type"].isin(["insert", "update_postimage"])]


def _newest_rows(frame: pd.DataFrame) -> list[tuple]:
    """Of each customer the newest month, of that the newest writing, as plain Python values in ``COLUMNS`` order."""
    order = ["customer_id", "snapshot_date", "written_at"]
    if "_commit_version" in frame:
        order.append("_commit_version")
    newest = frame.sort_values(order).drop_duplicates("customer_id", keep="last")[COLUMNS]
    dates = {name: newest[name].dt.strftime("%Y-%m-%d") for name in order[1:3]}
    return list(zip(*(newest.assign(**dates)[name].tolist() for name in COLUMNS), strict=True))
