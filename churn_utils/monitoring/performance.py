"""Performance of each model version: estimated before the labels of a month, realised with them.

Everything that goes into the table ``monitoring_metrics`` is a long frame with ``COLUMNS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from churn_utils.errors import DataError
from churn_utils.evaluation import bootstrap
from churn_utils.evaluation import metrics as model_metrics
from churn_utils.evaluation.economics import Economics
from churn_utils.features import offers
from churn_utils.features.definitions import SLICES

COLUMNS = [
    "as_of_date",
    "window",
    "model_version",
    "slice",
    "metric",
    "value",
    "lower",
    "upper",
    "rows",
    "rows_labelled",
]
METRICS = [*model_metrics.METRICS, "loss_usd"]
ALL = "all"
MIN_LABELLED = 50  # fewer labelled rows give no interval worth the name
NO_ERRORS: Mapping[int, np.ndarray] = MappingProxyType({})
ESTIMATED = "estimated_"  # what the names of estimated metrics begin with


def join_labels(
    predictions: pd.DataFrame, labels: pd.DataFrame, as_of: pd.Timestamp
) -> pd.DataFrame:
    """Join predictions (``customer_id, snapshot_date``) with the labels that were there by a date.

    Returns:
        The predictions in their order with ``churned``: 1.0, 0.0, or missing while the label is
        unknown.

    Raises:
        DataError: two labels for the same customer and snapshot.
    """
    key = ["customer_id", "snapshot_date"]
    known = labels.loc[labels["label_date"] <= as_of, [*key, "churned"]]
    known = known.astype({"churned": "float64"})
    repeated = known.duplicated(key)
    if repeated.any():
        example = known.loc[repeated, key].iloc[0].to_dict()
        raise DataError(
            f"{repeated.sum()} label(s) repeat a customer and snapshot, such as {example}; "
            "drop the doubles first."
        )
    unlabelled = predictions.drop(columns="churned", errors="ignore")
    return unlabelled.merge(known, on=key, how="left").set_axis(predictions.index)


def measure_performance(
    scored: pd.DataFrame,
    as_of: pd.Timestamp,
    window: str,
    economics: Economics,
    draws: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure every model version of a window, over all customers and by slice.

    Args:
        scored: as ``join_labels`` returns it: ``customer_id, model_version, churn_probability,
            churned`` and those columns in ``SLICES`` that are to be sliced by.
        as_of: date at which the figures are known.
        window: name of the window, such as ``2025-04``.
        economics: gives the threshold and the value of a decision.
        draws, seed: of the bootstrap over customers.

    Returns:
        Rows with ``COLUMNS``: ``METRICS`` of each version and slice with 95 % bootstrap intervals.
        Only labelled rows of customers without an offer enter a metric; where they are fewer than
        ``MIN_LABELLED`` or all of one class, the values are missing and the counts are there.
    """
    parts = []
    for version, rows in scored.groupby("model_version"):
        for name, part in _split_slices(rows):
            labelled = offers.keep_untreated(part.dropna(subset=["churned"]))
            table = _measure_rows(labelled, economics, draws, seed)
            table = table.assign(rows_labelled=len(labelled))
            parts.append(stamp(table, as_of, window, version, len(part), name))
    return _join_parts(parts)


def _join_parts(parts: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)


