"""What a search has shown: its gain against its cost, which hyperparameters matter, slices of the space."""

from __future__ import annotations

import numpy as np
import optuna
import pandas as pd

from churn_utils.evaluation import bootstrap, metrics
from churn_utils.evaluation.economics import Economics
from churn_utils.training.models import DEFAULTS, fit_calibrated, one_thread, predict_unseen
from churn_utils.training.search import DONE, best_params, trials_table

REFERENCES = {"default lightgbm": "lightgbm", "linear": "logistic_regression"}
MIN_TRIALS = 6  # of a family, before anything is said of its hyperparameters


@one_thread
def measure_gain(
    study: optuna.Study,
    train: pd.DataFrame,
    validate: pd.DataFrame,
    seed: int,
    economics: Economics,
    draws: int = 1000,
) -> pd.DataFrame:
    """Set what the search cost against what it won over models that need no search, on rows that none of them has seen.

    Args:
        study: finished.
        train: rows that the search saw.
        validate: rows that it did not see.
        seed: of models, folds and bootstrap.
        economics: gives the decision's value.
        draws: bootstrap draws, the same for all models.

    Returns:
        One row per model (``chosen by the search``, then ``REFERENCES``): ``model, fits, seconds`` it took to find it,
        ``roc_auc, log_loss, value_usd`` on ``validate``, and ``auc_gain, usd_gain`` of the chosen one over it with 95 %
        bounds ``…_lower, …_upper``.
    """
    trials = trials_table(study)
    models = {"chosen by the search": best_params(study)}
    models |= {name: {"family": family, **DEFAULTS[family]} for name, family in REFERENCES.items()}
    answers = {
        name: predict_unseen(fit_calibrated(params, train, validate, seed), validate, seed)
        for name, params in models.items()
    }
    sampled = bootstrap.bootstrap_metrics(
        validate["churned"], answers, validate["customer_id"], economics, draws, seed
    )
    rows = []
    for name, probability in answers.items():
        point = metrics.score_metrics(validate["churned"], probability, economics).iloc[0]
        row = {"model": name, "fits": 1, "seconds": np.nan} | point[
            ["roc_auc", "log_loss", "value_usd"]
        ].to_dict()
        gains = sampled["chosen by the search"] - sampled[name]
        bounds = bootstrap.interval(gains)
        for column, metric in (("auc_gain", "roc_auc"), ("usd_gain", "value_usd")):
            row |= {
                column: gains[metric].mean(),
                f"{column}_lower": bounds.loc[metric, "lower"],
                f"{column}_upper": bounds.loc[metric, "upper"],
            }
        rows.append(row)
    rows[0] |= {"fits": int(trials["folds"].sum()), "seconds": trials["seconds"].sum()}
    return pd.DataFrame(rows)


def rank_hyperparameters(study: optuna.Study, seed: int) -> pd.DataFrame:
    """Share of the differences between trials of one family that each of its hyperparameters explains (fANOVA).

    A pruned trial counts with how far it lay behind the best one on the folds that it saw, so it is evidence too.

    Returns:
        ``family, hyperparameter, importance``, best first; families with fewer than ``MIN_TRIALS`` are left out.
    """
    trials = study.get_trials(deepcopy=False, states=DONE)
    best, rows = study.best_trial.intermediate_values, []
    for family in DEFAULTS:
        own = [trial for trial in trials if trial.params.get("family") == family]
        if len(own) < MIN_TRIALS:
            continue
        behind = optuna.create_study()
        for trial in own:
            space = {name: found for name, found in trial.distributions.items() if name != "family"}
            gap = float(
                np.mean([loss - best[step] for step, loss in trial.intermediate_values.items()])
            )
            params = {name: trial.params[name] for name in space}
            behind.add_trial(
                optuna.trial.create_trial(params=params, distributions=space, value=gap)
            )
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
        found = optuna.importance.get_param_importances(behind, evaluator=evaluator)
        rows += [
            {"family": family, "hyperparameter": name, "importance": share}
            for name, share in found.items()
        ]
    columns = ["family", "hyperparameter", "importance"]
    return pd.DataFrame(rows, columns=columns).sort_values(
        "importance", ascending=False, ignore_index=True
    )


def slice_space(study: optuna.Study) -> pd.DataFrame:
    """Every trial's hyperparameters beside how far it lay behind the best: ``family, hyperparameter, value, behind``.

    ``behind`` in nats on the folds that the trial saw; 0 is the best trial.
    """
    best, rows = study.best_trial.intermediate_values, []
    for trial in study.get_trials(deepcopy=False, states=DONE):
        behind = float(
            np.mean([loss - best[step] for step, loss in trial.intermediate_values.items()])
        )
        rows += [
            {
                "family": trial.params["family"],
                "hyperparameter": name,
                "value": value,
                "behind": behind,
            }
            for name, value in trial.params.items()
            if name != "family"
        ]
    return pd.DataFrame(rows, columns=["family", "hyperparameter", "value", "behind"])
