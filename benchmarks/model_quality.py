"""Refit the champion's hyperparameters in 2 x 5 folds over all 7,043 rows, beside reference models.

Every model is refitted as in production: three quarters of a fold's training rows fit the pipeline,
one quarter its calibration. The figures of the original demo are those of its own published run.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from results import save_table
from search import TRIALS, publish
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import StratifiedKFold, train_test_split

from churn_utils import settings
from churn_utils.evaluation import metrics
from churn_utils.evaluation.economics import Economics
from churn_utils.features import definitions, model_inputs, offline
from churn_utils.training import models, search

METRICS = ["roc_auc", "pr_auc", "log_loss", "value_usd"]
DECIMALS = {"roc_auc": 4, "pr_auc": 4, "log_loss": 4, "value_usd": 1}
REPEATS = 2


def predict_held_out(
    params: dict, inputs: pd.DataFrame, churned: np.ndarray, repeat: int
) -> np.ndarray:
    """Return the probability of each row from a model whose fold did not hold it, shape (rows,)."""
    probability = np.empty(len(churned))
    folds = StratifiedKFold(5, shuffle=True, random_state=repeat).split(inputs, churned)
    for train, held_out in folds:
        fit, calibrate = train_test_split(
            train, test_size=0.25, random_state=repeat, stratify=churned[train]
        )
        model = models.build_model(params, settings.SEED)
        model.fit(inputs.iloc[fit], churned[fit])
        calibrated = CalibratedClassifierCV(FrozenEstimator(model), method="sigmoid")
        calibrated.fit(inputs.iloc[calibrate], churned[calibrate])
        probability[held_out] = calibrated.predict_proba(inputs.iloc[held_out])[:, 1]
    return probability


def measure(params: dict, inputs: pd.DataFrame, churned: np.ndarray) -> pd.Series:
    """Return ``METRICS`` of a model, averaged over the repeats."""
    scores = []
    for repeat in range(REPEATS):
        probability = predict_held_out(params, inputs, churned, repeat)
        scores.append(metrics.score_metrics(churned, probability, Economics()).iloc[0][METRICS])
    return pd.DataFrame(scores).mean()


def main() -> None:
    """Search as notebook 02 does, then refit and print one row per model."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["CHURN_HOME"] = home
        data = publish()
        train = offline.training_rows(data, "train")
        study = search.run_study(train, TRIALS, settings.SEED, "bench", lambda line: None)
    chosen = search.best_params(study)
    whole_numbers = dict.fromkeys(definitions.INTEGER, "int64")
    inputs = model_inputs.select_model_inputs(data.astype(whole_numbers))
    churned = data["churned"].to_numpy()
    table = {f"chosen by the search: {chosen['family']}": measure(chosen, inputs, churned)}
    for family, params in models.DEFAULTS.items():
        table[f"default {family}"] = measure({"family": family, **params}, inputs, churned)
    frame = pd.DataFrame(table).T.astype(float).round(DECIMALS)
    head = "model, refitted in 2 x 5 folds over 7,043 rows"
    save_table("Model quality", frame.rename_axis(head).reset_index(), Path(__file__).name)


if __name__ == "__main__":
    main()
