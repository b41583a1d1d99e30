"""What a retraining would be worth in USD, measured on the labelled months before it is done.

A plain logistic regression, cross-fitted by customer, stands for the retraining. It never scores a
customer that it was fitted on, so it shows less than what a real retraining brings.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from scipy.optimize import brentq
from scipy.special import expit, logit

from churn_utils.evaluation.bootstrap import clustered_error
from churn_utils.evaluation.economics import Economics, value_of_deciding_usd
from churn_utils.features import model_inputs, offers
from churn_utils.monitoring import drift_tests, performance
from churn_utils.monitoring.champion import Champion
from churn_utils.training import models

# The newest month finds a sudden change; three together have the power for a slow one.
WINDOW_MONTHS = (1, 3)
REFIT_PARAMS = {"family": "logistic_regression", **models.DEFAULTS["logistic_regression"]}


Usd = Annotated[float, AfterValidator(lambda value: round(value, 2))]


class WindowGain(BaseModel):
    """What a refit on a window of labelled months would have won on them, in USD per customer."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    labels_from: str = Field(validation_alias="from", serialization_alias="from")
    labels_to: str = Field(validation_alias="to", serialization_alias="to")
    rows: int
    gain_usd: Usd  # of the refit over the champion
    lower: Usd  # bound of its interval
    upper: Usd
    newest_gain_usd: Usd  # of the same refit in the newest month alone
    prior_gain_usd: Usd  # of the champion with only its intercept moved


@dataclass(frozen=True, eq=False)
class Window:
    """Labelled rows with what the refit and the champion see of them."""

    rows: pd.DataFrame  # ``customer_id, event_date, churned`` and the model inputs
    design: np.ndarray  # design matrix of the refit, shape (rows, columns)
    champion_probability: np.ndarray  # shape (rows,), within (0, 1)

    @property
    def weights(self) -> np.ndarray:
        """What each row counts, shape (rows,)."""
        weights = offers.sample_weights(self.rows)
        return np.ones(len(self.rows)) if weights is None else weights

    def select(self, inside: np.ndarray) -> Window:
        """Return the rows where the mask ``inside`` is true."""
        return Window(self.rows[inside], self.design[inside], self.champion_probability[inside])


def train_champion(
    rows: pd.DataFrame, version: int, economics: Economics | None = None
) -> Champion:
    """Train the model that stands for a retraining on labelled rows, in memory.

    Args:
        rows: labelled: ``event_date, split, churned``, the model inputs, and ``weight`` where
            offers were made; those after an offer are left out.
        version: number of the champion.
        economics: that it decides by; the usual ones when not given.
    """
    untreated = offers.keep_untreated(rows)
    train = untreated[untreated["split"] == "train"]
    validate = untreated[untreated["split"] == "validate"]
    model = models.fit_calibrated(REFIT_PARAMS, train, validate, seed=0)
    newest = rows["event_date"].max()
    return Champion(version, model, train, newest, economics or Economics(), validate)


def measure_gains(
    news: pd.DataFrame,
    champion: Champion,
    confidence: float,
    seed: int = 0,
) -> list[WindowGain]:
    """Measure what a refit on the newest labelled months would have been worth on them.

    Args:
        news: labelled rows that the champion was not trained on: ``customer_id, event_date,
            churned`` and the model inputs.
        champion: the one to beat; decisions are valued by its economics.
        confidence: of the two-sided interval.
        seed: of the folds.

    Returns:
        One gain for each length in ``WINDOW_MONTHS`` for which there are months and enough labels.
    """
    months = sorted(news["event_date"].unique())
    lengths = [length for length in WINDOW_MONTHS if length <= len(months)]
    if not lengths:
        return []
    longest_rows = news[news["event_date"].isin(months[-max(lengths) :])]
    if not _can_be_fitted(longest_rows):
        return []
    longest = encode_window(longest_rows, champion)
    gains = []
    for length in lengths:
        inside = longest_rows["event_date"].isin(months[-length:])
        window = longest.select(inside.to_numpy())
        if _can_be_fitted(window.rows):
            gains.append(_measure_window(window, champion.economics, confidence, seed))
    return gains


