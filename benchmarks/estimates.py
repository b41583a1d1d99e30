"""Measure how often the estimate before labels holds what the labels show, in healthy months.

Each champion learns from one simulated month of its own seed and is asked about a later month in
which nothing changed. Beside the interval in use, one that takes the calibration for exact.

python benchmarks/estimates.py          40 champions; about three minutes
python benchmarks/estimates.py 10
"""

from __future__ import annotations

import os
import sys
import tempfile

import numpy as np
import pandas as pd
from results import save_table
from tqdm import tqdm

from churn_utils import settings
from churn_utils.evaluation.economics import Economics

FIRST_SEED = 200
LEARNED, ASKED = 1, 3  # months
METRICS = ["value_usd", "loss_usd", "log_loss", "roc_auc", "recall"]
IN_USE, EXACT = "as used", "calibration taken for exact"


def try_champion(seed: int) -> pd.DataFrame:
    """Return ``interval, metric, inside, width, error`` of one champion's estimates."""
    from churn_utils.inference import scoring
    from churn_utils.monitoring import performance
    from churn_utils.monitoring.retraining_value import train_champion
    from churn_utils.simulation import deliveries
    from churn_utils.simulation.scenarios import Simulation

    simulation = Simulation("none", seed)
    learned, _ = deliveries.ingest_in_memory(LEARNED, simulation)
    asked, _ = deliveries.ingest_in_memory(ASKED, simulation)
    champion = train_champion(learned, version=1)

    probability = scoring.predict_probability(champion.model, asked)
    scored = pd.DataFrame({"model_version": 1, "churn_probability": probability})
    churned = asked["churned"].to_numpy(dtype=float)
    every_row = np.ones((1, len(asked)))
    realised = performance.score_with_loss(churned, probability, Economics(), every_row).iloc[0]
    rows = []
    for name, errors in ((IN_USE, {1: champion.calibration_error}), (EXACT, {})):
        estimates = performance.estimate_performance(
            scored, settings.month_start(ASKED), "healthy", Economics(), errors
        ).set_index("metric")
        for metric in METRICS:
            estimate = estimates.loc[f"estimated_{metric}"]
            rows.append(
                {
                    "interval": name,
                    "metric": metric,
                    "inside": estimate["lower"] <= realised[metric] <= estimate["upper"],
                    "width": estimate["upper"] - estimate["lower"],
                    "error": realised[metric] - estimate["value"],
                }
            )
    return pd.DataFrame(rows)


def summarise(tried: pd.DataFrame) -> pd.DataFrame:
    """Return one row per metric and interval, as they are printed."""
    rows = []
    for (metric, interval), group in tried.groupby(["metric", "interval"], sort=False):
        rows.append(
            {
                "metric": metric,
                "interval": interval,
                "months inside": f"{group['inside'].mean():.1%} of {len(group)}",
                "mean width": f"{group['width'].mean():.3f}",
                "mean error": f"{group['error'].mean():+.3f}",
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    """Try the champions and keep the table."""
    champions = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    with tempfile.TemporaryDirectory() as home:
        os.environ["CHURN_HOME"] = home
        seeds = range(FIRST_SEED, FIRST_SEED + champions)
        tried = pd.concat([try_champion(seed) for seed in tqdm(seeds)])
    save_table("Estimates before labels, healthy months", summarise(tried), "estimates.py")


if __name__ == "__main__":
    main()
