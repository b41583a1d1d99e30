"""Rows of the table ``inference_log``: columns, types, and the way from tuples to Arrow."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import date, datetime

import pyarrow as pa

from churn_utils.features import definitions

FACTS = {
    "prediction_id": pa.string(),  # ordered by time: files can be skipped when one id is sought
    "answered_at": pa.timestamp("us", "UTC"),
    "as_of_date": pa.date32(),  # simulated today
    "request_id": pa.string(),
    "route": pa.string(),
    "customer_id": pa.string(),
    "features_as_of": pa.date32(),  # null where the caller gave the features
    "model_version": pa.int64(),
    "arm": pa.string(),  # champion, challenger or shadow; a shadow's prediction was never shown
    "churn_probability": pa.float64(),
    "threshold": pa.float64(),
    "decision": pa.string(),
    "expected_value_usd": pa.float64(),
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


def build_entry(
    prediction_id: str,
    answered_at: datetime,
    as_of_date: str,
    request_id: str,
    route: str,
    customer_id: str,
    features_as_of: str | None,
    model_version: int,
    arm: str,
    scores: tuple[float, float, str, float],
    inputs: tuple,
) -> tuple:
    """Return a prediction in ``SCHEMA`` order.

    Args:
        prediction_id: a UUID of version 7.
        answered_at: time of the answer, UTC.
        as_of_date: simulated today, as ISO text.
        request_id: of the request that asked for it.
        route: of the API.
        customer_id: may be the caller's own.
        features_as_of: month of the features as ISO text; None if the caller gave them.
        model_version: that predicted.
        arm: ``champion``, ``challenger`` or ``shadow``.
        scores: probability, threshold, decision, expected value in USD.
        inputs: model inputs in contract order.
    """
    return (
        prediction_id,
        answered_at,
        as_of_date,
        request_id,
        route,
        customer_id,
        features_as_of,
        model_version,
        arm,
        *scores,
        *inputs,
    )


def to_arrow(entries: Sequence[tuple], pauses_s: float = 0.0) -> pa.Table:
    """Convert entries to a table in parts, with pauses of at most ``pauses_s`` seconds in all."""
    pause = min(PAUSE_S, pauses_s * ROWS_AT_ONCE / len(entries))
    parts = []
    for start in range(0, len(entries), ROWS_AT_ONCE):
        if start:
            time.sleep(pause)
        parts.append(_convert_part(entries[start : start + ROWS_AT_ONCE]))
    return pa.concat_tables(parts)


def _convert_part(entries: Sequence[tuple]) -> pa.Table:
    columns = [list(column) for column in zip(*entries, strict=True)]
    for position in DATES:
        texts = columns[position]
        columns[position] = [None if text is None else date.fromisoformat(text) for text in texts]
    arrays = [pa.array(c, type_) for c, type_ in zip(columns, SCHEMA.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)
