"""Refit the champion's hyperparameters in 2 x 5 folds over all 7,043 rows and compare with reference models.

Every model is refitted as in production: three quarters of a fold's training rows fit the pipeline, one quarter its
calibration. The reference figures of the original demo are those of its own published run.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from results import save_table
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import StratifiedKFold, train_test_split

METRICS = ["roc_auc", "pr_auc", "log_loss", "value_usd"]


def main() -> None:
    """Search as notebook 02 does, then refit and print one row per model."""
    from churn_utils import settings
    from churn_utils.data import contract, source
    from churn_utils.evaluation import metrics
    from churn_utils.evaluation.economics import Economics
    from churn_utils.features import definitions, offline
    from churn_utils.training import models, search

    with tempfile.TemporaryDirectory() as home:
        os.environ["CHURN_HOME"] = home
        rows = source.read_delivery(source.obtain_extract())
        first, second = settings.month_start(0), settings.month_start(1)
        offline.publish_snapshot(rows, first, first)
        offline.record_labels(contract.check_rows(rows)[0], first, second)
        data = offline.build_training_set(second)
        study = search.run_study(
            offline.training_rows(data, "train"),
            32,
            settings.SEED,
            "bench",
            lambda line: None,
        )
        chosen = search.best_params(study)

    inputs = definitions.select_model_inputs(
        data.astype(dict.fromkeys(definitions.INTEGER, "int64"))
    )
    churned = data["churned"].to_numpy()
    economics = Economics()

    def refit(params: dict) -> pd.Series:
        scores = []
        for repeat in range(2):
            probability = np.empty(len(churned))
            folds = StratifiedKFold(5, shuffle=True, random_state=repeat).split(inputs, churned)
            for train, held_out in folds:
                fit, calibrate = train_test_split(
                    train, test_size=0.25, random_state=repeat, stratify=churned[train]
                )
                model = models.build_model(params, settings.SEED).fit(
                    inputs.iloc[fit], churned[fit]
                )
                model = CalibratedClassifierCV(FrozenEstimator(model), method="sigmoid")
                model.fit(inputs.iloc[calibrate], churned[calibrate])
                probability[held_out] = model.predict_proba(inputs.iloc[held_out])[:, 1]
            scores.append(metrics.score_metrics(churned, probability, economics).iloc[0][METRICS])
        return pd.DataFrame(scores).mean()

    table = {f"chosen by the search: {chosen['family']}": refit(chosen)}
    for family, params in models.DEFAULTS.items():
        table[f"default {family}"] = refit({"family": family, **params})
    frame = (
        pd.DataFrame(table)
        .T.rename_axis("model, refitted in 2 x 5 folds over 7,043 rows")
        .reset_index()
    )
    frame[METRICS] = (
        frame[METRICS]
        .astype(float)
        .round({"roc_auc": 4, "pr_auc": 4, "log_loss": 4, "value_usd": 1})
    )
    save_table("Model quality", frame, Path(__file__).name)


if __name__ == "__main__":
    main()
