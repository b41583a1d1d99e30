"""The table ``quarantine``: what was delivered and not accepted, with column and reason."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

from churn_utils.data import table_writes, tables
from churn_utils.data.columns import CUSTOMER_COLUMNS

WHOLE_DELIVERY = "(delivery)"  # stands for the column that failed where a delivery is held back
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in CUSTOMER_COLUMNS),  # as delivered, readable or not
        ("snapshot_date", pa.date32()),
        ("written_at", pa.date32()),
        ("line", pa.int64()),  # in the delivery; below 0 for a label
        ("failed_column", pa.string()),
        ("reason", pa.string()),
    ]
)


def create() -> None:
    """Create the table without rows, unless it is there."""
    if not tables.exists("quarantine"):
        table_writes.append("quarantine", SCHEMA.empty_table())


def add(rows: pd.DataFrame) -> None:
    """Keep rows with the columns of ``SCHEMA``; those that are kept already change nothing."""
    create()
    if len(rows):
        table_writes.merge("quarantine", rows)
