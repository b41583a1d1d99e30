"""What a search found: its gain against its cost, and which hyperparameters matter."""

from __future__ import annotations

import numpy as np
import optuna
import pandas as pd

from churn_utils.evaluation import bootstrap, metrics
from churn_utils.evaluation.economics import Economics
from churn_utils.training.models import DEFAULTS, fit_calibrated, one_thread, predict_unseen
from churn_utils.training.pruning import measure_gap
from churn_utils.training.search import DONE, best_params, trials_table

CHOSEN = "chosen by the search"
REFERENCES = {"default lightgbm": "lightgbm", "linear": "logistic_regression"}
GAINS = {"auc_gain": "roc_auc", "usd_gain": "value_usd"}
MIN_TRIALS = 6  # of a family, before anything is said about its hyperparameters


@one_thread
def measure_gain(
    study: optuna.Study,
    train: pd.DataFrame,
    validate: pd.DataFrame,
    seed: int,
    economics: Economics,
    draws: int = 1000,
) -> pd.DataFrame:
    """Compare what a search cost with what it gained over models that need no search.

    Args:
        study: finished.
        train: rows that the search saw.
        validate: rows that it did not see.
        seed: of models, folds and bootstrap.
        economics: gives the value of a decision.
        draws: bootstrap draws, the same for all models.

    Returns:
        One row per model (``chosen by the search``, then ``REFERENCES``): ``model``, ``fits`` and
        ``seconds`` it took to find it, ``roc_auc, log_loss, value_usd`` on ``validate``, and
        ``auc_gain, usd_gain`` of the chosen one over it with 95 % bounds ``…_lower, …_upper``.
    """
    models = {CHOSEN: best_params(study)}
    for name, family in REFERENCES.items():
        models[name] = {"family": family, **DEFAULTS[family]}
    probabilities = {}
    for name, params in models.items():
        model = fit_calibrated(params, train, validate, seed)
        probabilities[name] = predict_unseen(model, validate, seed)
    churned = validate["churned"]
    samples = bootstrap.bootstrap_metrics(
        churned, probabilities, validate["customer_id"], economics, draws, seed
    )
    rows = []
    for name, probability in probabilities.items():
        point = metrics.score_metrics(churned, probability, economics).iloc[0]
        row = {"model": name, "fits": 1, "seconds": np.nan}
        row |= point[["roc_auc", "log_loss", "value_usd"]].to_dict()
        rows.append(row | _describe_gains(samples[CHOSEN] - samples[name]))
    trials = trials_table(study)
    rows[0] |= {"fits": int(trials["folds"].sum()), "seconds": trials["seconds"].sum()}
    return pd.DataFrame(rows)


def _describe_gains(gains: pd.DataFrame) -> dict[str, float]:
    """Return mean and 95 % bounds of the gains whose bootstrap draws are given."""
    bounds = bootstrap.interval(gains)
    described = {}
    for column, metric in GAINS.items():
        described[column] = gains[metric].mean()
        described[f"{column}_lower"] = bounds.loc[metric, "lower"]
        described[f"{column}_upper"] = bounds.loc[metric, "upper"]
    return described


def rank_hyperparameters(study: optuna.Study, seed: int) -> pd.DataFrame:
    """Measure which share of the differences within a family each hyperparameter explains (fANOVA).

    A pruned trial counts with how far it was behind the best one on the folds that it saw.

    Returns:
        ``family, hyperparameter, importance``, most important first; families with fewer than
        ``MIN_TRIALS`` trials are left out.
    """
    rows = []
    for family in DEFAULTS:
        study_of_family = _extract_family(study, family)
        if len(study_of_family.trials) < MIN_TRIALS:
            continue
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
        found = optuna.importance.get_param_importances(study_of_family, evaluator=evaluator)
        rows += [(family, name, share) for name, share in found.items()]
    table = pd.DataFrame(rows, columns=["family", "hyperparameter", "importance"])
    return table.sort_values("importance", ascending=False, ignore_index=True)


def _extract_family(study: optuna.Study, family: str) -> optuna.Study:
    """Copy the trials of a family into a study in memory; their values are gaps to the best."""
    best = study.best_trial
    extracted = optuna.create_study()
    for trial in study.get_trials(deepcopy=False, states=DONE):
        if trial.params.get("family") != family:
            continue
        space = {name: found for name, found in trial.distributions.items() if name != "family"}
        params = {name: trial.params[name] for name in space}
        gap = measure_gap(trial, best)
        copied = optuna.trial.create_trial(params=params, distributions=space, value=gap)
        extracted.add_trial(copied)
    return extracted


def slice_space(study: optuna.Study) -> pd.DataFrame:
    """Return the hyperparameters of every trial with how far it was behind the best.

    Returns:
        One row per trial and hyperparameter: ``family, hyperparameter, value, behind`` (nats on the
        folds that the trial saw; 0 for the best trial).
    """
    best = study.best_trial
    rows = []
    for trial in study.get_trials(deepcopy=False, states=DONE):
        params = dict(trial.params)
        family = params.pop("family")
        behind = measure_gap(trial, best)
        rows += [(family, name, value, behind) for name, value in params.items()]
    return pd.DataFrame(rows, columns=["family", "hyperparameter", "value", "behind"])
