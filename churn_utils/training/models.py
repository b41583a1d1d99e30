"""Model families: build them, fit them on ``train``, calibrate them on ``validate``, see what they look at."""

from __future__ import annotations

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
from churn_utils.features import definitions

# On so few rows a second thread of BLAS or OpenMP gains nothing, and on a busy machine the two wait for each other:
# a search took 2.8 times as long beside two other busy processes.
one_thread = threadpool_limits.wrap(limits=1)
FOLDS = 5
SMOOTH = ["tenure", "monthly_charges", "total_charges"]
# Where each family's search starts: a sensible model that the search has to beat.
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


def build_model(params: dict, seed: int) -> Pipeline:
    """Build the unfitted pipeline over the model inputs: category codes, then the family's estimator."""
    return make_pipeline(build_encoder(), build_estimator(params, seed))


def build_encoder() -> ColumnTransformer:
    """Turn categories into the contract's codes; it learns nothing, so folds may share its output."""
    encoder = OrdinalEncoder(categories=list(definitions.CATEGORICAL.values()))
    return ColumnTransformer(
        [("categories", encoder, list(definitions.CATEGORICAL))],
        remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")  # names reach LightGBM, so its importances can be read


def build_estimator(params: dict, seed: int) -> BaseEstimator:
    """Build the unfitted estimator of ``params`` (as ``suggest_params`` returns them) over encoded inputs.

    Raises:
        DataError: unknown model family; the message lists the valid ones.
    """
    settings_of_family = dict(params)
    family = settings_of_family.pop("family", None)
    if family not in DEFAULTS:
        raise DataError(
            f"there is no model family {family!r}; the families are {', '.join(DEFAULTS)}."
        )
    if family == "logistic_regression":
        return _build_logistic_regression(**settings_of_family)
    if family == "random_forest":
        return RandomForestClassifier(
            n_estimators=100, n_jobs=2, random_state=seed, **settings_of_family
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
        **settings_of_family,
    )


def _build_logistic_regression(C: float, n_knots: int) -> Pipeline:  # noqa: N803 - scikit-learn's name
    codes = [list(range(len(values))) for values in definitions.CATEGORICAL.values()]
    columns = ColumnTransformer(
        [
            (
                "one_hot",
                OneHotEncoder(categories=codes, drop="if_binary", sparse_output=False),
                list(definitions.CATEGORICAL),
            ),
            (
                "splines",
                make_pipeline(StandardScaler(), SplineTransformer(n_knots, knots="quantile")),
                SMOOTH,
            ),
            (
                "linear",
                StandardScaler(),
                [name for name in definitions.NUMERICAL if name not in SMOOTH],
            ),
        ]
    )
    return make_pipeline(columns, LogisticRegression(C=C, solver="newton-cholesky", max_iter=100))


def make_folds(rows: pd.DataFrame, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split rows into five folds, stratified by customers that ever churned; a customer's months stay together."""
    codes, _ = pd.factorize(rows["customer_id"])
    ever_churned = rows.groupby(codes)["churned"].max().to_numpy()
    splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    held_out = [
        np.isin(codes, customers) for _, customers in splitter.split(ever_churned, ever_churned)
    ]
    return [(np.flatnonzero(~mask), np.flatnonzero(mask)) for mask in held_out]


def log_loss_of_base_rate(rows: pd.DataFrame) -> float:
    """Log loss of giving every row the base rate: what a model that knows nothing reaches."""
    return log_loss(rows["churned"], np.full(len(rows), rows["churned"].mean()))


@one_thread
def fit_calibrated(
    params: dict, train: pd.DataFrame, validate: pd.DataFrame, seed: int
) -> CalibratedClassifierCV:
    """Fit the pipeline on ``train`` and a sigmoid calibration (Platt) of its scores on ``validate``."""
    model = build_model(params, seed).fit(
        definitions.select_model_inputs(train), train["churned"].to_numpy()
    )
    if isinstance(model[-1], RandomForestClassifier):
        model[-1].set_params(
            n_jobs=1
        )  # threads add the trees' votes in any order, and the last bit would vary
    calibrated = CalibratedClassifierCV(FrozenEstimator(model), method="sigmoid")
    return calibrated.fit(definitions.select_model_inputs(validate), validate["churned"].to_numpy())


@one_thread
def predict_unseen(model: CalibratedClassifierCV, validate: pd.DataFrame, seed: int) -> np.ndarray:
    """Churn probability of each row of ``validate`` as the model would give it had that customer never been seen.

    Neither search nor fit has read ``validate``; only the calibration has, so each row is calibrated by a sigmoid that
    was learned on the other customers.

    Args:
        model: as ``fit_calibrated`` returns it.
        validate: rows of the ``validate`` split.
        seed: of the folds.
    """
    inputs, churned = definitions.select_model_inputs(validate), validate["churned"].to_numpy()
    probability = np.empty(len(validate))
    for fit, held_out in make_folds(validate, seed):
        calibrated = CalibratedClassifierCV(
            FrozenEstimator(model.estimator.estimator), method="sigmoid"
        )
        calibrated.fit(inputs.iloc[fit], churned[fit])
        probability[held_out] = calibrated.predict_proba(inputs.iloc[held_out])[:, 1]
    return probability


@one_thread
def explain_importance(model: BaseEstimator, rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Permutation importance: rise in log loss when a feature is shuffled; ``feature, importance, spread``."""
    inputs = definitions.select_model_inputs(rows)
    result = permutation_importance(
        model, inputs, rows["churned"], scoring="neg_log_loss", n_repeats=3, random_state=seed
    )
    table = pd.DataFrame(
        {
            "feature": inputs.columns,
            "importance": result.importances_mean,
            "spread": result.importances_std,
        }
    )
    return table.sort_values("importance", ascending=False, ignore_index=True)
