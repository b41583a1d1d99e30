"""Write a simulation as a folder of deliveries: the template for a company's own."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from churn_utils import settings
from churn_utils.data.files import write_csv
from churn_utils.errors import UsageError
from churn_utils.simulation.scenarios import Simulation
from churn_utils.upstream import months
from churn_utils.upstream.folder import CUSTOMER_NAMES, CUSTOMERS, LABEL_NAMES, LABELS, SLOT_NAMES


def export_deliveries(target: Path, simulation: Simulation, last: int) -> list[Path]:
    """Write the months 0 to ``last`` of a simulation, and the labels of all but the last.

    Returns:
        The files, in the order of the months.

    Raises:
        UsageError: the folder holds something already; nothing is written then.
    """
    if target.exists() and any(target.iterdir()):
        raise UsageError(f"{target} is not empty; name a new folder, nothing was written.")
    written = []
    for number in range(last + 1):
        arrival = months.arrive(simulation, settings.month_start(number))
        folder = target / f"{arrival.as_of:%Y-%m}"
        for month, rows in arrival.snapshots.items():
            suffix = "" if month == arrival.as_of else f"-{month:%Y-%m}"
            path = folder / f"{CUSTOMERS}{suffix}.csv"
            written.append(_write(path, rows, CUSTOMER_NAMES))
        for month, labels in arrival.labels.items():
            path = target / f"{month:%Y-%m}" / f"{LABELS}.csv"
            written.append(_write(path, labels, LABEL_NAMES | SLOT_NAMES))
    return written


def _write(path: Path, rows: pd.DataFrame, our_names: dict[str, str]) -> Path:
    """Write rows under the names that a delivery has; return the path."""
    names = {ours: name for name, ours in our_names.items()}
    write_csv(path, rows[list(names)].rename(columns=names))
    return path
