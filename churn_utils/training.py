"""Search hyperparameters inside ``train``, refit the winner, calibrate it on ``validate``, log it all to MLflow."""

from __future__ import annotations

import importlib.metadata
import time
import warnings

import numpy as np
import optuna
import pandas as pd
from optuna.pruners import WilcoxonPruner
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from sklearn.base import BaseEstimator, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, SplineTransformer, StandardScaler

from churn_utils import feature_store, features, lakehouse, settings
from churn_utils.settings import ChurnError, Economics

FOLDS = 5
SMOOTH = ["tenure", "monthly_charges", "total_charges"]
# Where each family's search starts: a sensible model that the search has to beat.
DEFAULTS = {
    "logistic_regression": {"C": 1.0, "n_knots": 4},
    "lightgbm": {
        "n_estimators": 300, "learning_rate": 0.03, "num_leaves": 5, "min_child_samples": 30,
        "colsample_bytree": 0.4, "reg_lambda": 5.0,
    },
    "random_forest": {"min_samples_leaf": 10, "max_features": 0.3},
}  # fmt: skip
INPUT_TABLES = ["customer_features", "churn_labels"]
PACKAGES = ["scikit-learn", "lightgbm", "skops", "numpy", "pandas"]
# Types that skops may load besides its own list; loading a model runs no pickle.
TRUSTED_TYPES = [
    "collections.OrderedDict", "lightgbm.basic.Booster", "lightgbm.sklearn.LGBMClassifier",
    "sklearn.calibration._CalibratedClassifier", "sklearn.calibration._SigmoidCalibration",
    "scipy._lib.array_api_compat.numpy._aliases.asarray", "scipy.interpolate._bsplines.BSpline",
]  # fmt: skip


class TrainingError(ChurnError):
    """Data or parameters that no model can be trained with."""


def suggest_params(trial: optuna.Trial) -> dict:
    """Draw a model family and its hyperparameters from the search space."""
    family = trial.suggest_categorical("family", list(DEFAULTS))
    if family == "logistic_regression":
        return {
            "family": family,
            "C": trial.suggest_float("C", 1e-2, 30, log=True),
            "n_knots": trial.suggest_int("n_knots", 2, 8),
        }
    if family == "random_forest":
        return {
            "family": family,
            "min_samples_leaf": trial.suggest_int("min_samples_leaf", 4, 40, log=True),
            "max_features": trial.suggest_float("max_features", 0.1, 0.6),
        }
    return {
        "family": family,
        "n_estimators": trial.suggest_int("n_estimators", 100, 400, step=50),
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.1, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 2, 12),
        "min_child_samples": trial.suggest_int("min_child_samples", 10, 80),
        "colsample_bytree": trial.suggest_float("colsample_bytree", 0.2, 0.8),
        "reg_lambda": trial.suggest_float("reg_lambda", 1e-2, 30, log=True),
    }


def build_model(params: dict, seed: int) -> Pipeline:
    """Build the unfitted pipeline of ``params`` (as ``suggest_params`` returns them) over the model inputs."""
    params = dict(params)
    family = params.pop("family", None)
    if family not in DEFAULTS:
        raise TrainingError(f"there is no model family {family!r}; the families are {', '.join(DEFAULTS)}.")
    if family == "logistic_regression":
        splines = make_pipeline(StandardScaler(), SplineTransformer(params["n_knots"], knots="quantile"))
        return make_pipeline(
            ColumnTransformer(
                [
                    ("categories", _one_hot(), list(features.CATEGORICAL)),
                    ("smooth", splines, SMOOTH),
                    ("linear", StandardScaler(), [n for n in features.NUMERICAL if n not in SMOOTH]),
                ]
            ),
            LogisticRegression(C=params["C"], max_iter=2000),
        )
    if family == "random_forest":
        forest = RandomForestClassifier(n_estimators=100, n_jobs=2, random_state=seed, **params)
        return make_pipeline(_ordinal(), forest)
    from lightgbm import LGBMClassifier

    booster = LGBMClassifier(
        subsample=0.8, subsample_freq=1, max_bin=63, n_jobs=2, random_state=seed, verbose=-1,
        deterministic=True, force_row_wise=True, **params,
    )  # fmt: skip
    return make_pipeline(_ordinal(), booster)


def _one_hot() -> OneHotEncoder:
    return OneHotEncoder(categories=list(features.CATEGORICAL.values()), drop="if_binary", sparse_output=False)


def _ordinal() -> ColumnTransformer:
    encoder = OrdinalEncoder(categories=list(features.CATEGORICAL.values()))
    return ColumnTransformer(
        [("categories", encoder, list(features.CATEGORICAL))], remainder="passthrough", verbose_feature_names_out=False
    ).set_output(transform="pandas")  # names reach LightGBM, so its importances can be read


