"""Search hyperparameters inside ``train``, refit the winner and calibrate it on ``validate``."""

from __future__ import annotations

import warnings

import numpy as np
import optuna
import pandas as pd
from optuna.pruners import WilcoxonPruner
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from sklearn.base import BaseEstimator, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, SplineTransformer, StandardScaler
from threadpoolctl import threadpool_limits

from churn_utils import features, settings
from churn_utils.settings import ChurnError

# On so few rows a second thread of BLAS or OpenMP gains nothing, and on a busy machine the two wait for each other:
# a search took 2.8 times as long beside two other busy processes.
one_thread = threadpool_limits.wrap(limits=1)
FOLDS = 5
DONE = (TrialState.COMPLETE, TrialState.PRUNED)
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
    """Build the unfitted pipeline over the model inputs: category codes, then the family's estimator."""
    return make_pipeline(build_encoder(), build_estimator(params, seed))


def build_encoder() -> ColumnTransformer:
    """Turn categories into the contract's codes; it learns nothing, so folds may share its output."""
    encoder = OrdinalEncoder(categories=list(features.CATEGORICAL.values()))
    return ColumnTransformer(
        [("categories", encoder, list(features.CATEGORICAL))],
        remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")  # names reach LightGBM, so its importances can be read


def build_estimator(params: dict, seed: int) -> BaseEstimator:
    """Build the unfitted estimator of ``params`` (as ``suggest_params`` returns them) over encoded inputs.

    Raises:
        TrainingError: unknown model family; the message lists the valid ones.
    """
    settings_of_family = dict(params)
    family = settings_of_family.pop("family", None)
    if family not in DEFAULTS:
        raise TrainingError(f"there is no model family {family!r}; the families are {', '.join(DEFAULTS)}.")
    if family == "logistic_regression":
        return _build_logistic_regression(**settings_of_family)
    if family == "random_forest":
        return RandomForestClassifier(n_estimators=100, n_jobs=2, random_state=seed, **settings_of_family)
    from lightgbm import LGBMClassifier

    return LGBMClassifier(
        subsample=0.8, subsample_freq=1, max_bin=63, n_jobs=1, random_state=seed, verbose=-1,
        deterministic=True, force_row_wise=True, **settings_of_family,
    )  # fmt: skip


def _build_logistic_regression(C: float, n_knots: int) -> Pipeline:  # noqa: N803 - scikit-learn's name
    codes = [list(range(len(values))) for values in features.CATEGORICAL.values()]
    columns = ColumnTransformer(
        [
            (
                "one_hot",
                OneHotEncoder(categories=codes, drop="if_binary", sparse_output=False),
                list(features.CATEGORICAL),
            ),
            (
                "splines",
                make_pipeline(StandardScaler(), SplineTransformer(n_knots, knots="quantile")),
                SMOOTH,
            ),
            ("linear", StandardScaler(), [name for name in features.NUMERICAL if name not in SMOOTH]),
        ]
    )
    return make_pipeline(columns, LogisticRegression(C=C, solver="newton-cholesky", max_iter=100))


def make_folds(rows: pd.DataFrame, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split rows into five folds, stratified by customers that ever churned; a customer's months stay together."""
    codes, _ = pd.factorize(rows["customer_id"])
    ever_churned = rows.groupby(codes)["churned"].max().to_numpy()
    splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    held_out = [np.isin(codes, customers) for _, customers in splitter.split(ever_churned, ever_churned)]
    return [(np.flatnonzero(~mask), np.flatnonzero(mask)) for mask in held_out]


def _open_study(name: str, seed: int, warm_start: dict | None) -> optuna.Study:
    """Make or reopen a study: ``warm_start`` and every family's default wait to be tried, no trial is half done."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = settings.home() / "optuna" / "studies.log"
    storage.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():  # the pruner made for folds, and the sampler made for families, are marked so
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(storage))),
            study_name=name,
            pruner=WilcoxonPruner(p_threshold=0.2, n_startup_steps=2),
            load_if_exists=True,
        )
        for trial in study.get_trials(states=[TrialState.RUNNING]):  # of a search that was killed
            study.tell(trial.number, state=TrialState.FAIL)
        finished = study.get_trials(states=DONE)
        # the count in the seed: a search that goes on must not draw the first session's trials again
        study.sampler = TPESampler(seed=seed + len(finished), multivariate=True, group=True, n_startup_trials=10)
    asked = [t.system_attrs.get("fixed_params") for t in study.get_trials(states=(*DONE, TrialState.WAITING))]
    first = [warm_start] if warm_start else []
    for params in [*first, *({"family": family, **defaults} for family, defaults in DEFAULTS.items())]:
        if params not in asked:
            study.enqueue_trial(params)
            asked.append(params)
    return study


@one_thread
def run_study(
    train: pd.DataFrame, n_trials: int, seed: int, name: str, report=print, warm_start: dict | None = None
) -> optuna.Study:
    """Minimise the cross-validated log loss over families and hyperparameters.

    The study is kept in the home, so a search that was killed goes on where it stopped. Trials that are worse
    than the best one on the folds seen so far (Wilcoxon signed-rank) are pruned before their last fold.

    Args:
        train: rows of the ``train`` split.
        n_trials: trials that the study holds at the end, at least one per family.
        seed: of sampler, folds and models.
        name: of the study; the same name goes on with the same study.
        report: called with a line of text whenever a trial becomes the best.
        warm_start: parameters to try first, as ``best_params`` returns them: those of the champion in effect.

    Raises:
        TrainingError: fewer trials than families.
    """
    if n_trials < len(DEFAULTS):
        raise TrainingError(f"n_trials is {n_trials}; at least {len(DEFAULTS)} are needed, one for each family.")
    study = _open_study(name, seed, warm_start)
    encoded = build_encoder().fit_transform(features.select_model_inputs(train))
    folds, churned = make_folds(train, seed), train["churned"].to_numpy()

    def objective(trial: optuna.Trial) -> float:
        params, losses = suggest_params(trial), []
        for step, (fit, held_out) in enumerate(folds):
            model = build_estimator(params, seed).fit(encoded.iloc[fit], churned[fit])
            losses.append(log_loss(churned[held_out], model.predict_proba(encoded.iloc[held_out])[:, 1]))
            trial.report(losses[-1], step)
            if step + 1 < FOLDS and trial.should_prune():
                raise optuna.TrialPruned
        return float(np.mean(losses))

    def tell(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if trial.state == TrialState.COMPLETE and study.best_trial.number == trial.number:
            report(f"trial {trial.number + 1:>3} of {n_trials}: log loss {trial.value:.4f}  {trial.params['family']}")

    study.optimize(objective, n_trials=max(0, n_trials - len(study.get_trials(states=DONE))), callbacks=[tell])
    return study


def best_params(study: optuna.Study) -> dict:
    """Parameters of the best finished trial, as ``build_model`` takes them."""
    return dict(study.best_trial.params)


def log_loss_of_base_rate(rows: pd.DataFrame) -> float:
    """Log loss of giving every row the base rate: what a model that knows nothing reaches."""
    return log_loss(rows["churned"], np.full(len(rows), rows["churned"].mean()))


@one_thread
def fit_calibrated(params: dict, train: pd.DataFrame, validate: pd.DataFrame, seed: int) -> CalibratedClassifierCV:
    """Fit the pipeline on ``train`` and a sigmoid calibration (Platt) of its scores on ``validate``."""
    model = build_model(params, seed).fit(features.select_model_inputs(train), train["churned"].to_numpy())
    if isinstance(model[-1], RandomForestClassifier):
        model[-1].set_params(n_jobs=1)  # threads add the trees' votes in any order, and the last bit would vary
    calibrated = CalibratedClassifierCV(FrozenEstimator(model), method="sigmoid")
    return calibrated.fit(features.select_model_inputs(validate), validate["churned"].to_numpy())


@one_thread
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
        scores = (
            refit.decision_function(unseen)
            if hasattr(refit, "decision_function")
            else refit.predict_proba(unseen)[:, 1]
        )
        probability[held_out] = sigmoid.predict(scores)
    return probability


@one_thread
def explain_importance(model: BaseEstimator, rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Permutation importance: rise in log loss when a feature is shuffled; ``feature, importance, spread``."""
    inputs = features.select_model_inputs(rows)
    result = permutation_importance(
        model, inputs, rows["churned"], scoring="neg_log_loss", n_repeats=3, random_state=seed
    )
    table = pd.DataFrame(
        {"feature": inputs.columns, "importance": result.importances_mean, "spread": result.importances_std}
    )
    return table.sort_values("importance", ascending=False, ignore_index=True)


def trials_table(study: optuna.Study) -> pd.DataFrame:
    """One row per trial that was not cut off; a pruned one has no log loss.

    Columns: ``trial, family, state, log_loss, folds, seconds, best_so_far``.
    """
    table = pd.DataFrame(
        [
            {
                "trial": trial.number + 1,
                "family": trial.params.get("family"),
                "state": trial.state.name.lower(),
                "log_loss": trial.value if trial.state == TrialState.COMPLETE else np.nan,
                "folds": len(trial.intermediate_values),
                "seconds": trial.duration.total_seconds() if trial.duration else np.nan,
            }
            for trial in study.get_trials(states=DONE)
        ]
    )
    return table.assign(best_so_far=table["log_loss"].cummin().ffill())
