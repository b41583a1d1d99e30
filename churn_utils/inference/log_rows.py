"""Entries of the API's log as rows of its table: columns, types and conversion."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import date

import pyarrow as pa

from churn_utils.features import definitions

FACTS = {
    "prediction_id": pa.string(),  # ordered by time: files can be skipped when one id is sought
    "answered_at": pa.timestamp("us", "UTC"),
    "as_of_date": pa.date32(),  # simulated today
    "request_id": pa.string(),
    "caller": pa.string(),  # name of the API key; empty without
    "route": pa.string(),
    "customer_id": pa.string(),
    "features_as_of": pa.date32(),  # null where the caller gave the features
    "model_version": pa.int64(),
    "arm": pa.string(),  # champion, challenger or shadow; a shadow's prediction was never shown
    "churn_probability": pa.float64(),
    "threshold": pa.float64(),
    "decision": pa.string(),
    "expected_value_usd": pa.float64(),
    "offer_group": pa.string(),  # treated, control or not_selected; null where no offers are made
}
INPUTS = {
    name: pa.type_for_alias(feature.type.arrow)
    for name, feature in definitions.MODEL_INPUTS.items()
}
SCHEMA = pa.schema([*FACTS.items(), *INPUTS.items()])
DATES = [SCHEMA.get_field_index(name) for name in ("as_of_date", "features_as_of")]
# Rows converted in one go, in 1 ms, during which the answering thread shares the interpreter.
ROWS_AT_ONCE = 250
# Pause after each part: a batch converted without one held every answer up by 0.1 s.
PAUSE_S = 0.005


def to_arrow(entries: Sequence[tuple], pauses_s: float = 0.0) -> pa.Table:
    """Convert entries to a table in parts, with pauses of at most ``pauses_s`` seconds in all."""
    pause = min(PAUSE_S, pauses_s * ROWS_AT_ONCE / len(entries))
    parts = []
    for start in range(0, len(entries), ROWS_AT_ONCE):
        if start:
            time.sleep(pause)
        part = entries[start : start + ROWS_AT_ONCE]
        parts.append(_convert_part(part))
    return pa.concat_tables(parts)


def _convert_part(entries: Sequence[tuple]) -> pa.Table:
    """Convert entries to a table."""
    columns = [list(column) for column in zip(*entries, strict=True)]
    for position in DATES:
        columns[position] = [_parse_date(text) for text in columns[position]]
    arrays = []
    for values, kind in zip(columns, SCHEMA.types, strict=True):
        arrays.append(pa.array(values, kind))
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _parse_date(text: str | None) -> date | None:
    """Return the date of an ISO text; None stays None."""
    if text is None:
        return None
    return date.fromisoformat(text)
