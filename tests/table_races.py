"""What several processes do to one table at once, in the tests of races."""

import os
import threading

import pandas as pd
import pyarrow as pa

from churn_utils import settings
from churn_utils.data import table_writes

ROWS = 50


def month_of_bills(bill):
    ids = [f"c{number}" for number in range(ROWS)]
    month = settings.month_start(1)
    return pd.DataFrame({"customer_id": ids, "snapshot_date": month, "bill": float(bill)})


def change_together(homes, worker, barrier, errors):
    """In each home merge the same month, then append; all workers begin each at the same time."""
    for home in homes:
        os.environ["CHURN_HOME"] = home
        for change in (merge_month, append_rows):
            barrier.wait(120)
            try:
                change(worker)
            except Exception as error:  # noqa: BLE001 - the test shows it
                errors.put(f"{type(error).__name__}: {error}")


def merge_month(worker):
    table_writes.merge("churn_labels", month_of_bills(worker))


def append_rows(worker):
    table_writes.append("inference_log", pa.table({"prediction_id": [f"of {worker}"] * ROWS}))


def append_until(stop: threading.Event, errors: list):
    while not stop.is_set():
        try:
            append_rows(0)
        except Exception as error:  # noqa: BLE001 - the test shows it
            errors.append(error)
