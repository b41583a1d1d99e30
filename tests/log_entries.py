"""Entries of the inference log."""

import uuid
from datetime import UTC, datetime

from churn_utils.inference import log_rows

SAMPLE_VALUES = {"int64": 1, "double": 0.1, "string": "text"}
INPUTS = tuple(SAMPLE_VALUES[str(type_)] for type_ in log_rows.INPUTS.values())


ANSWERED_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def id_of(number, answered_at=ANSWERED_AT):
    """Id of a prediction, a UUID of version 7: its time and a number."""
    milliseconds = int(answered_at.timestamp() * 1000)
    return str(uuid.UUID(int=(milliseconds << 80) | (7 << 76) | (2 << 62) | number))


def make_entries(count, start=0, answered_at=ANSWERED_AT):
    """Return entries with ids in ascending order; every other one has features of its own."""
    return [
        (
            id_of(start + i, answered_at),
            answered_at,
            "2025-02-01",
            "request",
            "crm",
            "predictions",
            "7590-VHVEG",
            None if i % 2 else "2025-01-01",
            1,
            "champion",
            *(0.3, 0.25, "offer", 100.0, None),
            *INPUTS,
        )
        for i in range(count)
    ]
