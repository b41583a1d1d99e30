"""The rows of all tables of a home, to compare two homes."""

import pandas as pd

from churn_utils.data import tables

# Digests over what differs between runs anyway: times, and where the months come from.
NOT_COMPARED = {"evidence_sha256"}


def read_all_tables() -> dict[str, pd.DataFrame]:
    """Return the rows of each table, in the order of its key; the API's log is left out."""
    names = [name for name in tables.KEYS if name != "inference_log" and tables.exists(name)]
    return {name: _read(name) for name in names}


def _read(name: str) -> pd.DataFrame:
    rows = tables.read(name).sort_values(tables.KEYS[name], ignore_index=True)
    return rows.drop(columns=NOT_COMPARED, errors="ignore")
