"""What an online store holds: a customer's row, as JSON, and what the store was filled from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import orjson

from churn_utils.errors import OnlineStoreError


class OnlineRow(NamedTuple):
    """What the store holds of a customer; dates as ``YYYY-MM-DD``, features in the order of ``features.STORED``."""

    snapshot_date: str
    written_at: str
    stored: tuple


@dataclass(frozen=True)
class Published:
    """What the store was filled from: Delta table and version, its columns, the newest ``written_at``."""

    table_id: str = ""
    version: int = -1
    columns: str = ""
    newest: str = ""


def text_of_row(row: tuple) -> str:
    """Customer's row as a JSON array without its id: its numbers come back bit for bit."""
    return orjson.dumps(row[1:]).decode()


def row_of_text(text: str) -> OnlineRow:
    """The row that such a text holds.

    Raises:
        OnlineStoreError: it holds none, as when others wrote into the store.
    """
    try:
        snapshot_date, written_at, *stored = orjson.loads(text)
    except (ValueError, TypeError) as error:
        raise OnlineStoreError(
            f"a row of the online store cannot be read: {text[:40]!r}; publish it anew."
        ) from error
    return OnlineRow(snapshot_date, written_at, tuple(stored))
