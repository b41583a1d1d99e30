"""Drill the checks of whole deliveries: every fault must be held back, and no sound month.

Sound months are those of every scenario and seed; each fault arrives once for each seed, in a
month that the seed decides. What checks is the package's own code; nothing is written.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from drill import whole_number_from
from results import save_table
from tqdm import tqdm

MONTHS = 12


@cache
def deliver(month: int, seed: int, scenario: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a month's text rows as they are sent in the end, and its accepted rows."""
    from churn_utils.data import contract
    from churn_utils.simulation import customers, deliveries
    from churn_utils.simulation.scenarios import Simulation

    simulation = Simulation(scenario, seed)
    if scenario != "none" and simulation.scenario_in(month) == "none":
        return deliver(month, seed, "none")
    rows = deliveries.deliver_month(customers.simulate_month(month, simulation))
    return rows, contract.check_rows(rows)[0]


def drill_seed(seed: int) -> list[dict]:
    """Check every sound month and every fault of a seed.

    Returns:
        One record per delivery: ``delivery`` (a scenario or a fault), ``seed, month, is_sound,
        held_back, reason``.
    """
    from churn_utils.data import contract
    from churn_utils.simulation.bad_deliveries import FAULTS
    from churn_utils.simulation.scenarios import SCENARIOS

    records = []
    for scenario in SCENARIOS:
        for month in range(1, MONTHS + 1):
            _, before = deliver(month - 1, seed, scenario)
            rows, accepted = deliver(month, seed, scenario)
            reasons = find_reasons(accepted, before, len(rows))
            records.append(describe(scenario, seed, month, True, reasons))
    for number, (name, spoil) in enumerate(FAULTS.items()):
        draws = np.random.default_rng([seed, number])
        month = int(draws.integers(1, MONTHS + 1))
        sent_before, before = deliver(month - 1, seed, "none")
        sent, _ = deliver(month, seed, "none")
        spoiled = spoil(sent, sent_before, draws)
        accepted, _ = contract.check_rows(spoiled)
        reasons = find_reasons(accepted, before, len(spoiled))
        records.append(describe(name, seed, month, False, reasons))
    deliver.cache_clear()
    return records


def find_reasons(accepted: pd.DataFrame, before: pd.DataFrame, rows_delivered: int) -> list[str]:
    """Return why a delivery would be held back, as ``monitoring.ingestion`` asks."""
    from churn_utils.data import delivery_checks

    faults = delivery_checks.check_delivery(accepted, before, rows_delivered=rows_delivered)
    return [fault.reason for fault in faults]


def describe(name: str, seed: int, month: int, is_sound: bool, reasons: list[str]) -> dict:
    """Return the record of one delivery."""
    return {
        "delivery": name,
        "seed": seed,
        "month": month,
        "is_sound": is_sound,
        "held_back": bool(reasons),
        "reason": reasons[0] if reasons else "",
    }


def drill_seeds(seeds: range) -> pd.DataFrame:
    """Drill every seed, in two processes that share a new home; rows as ``drill_seed``'s."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["CHURN_HOME"] = home
        from churn_utils.data import source

        source.obtain_extract()
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            drilled = tqdm(pool.imap(drill_seed, seeds), "seeds", len(seeds), unit=" seed")
            return pd.DataFrame([record for records in drilled for record in records])


def summarise(drilled: pd.DataFrame, seeds: range) -> pd.DataFrame:
    """Return one row per kind of delivery: how many there were, how many were held back."""
    head = f"delivery, seeds {seeds[0]}–{seeds[-1]}"
    rows = []
    for name, group in drilled.groupby("delivery", sort=False):
        is_sound = group["is_sound"].iloc[0]
        rows.append(
            {
                head: f"sound months of {name}" if is_sound else name,
                "deliveries": len(group),
                "held back": int(group["held_back"].sum()),
                "right": "0" if is_sound else "all",
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    """Drill all seeds, print what went wrong, print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seeds", type=whole_number_from(1), default=20, metavar="N", help="number of seeds"
    )
    parser.add_argument(
        "--first-seed", type=whole_number_from(0), default=100, metavar="N", help="first seed"
    )
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    drilled = drill_seeds(seeds)
    wrong = drilled[drilled["held_back"] == drilled["is_sound"]]
    for delivery in wrong.itertuples():
        print(
            f"not right: {delivery.delivery}, seed {delivery.seed}, month {delivery.month}: "
            f"{delivery.reason or 'not held back'}"
        )
    save_table("Bad deliveries", summarise(drilled, seeds), Path(__file__).name)
    if len(wrong):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
