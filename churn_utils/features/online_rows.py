"""What an online store holds: a customer's row, as JSON, and what the store was filled from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, NamedTuple

import orjson
from pydantic import TypeAdapter, ValidationError

from churn_utils.features.definitions import STORED, STORED_TYPES

_NAMES = ("snapshot_date", "written_at", *STORED)
# null where a row was written before the feature was defined
_VALUE_TYPES = tuple(kind | None for kind in STORED_TYPES)
# built when the module is imported, which a type checker cannot follow
_Row: Any = tuple[(str, str, *_VALUE_TYPES)]  # type: ignore[valid-type,misc]
_parse_row = TypeAdapter(_Row).validator.validate_json


class OnlineRow(NamedTuple):
    """What the store holds of a customer.

    Dates are written ``YYYY-MM-DD``; ``stored`` has the order of ``definitions.STORED``, None for
    features that were defined after the row was written. ``damage`` says why the row cannot be
    used, as when another program wrote it; then the rest is empty.
    """

    snapshot_date: str
    written_at: str
    stored: tuple
    damage: str = ""


@dataclass(frozen=True)
class Published:
    """What a store was filled from; a store keeps it as JSON."""

    table_id: str = ""  # of the Delta table
    version: int = -1  # of the Delta table
    columns: str = ""  # of a row, joined by commas
    newest: str = ""  # newest written_at

    @classmethod
    def from_text(cls, text: str | bytes | None) -> Published:
        """Return what a store was filled from; nothing without a text."""
        if not text:
            return cls()
        fields = orjson.loads(text)
        return cls(**fields)

    def to_text(self) -> str:
        """Return the JSON that a store keeps."""
        return orjson.dumps(asdict(self)).decode()


def text_of_row(row: tuple) -> str:
    """Return a customer's row as a JSON array without its id; numbers come back bit for bit.

    Args:
        row: ``customer_id, snapshot_date, written_at`` and the stored features.
    """
    values = row[1:]
    return orjson.dumps(values).decode()


def row_of_text(text: str | bytes) -> OnlineRow:
    """Return the row that a text of ``text_of_row`` holds, or what is wrong with it.

    Types, categories and ranges are checked: a model would answer for an impossible value as well.
    """
    try:
        snapshot_date, written_at, *stored = _parse_row(text)
        date.fromisoformat(snapshot_date)
    except ValidationError as error:
        return OnlineRow("", "", (), damage=_describe_damage(text, error))
    except ValueError as error:
        return OnlineRow("", "", (), damage=f"{text[:40]!r} cannot be read: {error}")
    return OnlineRow(snapshot_date, written_at, tuple(stored))


def _describe_damage(text: str | bytes, error: ValidationError) -> str:
    """Say what is wrong with the text of a row: its first error."""
    first = error.errors(include_url=False)[0]
    location = first["loc"]
    if not location:  # it is no list, or one of another length
        return f"{text[:40]!r} cannot be read: {first['msg']}"
    name = _NAMES[int(location[0])]
    if first["type"] == "missing":
        return f"{name} is missing"
    return f"{name} is {first['input']!r}"
