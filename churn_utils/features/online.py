"""Online features: the newest row of each customer under its id, in SQLite (default) or Redis.

``publish_changes`` copies what the change data feed of ``customer_features`` holds since the last
publication. A feed with deletions, or a table that is another one or older than what was published,
means that the table went back (a restore, a new home); a store whose columns are not those of today
was filled before a feature was defined. Then everything is published again in one transaction: a
row that the table no longer holds must not be served.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.errors import DataError, OnlineStoreError
from churn_utils.features.definitions import INTEGER, KEY, STORED
from churn_utils.features.online_redis import RedisStore, derive_prefix
from churn_utils.features.online_rows import Published
from churn_utils.features.online_sqlite import SqliteStore

TABLE = "customer_features"
COLUMNS = [*KEY, *STORED]
ATTEMPTS = 5


@dataclass(frozen=True)
class Publication:
    """What one publication did."""

    kind: str  # nothing, changes or everything
    rows: int  # how many were written
    version: int  # of the table, up to which


def sqlite_path() -> Path:
    """Return the file of the default store in this home."""
    return settings.home() / "online" / "store.sqlite"


def open_store(address: str = "", prefix: str = "") -> SqliteStore | RedisStore:
    """Open an online store.

    Args:
        address: ``redis://…`` of a server; empty for SQLite in this home (``online/store.sqlite``).
        prefix: of the keys in Redis; when not given, one that this home alone has.

    Raises:
        OnlineStoreError: an address of another kind, or a Redis server that does not answer.
    """
    if not address:
        return SqliteStore(sqlite_path())
    if not address.startswith(("redis://", "rediss://", "unix://")):
        raise OnlineStoreError(
            "CHURN_ONLINE_STORE must be empty (SQLite) or start with redis://, rediss:// or "
            "unix://."
        )
    return RedisStore(address, prefix or derive_prefix())


def publish_changes(store: SqliteStore | RedisStore) -> Publication:
    """Bring a store to the latest version of ``customer_features``.

    Writes what changed, or everything if the table went back.

    Raises:
        DataError: the table was never written.
        OnlineStoreError: other publishers were faster each time.
    """
    for _ in range(ATTEMPTS):
        publication = _try_to_publish(store)
        if publication is not None:
            return publication
    raise OnlineStoreError(
        f"others published into the online store {ATTEMPTS} times in a row; try again."
    )


def _try_to_publish(store: SqliteStore | RedisStore) -> Publication | None:
    """Publish once; None if another publisher was faster."""
    before = store.read_published()
    table = _open_table()
    version = table.version()
    if before.version == version and _is_same_table(before, table):
        return Publication("nothing", 0, version)
    changes = _read_changes(table, before)
    is_everything = changes is None
    frame = tables.read(TABLE, version=version) if changes is None else changes
    newest = f"{frame['written_at'].max():%Y-%m-%d}" if len(frame) else ""
    if not is_everything:
        newest = max(newest, before.newest)
    rows = _newest_rows(frame)
    table_id = str(table.metadata().id)
    columns = ",".join(COLUMNS)
    after = Published(table_id, version, columns, newest)
    if not store.write(rows, before, after, replace=is_everything):
        return None
    what = "everything" if is_everything else "changes"
    return Publication(what, len(rows), version)


def _open_table() -> DeltaTable:
    """Open the latest version of ``customer_features``."""
    if not tables.exists(TABLE):
        raise DataError(f"{TABLE} was never written in this home; run notebook 01 first.")
    return DeltaTable(str(tables.path_of(TABLE)))


def _is_same_table(published: Published, table: DeltaTable) -> bool:
    """Tell whether a store was filled from this table, with the columns of today."""
    if published.table_id != str(table.metadata().id):
        return False
    return has_columns_of_today(published)


def has_columns_of_today(published: Published) -> bool:
    """Tell whether a store holds the features that are defined today, in their order."""
    return published.columns == ",".join(COLUMNS)


def _read_changes(table: DeltaTable, before: Published) -> pd.DataFrame | None:
    """Return the rows of ``customer_features`` that were added or changed since a publication.

    None means that everything has to be published again.
    """
    version = table.version()
    if before.version > version or not _is_same_table(before, table):
        return None
    tables.check_changes(table, TABLE, before.version + 1)
    try:
        feed = table.load_cdf(starting_version=before.version + 1, ending_version=version)
    except DeltaError:  # versions that were vacuumed: their changes are still in the table
        return None
    frame = pa.table(feed).to_pandas(date_as_object=False)
    if (frame["_change_type"] == "delete").any():
        return None
    return frame[frame["_change_type"].isin(["insert", "update_postimage"])]


def _newest_rows(frame: pd.DataFrame) -> list[tuple]:
    """Return each customer's newest month, of that the newest writing, in the order of ``COLUMNS``.

    Values are plain Python ones, dates as ``YYYY-MM-DD``; a feature that a row lacks is None.
    """
    order = [name for name in (*KEY, "_commit_version") if name in frame]
    newest = frame.sort_values(order).drop_duplicates("customer_id", keep="last")
    newest = newest.reindex(columns=COLUMNS)
    for name in ("snapshot_date", "written_at"):
        newest[name] = newest[name].dt.strftime("%Y-%m-%d")
    values = [_list_values(newest[name]) for name in COLUMNS]
    return list(zip(*values, strict=True))


def _list_values(column: pd.Series) -> list:
    """Return the values of a column as plain Python ones, None for null."""
    is_missing = column.isna()
    if not is_missing.any():
        return column.tolist()
    if column.name in INTEGER:  # nulls made floats of them
        column = column.astype("Int64")
    return column.astype(object).where(~is_missing, None).tolist()
