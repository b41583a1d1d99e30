"""What pruning saves and costs, how long a search takes, and what nested cross-validation shows."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from results import save_table
from sklearn.metrics import log_loss, roc_auc_score

from churn_utils import settings
from churn_utils.data import contract, delivered_files, source
from churn_utils.features import labelling, model_inputs, offline, publishing
from churn_utils.training import models, search

TRIALS = 32


def publish() -> pd.DataFrame:
    """Publish IBM's month in the home that is set and return its training set."""
    rows = delivered_files.read_delivery(source.obtain_extract())
    first, second = settings.month_start(0), settings.month_start(1)
    publishing.publish_snapshot(rows, first, first)
    labelling.record_labels(contract.check_rows(rows)[0], first, second)
    return offline.build_training_set(second)


def run(rows: pd.DataFrame, seed: int, name: str, pruner=None) -> tuple[optuna.Study, float]:
    """Search; return the study and its seconds."""
    started = time.perf_counter()
    study = search.run_study(rows, TRIALS, seed, name, lambda line: None, pruner=pruner)
    return study, time.perf_counter() - started


def measure_search(
    train: pd.DataFrame, unseen: pd.DataFrame, seed: int, name: str, pruner=None
) -> dict[str, float]:
    """Search on ``train`` and measure the winner on ``unseen``.

    Returns:
        ``fits, seconds, loss`` (of the winner in cross-validation) and ``auc`` (on ``unseen``).
    """
    study, seconds = run(train, seed, name, pruner)
    model = models.build_model(search.best_params(study), seed)
    model.fit(model_inputs.select_model_inputs(train), train["churned"].to_numpy())
    probability = model.predict_proba(model_inputs.select_model_inputs(unseen))[:, 1]
    return {
        "fits": int(search.trials_table(study)["folds"].sum()),
        "seconds": seconds,
        "loss": study.best_value,
        "auc": roc_auc_score(unseen["churned"].to_numpy(), probability),
    }


def compare_pruning(data: pd.DataFrame, seeds: int) -> pd.DataFrame:
    """Search with and without pruning, seed by seed.

    Returns:
        A row for each seed, their mean and the worst: ``seed, fits, fits without pruning, saved``
        (share of fits), ``seconds, seconds without, ROC AUC lost`` (of the winner on ``validate``
        and ``test``) and ``log loss lost`` (in cross-validation).
    """
    train = offline.training_rows(data, "train")
    unseen = pd.concat([offline.training_rows(data, split) for split in ("validate", "test")])
    rows = []
    for seed in range(seeds):
        pruned = measure_search(train, unseen, seed, f"pruned {seed}")
        whole = measure_search(train, unseen, seed, f"whole {seed}", optuna.pruners.NopPruner())
        rows.append(
            {
                "seed": seed,
                "fits": pruned["fits"],
                "fits without pruning": whole["fits"],
                "saved": 1 - pruned["fits"] / whole["fits"],
                "seconds": pruned["seconds"],
                "seconds without": whole["seconds"],
                "ROC AUC lost": whole["auc"] - pruned["auc"],
                "log loss lost": pruned["loss"] - whole["loss"],
            }
        )
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    mean = table.mean().to_frame().T.assign(seed="mean")
    worst_of = {name: "min" if name == "saved" else "max" for name in table}
    worst = table.agg(worst_of).to_frame().T.assign(seed="worst")
    found = pd.concat([table.astype({"seed": str}), mean, worst])
    found = found.astype({"fits": int, "fits without pruning": int})
    return found.round(
        {"saved": 3, "seconds": 1, "seconds without": 1, "ROC AUC lost": 5, "log loss lost": 5}
    )


def nest(data: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Search again in each outer fold's training rows: the flat estimate against the nested one.

    Returns:
        One row: ``figure, best trial of the search``, ``nested, 5 outer folds``, ``flattery`` and
        ``spread of the outer folds``.
    """
    splits = [offline.training_rows(data, split) for split in ("train", "validate")]
    rows = pd.concat(splits, ignore_index=True)
    inputs = model_inputs.select_model_inputs(rows)
    churned = rows["churned"].to_numpy()
    flat, nested = [], []
    for number, (fit, held_out) in enumerate(models.make_folds(rows, seed)):
        study, _ = run(rows.iloc[fit].reset_index(drop=True), seed, f"outer {number}")
        model = models.build_model(search.best_params(study), seed)
        model.fit(inputs.iloc[fit], churned[fit])
        probability = model.predict_proba(inputs.iloc[held_out])[:, 1]
        flat.append(study.best_value)
        nested.append(log_loss(churned[held_out], probability))
        print(number, flat[-1], nested[-1], flush=True)
    row = {
        "figure": "log loss",
        "best trial of the search": np.mean(flat),
        "nested, 5 outer folds": np.mean(nested),
        "flattery": np.mean(nested) - np.mean(flat),
        "spread of the outer folds": np.std(nested, ddof=1),
    }
    return pd.DataFrame([row]).round(4)


def main(seeds: int = 5) -> None:
    """Print and keep both tables."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["CHURN_HOME"] = home
        data = publish()
        save_table("Search", compare_pruning(data, int(seeds)), Path(__file__).name)
        save_table("Nested cross-validation", nest(data, 0), Path(__file__).name)


if __name__ == "__main__":
    main(*sys.argv[1:])