def make_folds(rows: pd.DataFrame, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split rows into five stratified folds that keep all months of a customer together."""
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    return list(splitter.split(rows, rows["churned"], rows["customer_id"]))


def run_study(train: pd.DataFrame, n_trials: int, seed: int, name: str, report=print) -> optuna.Study:
    """Minimise the cross-validated log loss over families and hyperparameters.

    The study is kept in the home, so a search that was killed goes on where it stopped. Trials that are worse
    than the best one on the folds seen so far (Wilcoxon signed-rank) are pruned before their last fold.

    Args:
        train: rows of the ``train`` split.
        n_trials: trials that the study holds at the end, at least one per family.
        seed: of sampler, folds and models.
        name: of the study; the same name goes on with the same study.
        report: called with a line of text whenever a trial becomes the best.

    Raises:
        TrainingError: fewer trials than families.
    """
    if n_trials < len(DEFAULTS):
        raise TrainingError(f"n_trials is {n_trials}; at least {len(DEFAULTS)} are needed, one for each family.")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = settings.home() / "optuna" / "studies.log"
    storage.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():  # the pruner made for folds, and the sampler made for families, are marked so
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(storage))),
            study_name=name,
            sampler=TPESampler(seed=seed, multivariate=True, group=True, n_startup_trials=10),
            pruner=WilcoxonPruner(p_threshold=0.2, n_startup_steps=2),
            load_if_exists=True,
        )
    for family, params in DEFAULTS.items():
        study.enqueue_trial({"family": family, **params}, skip_if_exists=True)
    finished = [trial for trial in study.trials if trial.state.is_finished()]
    inputs, churned = features.select_model_inputs(train), train["churned"].to_numpy()
    folds = make_folds(train, seed)

    def objective(trial: optuna.Trial) -> float:
        params, losses = suggest_params(trial), []
        for step, (fit, held_out) in enumerate(folds):
            model = build_model(params, seed).fit(inputs.iloc[fit], churned[fit])
            losses.append(log_loss(churned[held_out], model.predict_proba(inputs.iloc[held_out])[:, 1]))
            trial.report(losses[-1], step)
            if step + 1 < FOLDS and trial.should_prune():
                raise optuna.TrialPruned
        return float(np.mean(losses))

    def tell(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if trial.state == optuna.trial.TrialState.COMPLETE and study.best_trial.number == trial.number:
            report(f"trial {trial.number + 1:>3} of {n_trials}: log loss {trial.value:.4f}  {trial.params['family']}")

    study.optimize(objective, n_trials=max(0, n_trials - len(finished)), callbacks=[tell])
    return study


def best_params(study: optuna.Study) -> dict:
    """Parameters of the best finished trial, as ``build_model`` takes them."""
    return dict(study.best_trial.params)


def fit_calibrated(params: dict, train: pd.DataFrame, validate: pd.DataFrame, seed: int) -> CalibratedClassifierCV:
    """Fit the pipeline on ``train`` and a sigmoid calibration (Platt) of its scores on ``validate``."""
    model = build_model(params, seed).fit(features.select_model_inputs(train), train["churned"].to_numpy())
    calibrated = CalibratedClassifierCV(FrozenEstimator(model), method="sigmoid")
    return calibrated.fit(features.select_model_inputs(validate), validate["churned"].to_numpy())


def out_of_fold(model: CalibratedClassifierCV, rows: pd.DataFrame, seed: int) -> np.ndarray:
    """Churn probability of each row from a refit that has not seen its customer, under ``model``'s calibration.

    Args:
        model: as ``fit_calibrated`` returns it; its calibration was learned on other rows than these.
        rows: rows of the ``train`` split.
        seed: of the folds.
    """
    sigmoid = model.calibrated_classifiers_[0].calibrators[0]
    inputs, churned = features.select_model_inputs(rows), rows["churned"].to_numpy()
    probability = np.empty(len(rows))
    for fit, held_out in make_folds(rows, seed):
        refit = clone(model.estimator.estimator).fit(inputs.iloc[fit], churned[fit])
        unseen = inputs.iloc[held_out]
        # the calibration was learned on log-odds where the model gives them, else on probabilities
        scores = refit.decision_function(unseen) if hasattr(refit, "decision_function") else refit.predict_proba(unseen)[:, 1]
        probability[held_out] = sigmoid.predict(scores)
    return probability


def explain_importance(model: BaseEstimator, rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Permutation importance: rise in log loss when a feature is shuffled; ``feature, importance, spread``."""
    inputs = features.select_model_inputs(rows)
    result = permutation_importance(
        model, inputs, rows["churned"], scoring="neg_log_loss", n_repeats=5, random_state=seed
    )
    table = pd.DataFrame(
        {"feature": inputs.columns, "importance": result.importances_mean, "spread": result.importances_std}
    )
    return table.sort_values("importance", ascending=False, ignore_index=True)


def trials_table(study: optuna.Study) -> pd.DataFrame:
    """One row per trial: ``trial, family, state, log_loss, folds, seconds, best_so_far`` (pruned: no log loss)."""
    table = pd.DataFrame(
        [
            {
                "trial": trial.number + 1,
                "family": trial.params.get("family"),
                "state": trial.state.name.lower(),
                "log_loss": trial.value if trial.state == optuna.trial.TrialState.COMPLETE else np.nan,
                "folds": len(trial.intermediate_values),
                "seconds": trial.duration.total_seconds() if trial.duration else np.nan,
            }
            for trial in study.trials
        ]
    )
    return table.assign(best_so_far=table["log_loss"].cummin().ffill())


def log_training(
    study: optuna.Study,
    model: CalibratedClassifierCV,
    training_set: pd.DataFrame,
    metrics: pd.DataFrame,
    importance: pd.DataFrame,
    figures: dict,
    as_of: pd.Timestamp,
    seed: int,
    economics: Economics,
) -> str:
    """Log a training to MLflow: one parent run with the model, one nested run per trial.

    Args:
        metrics: index metric, columns ``value, lower, upper``; logged as ``metric``, ``metric_lower``, ``metric_upper``.
        importance: as ``explain_importance`` returns it.
        figures: plotly figures by name, logged together as one self-contained page.

    Returns:
        The parent's run id.
    """
    mlflow = settings.connect_mlflow()
    params = best_params(study)
    versions = {f"{table}_version": lakehouse.version_of(table) for table in INPUT_TABLES}
    rows = feature_store.training_rows(training_set, "train")
    with mlflow.start_run(run_name=f"training {as_of:%Y-%m-%d}", tags={"trained_by": settings.user()}) as run:
        mlflow.log_params({**params, **versions, "as_of": f"{as_of:%Y-%m-%d}", "seed": seed, "study": study.study_name,
                           "n_trials": len(study.trials), "rows_train": len(rows), "threshold": economics.threshold,
                           "offer_cost_usd": economics.offer_cost_usd,
                           "churner_value_usd": economics.churner_value_usd})  # fmt: skip
        named = {"value": "", "lower": "_lower", "upper": "_upper"}
        mlflow.log_metrics({m + named[c]: v for m, row in metrics.iterrows() for c, v in row.items()})
        mlflow.log_table(importance, "importance.json")
        mlflow.log_dict(features.feature_contract().to_dict("records"), "feature_contract.json")
        mlflow.log_text(_figure_page(figures), "figures.html")
        _log_trials(mlflow, study, run.info)
        _log_model(mlflow, model, rows, economics, as_of)
    return run.info.run_id


def _figure_page(figures: dict) -> str:
    """Put figures on one page that needs no network: the first brings plotly.js, the others share it."""
    parts = [
        f"<h2>{name}</h2>" + figure.to_html(full_html=False, include_plotlyjs=position == 0)
        for position, (name, figure) in enumerate(figures.items())
    ]
    return "<!doctype html><meta charset='utf-8'>" + "".join(parts)


def _log_trials(mlflow, study: optuna.Study, parent) -> None:
    """Log each trial as a finished child run; batches, because 40 runs one value at a time take seconds."""
    client = mlflow.MlflowClient()
    for trial in study.trials:
        tags = {"mlflow.parentRunId": parent.run_id, "state": trial.state.name.lower()}
        started = trial.datetime_start
        start = int(started.timestamp() * 1000) if started else int(time.time() * 1000)
        child = client.create_run(parent.experiment_id, start, tags, f"trial {trial.number + 1}").info.run_id
        metrics = [
            mlflow.entities.Metric("fold_log_loss", loss, start, step) for step, loss in trial.intermediate_values.items()
        ]
        if trial.state == optuna.trial.TrialState.COMPLETE:
            metrics.append(mlflow.entities.Metric("log_loss", trial.value, start, 0))
        client.log_batch(child, metrics, [mlflow.entities.Param(k, str(v)) for k, v in trial.params.items()])
        ended = trial.datetime_complete
        client.set_terminated(child, end_time=int(ended.timestamp() * 1000) if ended else None)


def _log_model(mlflow, model, rows: pd.DataFrame, economics: Economics, as_of: pd.Timestamp) -> None:
    example = features.select_model_inputs(rows.head(5))
    with warnings.catch_warnings():  # integers stay integers: the contract refuses missing values
        warnings.filterwarnings("ignore", message="\\s*Hint: Inferred schema contains integer")
        signature = mlflow.models.infer_signature(example, model.predict_proba(example))
    mlflow.sklearn.log_model(
        model,
        name="model",
        serialization_format="skops",
        skops_trusted_types=TRUSTED_TYPES,
        pyfunc_predict_fn="predict_proba",
        signature=signature,
        input_example=example,
        pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in PACKAGES],
        metadata={
            "threshold": economics.threshold,
            "offer_cost_usd": economics.offer_cost_usd,
            "churner_value_usd": economics.churner_value_usd,
            "as_of": f"{as_of:%Y-%m-%d}",
        },
    )
