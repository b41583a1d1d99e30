"""Small rows of the table ``customers`` for tests of tables: a bill for each customer."""

import pandas as pd

from churn_utils import settings
from churn_utils.data import tables

JANUARY, FEBRUARY, MARCH = (settings.month_start(month) for month in range(3))


def snapshot(bills, month=JANUARY, written=None, **others):
    """Rows of ``customers``: a bill for each customer."""
    return pd.DataFrame(
        {
            "customer_id": list(bills),
            "snapshot_date": month,
            "written_at": month if written is None else written,
            "bill": list(bills.values()),
            **others,
        }
    )


def bills(**which):
    frame = tables.read("customers", **which)
    return dict(zip(frame["customer_id"], frame["bill"], strict=True))