def _can_be_fitted(rows: pd.DataFrame) -> bool:
    """Tell whether there are enough customers of both classes for every fold."""
    churners = rows["churned"].sum()
    others = len(rows) - churners
    return min(churners, others) >= performance.MIN_LABELLED


def encode_window(rows: pd.DataFrame, champion: Champion) -> Window:
    """Encode labelled rows once for all folds: knots and scales of the refit need no label."""
    inputs = champion.with_score(rows)
    columns = models.build_estimator(REFIT_PARAMS, seed=0, inputs=champion.inputs)[0]
    columns.set_params(one_hot="drop")  # indicators are built below, in a third of its time
    numbers = columns.fit_transform(inputs)
    indicators = model_inputs.indicate_categories(inputs)
    design = np.hstack([indicators, numbers])
    probability = inputs[drift_tests.SCORE].clip(1e-6, 1 - 1e-6)
    return Window(rows, design, probability.to_numpy())


def _measure_window(
    window: Window, economics: Economics, confidence: float, seed: int
) -> WindowGain:
    refit_gain, prior_gain = simulate_refit(window, economics, seed)
    customers = window.rows["customer_id"]
    weights = window.weights
    lower, upper = interval_by_customer(refit_gain, customers, confidence, weights)
    dates = window.rows["event_date"]
    is_newest = (dates == dates.max()).to_numpy()
    return WindowGain(
        labels_from=f"{dates.min():%Y-%m-%d}",
        labels_to=f"{dates.max():%Y-%m-%d}",
        rows=len(dates),
        gain_usd=np.average(refit_gain, weights=weights),
        lower=lower,
        upper=upper,
        newest_gain_usd=np.average(refit_gain[is_newest], weights=weights[is_newest]),
        prior_gain_usd=np.average(prior_gain, weights=weights),
    )


def simulate_refit(
    window: Window, economics: Economics, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cross-fit a refit, and the champion with its intercept moved, over the window's customers.

    Returns:
        What each of the two wins over the champion on each row, in USD; two arrays, shape (rows,).
    """
    churned = window.rows["churned"].to_numpy(dtype=float)
    own = window.champion_probability
    weights = window.weights
    refit = np.empty(len(churned))
    moved = np.empty(len(churned))
    model = models.build_estimator(REFIT_PARAMS, seed)[-1]
    # Each fold starts where the last one ended, which takes half the steps; the tolerance is so
    # small that no trace is left of the customers of the fold before.
    model.set_params(warm_start=True, tol=1e-6)
    for fit, held_out in models.make_folds(window.rows, seed):
        model.fit(window.design[fit], churned[fit], sample_weight=weights[fit])
        refit[held_out] = model.predict_proba(window.design[held_out])[:, 1]
        moved[held_out] = move_intercept(own[fit], churned[fit], own[held_out], weights[fit])

    own_value = value_of_deciding_usd(churned, own, economics)
    refit_value = value_of_deciding_usd(churned, refit, economics)
    moved_value = value_of_deciding_usd(churned, moved, economics)
    return refit_value - own_value, moved_value - own_value


def move_intercept(
    known: np.ndarray,
    churned: np.ndarray,
    unknown: np.ndarray,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Shift log-odds by one number, so that the mean probability equals the observed churn rate.

    ``known`` are the probabilities of the rows whose labels, ``churned``, decide the shift, each
    counted by its weight, and ``unknown`` those that are shifted and returned.
    """
    log_odds = logit(known)
    rate = np.average(churned, weights=weights)

    def excess(shift: float) -> float:
        return np.average(expit(log_odds + shift), weights=weights) - rate

    shift = brentq(excess, -50.0, 50.0)
    return expit(logit(unknown) + shift)


def interval_by_customer(
    gain: np.ndarray,
    customers: pd.Series,
    confidence: float,
    weights: np.ndarray | None = None,
) -> tuple[float, float]:
    """Return the interval of the weighted mean gain, by ``bootstrap.clustered_error``."""
    mean = np.average(gain, weights=weights)
    quantile = NormalDist().inv_cdf((1 + confidence) / 2)
    half = quantile * clustered_error(gain, customers, weights)
    return mean - half, mean + half
