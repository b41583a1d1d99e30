"""Try another scenario in memory: what would have been decided."""

from __future__ import annotations

import pandas as pd

from churn_utils import settings
from churn_utils.evaluation.economics import Economics
from churn_utils.monitoring import drift
from churn_utils.monitoring.champion import Champion
from churn_utils.monitoring.decision import Delivery
from churn_utils.simulation import deliveries
from churn_utils.simulation.scenarios import START_MONTH, Simulation


def try_scenario(
    scenario: str,
    seed: int,
    champion: Champion,
    economics: Economics | None = None,
    start_month: int = START_MONTH,
) -> pd.DataFrame:
    """Decide the month in which a scenario changes, and the one after; nothing is written.

    Args:
        scenario: name in ``scenarios.SCENARIOS``.
        seed: of the simulation.
        champion: the one in effect before the change.
        economics: of decisions in USD.
        start_month: month of the change.

    Returns:
        Two rows with ``decision.COLUMNS``.

    Raises:
        DataError: unknown scenario.
    """
    simulation = Simulation(scenario, seed, start_month)
    decided = None
    for month in (start_month, start_month + 1):
        broken = scenario == "data_bug" and month == start_month
        current, quarantined = deliveries.ingest_in_memory(month, simulation, broken)
        past = [deliveries.ingest_in_memory(known, simulation)[0] for known in range(month)]
        made = drift.decide(
            settings.month_start(month),
            Delivery(len(current) + quarantined, quarantined),
            current,
            pd.concat(past),
            champion,
            decided,
            economics,
        )
        decided = pd.concat([decided, made.to_frame()], ignore_index=True)
    return decided
