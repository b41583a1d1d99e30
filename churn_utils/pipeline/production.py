"""What a stage of production does in the warm process: run months, then write the call list."""

from __future__ import annotations

import pandas as pd

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.inference import batch
from churn_utils.monitoring import monthly_cycle
from churn_utils.pipeline.plan import Report
from churn_utils.pipeline.state import Retraining
from churn_utils.simulation.scenarios import Simulation


def run_months_and_list(
    until: str, scenario: str, seed: int, list_size: int, report: Report
) -> tuple[Retraining | None, str | None]:
    """Run the months up to ``until``, or up to one that asks for a retraining.

    When no retraining is asked for, write the call list of the last month: the months before have
    passed, and the retention team calls the customers of this one.

    Args:
        until: last as-of month, such as ``2025-07-01``.
        scenario: what the simulated company goes through.
        seed: of the simulation.
        list_size: customers that the retention team can reach.
        report: called with a line for each month.

    Returns:
        The retraining, or None; and the month of the call list, or None when there is none.
    """
    simulation = Simulation(scenario, seed)
    asked = monthly_cycle.run_months(settings.as_of_date(until), simulation, report)
    if asked is not None:
        since = f"{asked.labels_from:%Y-%m-%d}"
        return Retraining(as_of=f"{asked.as_of:%Y-%m-%d}", since=since), None
    return None, _write_call_list(settings.as_of_date(until), list_size)


def _write_call_list(month: pd.Timestamp, size: int) -> str | None:
    """Write the call list of a month; None when the month was quarantined and is not scored."""
    predictions = tables.read("predictions", snapshot_date=month)
    predictions = predictions[predictions["role"] == "champion"].reset_index(drop=True)
    if predictions.empty:
        return None
    retention = batch.build_retention_list(predictions, month, size)
    batch.write_retention_list(retention, month)
    return f"{month:%Y-%m}"