def _split_slices(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return ``(name, rows)`` for all rows together and for each group of each slice."""
    slices = [(ALL, rows)]
    for column in SLICES:
        if column not in rows:
            continue
        for group, part in rows.groupby(column):
            slices.append((f"{column}={group}", part))
    return slices


def _measure_rows(rows: pd.DataFrame, economics: Economics, draws: int, seed: int) -> pd.DataFrame:
    """Return ``metric, value, lower, upper`` of labelled rows."""
    can_be_measured = len(rows) >= MIN_LABELLED and rows["churned"].nunique() == 2
    if not can_be_measured:
        unknown = pd.DataFrame({"metric": METRICS})
        return unknown.assign(value=np.nan, lower=np.nan, upper=np.nan)
    drawn = bootstrap.resample(rows["customer_id"], draws, seed)
    weights = bootstrap.with_all_rows_first(drawn)
    churned = rows["churned"].to_numpy()
    probability = rows["churn_probability"].to_numpy()
    weights = bootstrap.weigh(weights, offers.sample_weights(rows))
    figures = score_with_loss(churned, probability, economics, weights)
    return bootstrap.summarize_draws(figures).rename_axis("metric").reset_index()


def score_with_loss(
    churned: np.ndarray, probability: np.ndarray, economics: Economics, weights: np.ndarray
) -> pd.DataFrame:
    """Compute ``METRICS`` for each weighting of the same rows; arguments as for ``score_metrics``.

    Returns:
        One row per weighting, one column per name in ``METRICS``. ``loss_usd`` is USD per customer
        less than if every churner had been known in advance.
    """
    churn_rate = weights @ churned / weights.sum(axis=1)
    value_of_hindsight = churn_rate * (economics.saved_value_usd - economics.offer_cost_usd)
    figures = model_metrics.score_metrics(churned, probability, economics, weights)
    return figures.assign(loss_usd=value_of_hindsight - figures["value_usd"])


def stamp(
    table: pd.DataFrame,
    as_of: pd.Timestamp,
    window: str,
    model_version: int,
    rows: int,
    slice_name: str = ALL,
) -> pd.DataFrame:
    """Complete ``metric, value, lower, upper, rows_labelled`` to rows with ``COLUMNS``."""
    stamped = table.assign(
        as_of_date=as_of, window=window, model_version=model_version, slice=slice_name, rows=rows
    )
    return stamped[COLUMNS]


def estimate_performance(
    scored: pd.DataFrame,
    as_of: pd.Timestamp,
    window: str,
    economics: Economics,
    calibration_errors: Mapping[int, np.ndarray] = NO_ERRORS,
    draws: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Estimate a window's performance by confidence-based performance estimation (CBPE).

    The method, as NannyML's documentation describes it under that name, takes calibrated
    probabilities at their word: a customer with probability p counts as p of a churner and as 1 - p
    of one who stays.

    The interval holds 95 % of the outcomes that labels drawn from these probabilities would have,
    each time recalibrated as far as the calibration is uncertain: it was fitted on some 1,400
    labels. A change of the concept is what it cannot see, so compare it with the labels when they
    arrive.

    Args:
        scored: ``model_version, churn_probability``; labels are ignored.
        as_of, window, economics: as for ``measure_performance``.
        calibration_errors: by version, as ``measure_calibration_error`` returns them; the
            probabilities of other versions are taken for exact.
        draws, seed: of the labels.

    Returns:
        Rows with ``COLUMNS``: metrics named ``estimated_roc_auc``,
        ``estimated_value_usd`` and so on, without calibration error, which the method assumes to be
        0. ``rows_labelled`` is 0, because no label is used.
    """
    parts = []
    for version, rows in scored.groupby("model_version"):
        probability = rows["churn_probability"].to_numpy()
        error = calibration_errors.get(version, np.zeros((2, 2)))
        table = _estimate_metrics(probability, economics, error, draws, seed)
        table = table.assign(rows_labelled=0)
        parts.append(stamp(table, as_of, window, version, len(rows)))
    return _join_parts(parts)


def measure_calibration_error(
    churned: np.ndarray, probability: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return how uncertain a sigmoid calibration is that was fitted on labelled rows.

    It is the robust ("sandwich") covariance of the two coefficients of a logistic regression of
    the labels on the log-odds (H. White, Maximum Likelihood Estimation of Misspecified Models,
    1982).

    Args:
        churned: labels, shape (n,).
        probability: calibrated on these rows, shape (n,).
        weights: what each row counts; 1 when not given.

    Returns:
        Covariance of intercept and slope on the log-odds, shape (2, 2).
    """
    counts = np.ones(len(probability)) if weights is None else weights
    known = probability.clip(1e-6, 1 - 1e-6)
    design = np.column_stack([np.ones(len(known)), logit(known)])
    information = (design * (counts * known * (1 - known))[:, None]).T @ design
    scores = design * (counts * (churned - known))[:, None]
    inverse = np.linalg.inv(information)
    return inverse @ (scores.T @ scores) @ inverse


def _estimate_metrics(
    probability: np.ndarray,
    economics: Economics,
    calibration_error: np.ndarray,
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """Return ``metric, lower, upper, value`` by CBPE.

    Every row stands twice, as a churner and as a customer who stays. The first weighting of the two
    is the probability, which gives the expected metrics; each other one is a draw of the
    calibration, and of the labels from it.
    """
    generator = np.random.default_rng(seed)
    shifts = np.random.default_rng([seed, 1]).multivariate_normal([0, 0], calibration_error, draws)
    log_odds = logit(probability.clip(1e-6, 1 - 1e-6))
    recalibrated = expit(shifts[:, :1] + (1 + shifts[:, 1:]) * log_odds)
    drawn_labels = generator.random((draws, len(probability))) < recalibrated
    churner_weights = np.vstack([probability, drawn_labels])
    weights = np.hstack([churner_weights, 1 - churner_weights])
    labels = np.repeat([1.0, 0.0], len(probability))
    twice = np.tile(probability, 2)
    figures = score_with_loss(labels, twice, economics, weights)
    # Calibration is assumed; a draw without any churner has no ROC AUC.
    known = figures.drop(columns="calibration_error").dropna()
    named = bootstrap.summarize_draws(known).add_prefix(ESTIMATED, axis=0)
    return named.rename_axis("metric").reset_index()


def compare_estimate(measured: pd.DataFrame) -> pd.DataFrame:
    """Compare estimates and later labels in rows of ``monitoring_metrics``.

    Returns:
        ``window, model_version, metric, estimated, lower, upper, realised, inside`` (whether the
        realised value lies in the estimate's interval), for windows that have both.
    """
    key = ["window", "model_version", "metric"]
    total = measured[measured["slice"] == ALL].sort_values("as_of_date")
    is_estimate = total["metric"].str.startswith(ESTIMATED)
    estimates = total[is_estimate]
    estimates = estimates.assign(metric=estimates["metric"].str.removeprefix(ESTIMATED))
    first = estimates.drop_duplicates(key)[[*key, "value", "lower", "upper"]]  # the forecast
    realised = total[~is_estimate & total["value"].notna()]
    newest = realised.drop_duplicates(key, keep="last")[[*key, "value"]]
    both = first.merge(newest, on=key, suffixes=("", "_realised"))
    both = both.rename(columns={"value": "estimated", "value_realised": "realised"})
    return both.assign(inside=both["realised"].between(both["lower"], both["upper"]))
