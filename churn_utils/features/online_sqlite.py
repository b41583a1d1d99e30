"""Online features in one SQLite file, the default store."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from churn_utils.data.files import identify_file
from churn_utils.errors import NotReadyError, OnlineStoreError
from churn_utils.features.online_rows import OnlineRow, Published, row_of_text, text_of_row

CREATE_PUBLISHED = """
CREATE TABLE IF NOT EXISTS published (only INTEGER PRIMARY KEY CHECK (only = 1), facts TEXT)
"""
CREATE_ONLINE = """
CREATE TABLE IF NOT EXISTS online (
    customer_id TEXT NOT NULL, snapshot_date TEXT NOT NULL, written_at TEXT NOT NULL,
    row TEXT NOT NULL, PRIMARY KEY (customer_id)
) WITHOUT ROWID
"""
SELECT_ROW = "SELECT row FROM online WHERE customer_id = ?"
UPSERT_IF_NEWER = """
INSERT INTO online VALUES (?, ?, ?, ?) ON CONFLICT (customer_id) DO UPDATE SET
    snapshot_date = excluded.snapshot_date, written_at = excluded.written_at, row = excluded.row
WHERE (excluded.snapshot_date, excluded.written_at) >= (snapshot_date, written_at)
"""
REPLACE_PUBLISHED = "INSERT OR REPLACE INTO published VALUES (1, ?)"


class SqliteStore:
    """Online features in SQLite; other processes see a publication whole or not at all."""

    def __init__(self, path: Path) -> None:
        """Open the file, made when missing."""
        self._path = path
        self._open()

    def _open(self) -> None:
        """Connect to the file and create its tables."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Two connections: a reader on the publisher's would see its transaction half done.
        self._db = self._connect()
        self._reader = self._connect()
        self._file = identify_file(self._path)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(CREATE_PUBLISHED)
        self._db.execute(CREATE_ONLINE)

    def _connect(self) -> sqlite3.Connection:
        """Open a connection that begins transactions only when told to."""
        return sqlite3.connect(
            self._path, isolation_level=None, timeout=30, check_same_thread=False
        )

    def reopen_if_replaced(self) -> bool:
        """Open the file again if it was deleted or replaced, and tell whether it was."""
        if identify_file(self._path) == self._file:
            return False
        # The old connections close when the last look-up that uses them has ended.
        self._open()
        return True

    async def look_up(self, customer_ids: Sequence[str]) -> list[OnlineRow | None]:
        """Return the newest row of each customer, None where there is none (4 µs a customer).

        Args:
            customer_ids: in the order of the result.

        Raises:
            OnlineStoreError: the file cannot be read.
            NotReadyError: nothing was published, so no customer is known.
        """
        reader = self._reader
        try:
            found = _select_rows(reader, customer_ids)
            if None in found:
                found = _select_published_rows(reader, customer_ids)
        except sqlite3.Error as error:
            raise OnlineStoreError(f"{self._path} cannot be read: {error}.") from error
        return [row_of_text(row[0]) if row else None for row in found]

    def read_published(self) -> Published:
        """Return what the store was filled from.

        Raises:
            OnlineStoreError: the file cannot be read.
        """
        try:
            row = self._db.execute("SELECT facts FROM published").fetchone()
        except sqlite3.Error as error:
            raise OnlineStoreError(f"{self._path} cannot be read: {error}.") from error
        return Published.from_text(row[0] if row else None)

    def write(self, rows: list[tuple], before: Published, after: Published, replace: bool) -> bool:
        """Write rows in one transaction; an older row never overwrites a newer one.

        Args:
            rows: ``customer_id, snapshot_date, written_at`` and the stored features.
            before: what the store was filled from when the rows were read.
            after: what it is filled from with them.
            replace: delete all other rows.

        Returns:
            Whether it was written: not if another publisher was faster.
        """
        self._db.execute("BEGIN IMMEDIATE")
        try:
            is_unchanged = self.read_published() == before
            if is_unchanged:
                self._write_rows(rows, after, replace)
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        return is_unchanged

    def _write_rows(self, rows: list[tuple], after: Published, replace: bool) -> None:
        """Write rows and what they came from, within a transaction."""
        if replace:
            self._db.execute("DELETE FROM online")
        records = [(*row[:3], text_of_row(row)) for row in rows]
        self._db.executemany(UPSERT_IF_NEWER, records)
        self._db.execute(REPLACE_PUBLISHED, (after.to_text(),))

    def erase(self, customer_id: str) -> int:
        """Delete a customer's row and what the file keeps of it; return how many there were."""
        cursor = self._db.execute("DELETE FROM online WHERE customer_id = ?", (customer_id,))
        self._db.execute("VACUUM")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return cursor.rowcount

    def count(self) -> int:
        """Return the number of customers in the store."""
        (number,) = self._db.execute("SELECT count(*) FROM online").fetchone()
        return number

    async def close(self) -> None:
        """Close the file."""
        self._reader.close()
        self._db.close()


def _select_rows(reader: sqlite3.Connection, customer_ids: Sequence[str]) -> list[tuple | None]:
    """Return the text of each customer's row in a tuple, None where there is none."""
    return [reader.execute(SELECT_ROW, (customer_id,)).fetchone() for customer_id in customer_ids]


def _select_published_rows(
    reader: sqlite3.Connection, customer_ids: Sequence[str]
) -> list[tuple | None]:
    """Look up in one transaction with the check that anything is published at all.

    Without it a customer would count as unknown while a publication is under way.
    """
    reader.execute("BEGIN")
    try:
        if reader.execute("SELECT 1 FROM published").fetchone() is None:
            raise NotReadyError("nothing was published into the online store.")
        return _select_rows(reader, customer_ids)
    finally:
        reader.execute("COMMIT")
