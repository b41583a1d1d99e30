"""Model families: build, fit on ``train``, calibrate on ``validate``, explain."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
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

from churn_utils.errors import DataError
from churn_utils.features import definitions, model_inputs, offers

# On so few rows a second thread of BLAS or OpenMP gains nothing. On a busy machine threads wait for
# each other: a search took 2.8 times as long beside two other busy processes.
one_thread = threadpool_limits.wrap(limits=1)
FOLDS = 5
SMOOTH = ["tenure", "monthly_charges", "total_charges"]
# Where the search of each family starts: sensible models that it has to beat.
DEFAULTS = {
    "logistic_regression": {"C": 1.0, "n_knots": 4},
    "lightgbm": {
        "n_estimators": 300,
        "learning_rate": 0.03,
        "num_leaves": 5,
        "min_child_samples": 30,
        "colsample_bytree": 0.4,
        "reg_lambda": 5.0,
    },
    "random_forest": {"min_samples_leaf": 10, "max_features": 0.3},
}


def read_hyperparameters(params: dict[str, str]) -> dict:
    """Return ``family`` and its hyperparameters from the params, as text, of a training run."""
    family = params["family"]
    hyperparameters: dict[str, str | float] = {"family": family}
    for name, default in DEFAULTS[family].items():
        kind = type(default)
        hyperparameters[name] = kind(float(params[name]))
    return hyperparameters


def build_model(
    params: dict, seed: int, inputs: Iterable[str] = definitions.MODEL_INPUTS
) -> Pipeline:
    """Build the unfitted pipeline over model inputs: category codes, then the estimator."""
    names = list(inputs)
    return make_pipeline(build_encoder(names), build_estimator(params, seed, names))


def build_encoder(inputs: Iterable[str] = definitions.MODEL_INPUTS) -> ColumnTransformer:
    """Build the encoder of categories into the contract's codes; it learns nothing from rows."""
    categories = model_inputs.select_categorical(inputs)
    encoder = OrdinalEncoder(categories=list(categories.values()))
    return ColumnTransformer(
        [("categories", encoder, list(categories))],
        remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")  # names reach LightGBM, so its importances can be read


def build_estimator(
    params: dict, seed: int, inputs: Iterable[str] = definitions.MODEL_INPUTS
) -> BaseEstimator:
    """Build the unfitted estimator over encoded inputs.

    Args:
        params: as ``search.suggest_params`` returns them.
        seed: of the estimator.
        inputs: names of those that it takes.

    Raises:
        DataError: unknown model family; the message lists the valid ones.
    """
    hyperparameters = dict(params)
    family = hyperparameters.pop("family", None)
    if family not in DEFAULTS:
        raise DataError(
            f"there is no model family {family!r}; the families are {', '.join(DEFAULTS)}."
        )
    if family == "logistic_regression":
        return _build_logistic_regression(list(inputs), **hyperparameters)
    if family == "random_forest":
        return RandomForestClassifier(
            n_estimators=100, n_jobs=2, random_state=seed, **hyperparameters
        )
    from lightgbm import LGBMClassifier

    return LGBMClassifier(
        subsample=0.8,
        subsample_freq=1,
        max_bin=63,
        n_jobs=1,
        random_state=seed,
        verbose=-1,
        deterministic=True,
        force_row_wise=True,
        **hyperparameters,
    )


def _build_logistic_regression(
    inputs: list[str],
    C: float,  # noqa: N803 - scikit-learn's name
    n_knots: int,
) -> Pipeline:
    categories = model_inputs.select_categorical(inputs)
    codes = [list(range(len(values))) for values in categories.values()]
    one_hot = OneHotEncoder(categories=codes, drop="if_binary", sparse_output=False)
    splines = make_pipeline(StandardScaler(), SplineTransformer(n_knots, knots="quantile"))
    linear = [name for name in model_inputs.select_numerical(inputs) if name not in SMOOTH]
    columns = ColumnTransformer(
        [
            ("one_hot", one_hot, list(categories)),
            ("splines", splines, SMOOTH),
            ("linear", StandardScaler(), linear),
        ]
    )
    return make_pipeline(columns, LogisticRegression(C=C, solver="newton-cholesky", max_iter=100))


def make_folds(rows: pd.DataFrame, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split rows into folds by customer, stratified by whether the customer ever churned.

    Returns:
        Row numbers to fit on and row numbers held out, for each of ``FOLDS`` folds.
    """
    codes, _ = pd.factorize(rows["customer_id"])
    ever_churned = rows.groupby(codes)["churned"].max().to_numpy()
    splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    folds = []
    for _, customers in splitter.split(ever_churned, ever_churned):
        is_held_out = np.isin(codes, customers)
        fit = np.flatnonzero(~is_held_out)
        held_out = np.flatnonzero(is_held_out)
        folds.append((fit, held_out))
    return folds


def log_loss_of_base_rate(rows: pd.DataFrame) -> float:
    """Return the log loss of predicting the base rate for every row."""
    churned = rows["churned"]
    weights = offers.sample_weights(rows)
    rate = np.average(churned, weights=weights)
    predicted = np.full(len(rows), rate)
    return log_loss(churned, predicted, sample_weight=weights)


def weight_parameters(model: BaseEstimator, weights: np.ndarray | None) -> dict[str, np.ndarray]:
    """Return the parameter of ``fit`` that says what each row counts.

    Args:
        model: estimator, or a pipeline whose last step takes the weights.
        weights: those of ``offers.sample_weights``.

    Returns:
        The weights under the name of the parameter; nothing where each row counts once.
    """
    if weights is None:
        return {}
    last, prefix = model, ""
    while isinstance(last, Pipeline):
        name, last = last.steps[-1]
        prefix += f"{name}__"
    return {f"{prefix}sample_weight": weights}


def calibrate(
    model: BaseEstimator, inputs: pd.DataFrame, churned, weights: np.ndarray | None
) -> CalibratedClassifierCV:
    """Fit a sigmoid (Platt) over a fitted model's probabilities, with what each row counts."""
    calibrated = CalibratedClassifierCV(FrozenEstimator(model), method="sigmoid")
    with warnings.catch_warnings():
        # The model is fitted: that the weights reach the calibration alone is what is wanted.
        warnings.filterwarnings("ignore", "Since FrozenEstimator", UserWarning)
        return calibrated.fit(inputs, churned, sample_weight=weights)


@one_thread
def fit_calibrated(
    params: dict,
    train: pd.DataFrame,
    validate: pd.DataFrame,
    seed: int,
    inputs: Iterable[str] = definitions.MODEL_INPUTS,
) -> CalibratedClassifierCV:
    """Fit the pipeline on ``train``, and a sigmoid (Platt) that calibrates it on ``validate``.

    Args:
        params: as ``search.suggest_params`` returns them.
        train: rows of the ``train`` split.
        validate: rows of the ``validate`` split.
        seed: of the estimator.
        inputs: names of those that it takes, in order; a version may be older than a feature.
    """
    names = list(inputs)
    known = model_inputs.select_model_inputs(train, names)
    unfitted = build_model(params, seed, names)
    weighted = weight_parameters(unfitted, offers.sample_weights(train))
    model = unfitted.fit(known, train["churned"].to_numpy(), **weighted)
    if getattr(model[-1], "n_jobs", 1) != 1:
        # Threads add the trees' votes in any order, so the last bit would vary.
        model[-1].set_params(n_jobs=1)
    unseen = model_inputs.select_model_inputs(validate, names)
    weights = offers.sample_weights(validate)
    return calibrate(model, unseen, validate["churned"].to_numpy(), weights)


@one_thread
def predict_unseen(model: CalibratedClassifierCV, validate: pd.DataFrame, seed: int) -> np.ndarray:
    """Predict ``validate`` as if each row's customer had never been seen.

    Neither search nor fit reads ``validate``, only the calibration does: each row is calibrated by
    a sigmoid that is fitted on other customers.

    Args:
        model: as ``fit_calibrated`` returns it.
        validate: rows of the ``validate`` split.
        seed: of the folds.

    Returns:
        Churn probabilities, shape (n,).
    """
    inputs = model_inputs.select_model_inputs(validate, model_inputs.inputs_of(model))
    churned = validate["churned"].to_numpy()
    fitted = model.estimator.estimator
    weights = offers.sample_weights(validate)
    probability = np.empty(len(validate))
    for fit, held_out in make_folds(validate, seed):
        known = None if weights is None else weights[fit]
        calibrated = calibrate(fitted, inputs.iloc[fit], churned[fit], known)
        probability[held_out] = calibrated.predict_proba(inputs.iloc[held_out])[:, 1]
    return probability


@one_thread
def explain_importance(model: BaseEstimator, rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Measure permutation importance: the rise in log loss when a feature is shuffled.

    Returns:
        One row per feature, most important first: ``feature, importance, spread``.
    """
    inputs = model_inputs.select_model_inputs(rows, model_inputs.inputs_of(model))
    result = permutation_importance(
        model,
        inputs,
        rows["churned"],
        scoring="neg_log_loss",
        n_repeats=3,
        random_state=seed,
        sample_weight=offers.sample_weights(rows),
    )
    table = pd.DataFrame(
        {
            "feature": inputs.columns,
            "importance": result.importances_mean,
            "spread": result.importances_std,
        }
    )
    return table.sort_values("importance", ascending=False, ignore_index=True)
