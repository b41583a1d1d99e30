"""Realised performance of each model version, once the labels of a month have arrived.

Pure functions over frames. Everything that goes into the table ``monitoring_metrics`` is a long
frame with ``COLUMNS``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from churn_utils.errors import DataError
from churn_utils.evaluation import bootstrap
from churn_utils.evaluation import metrics as model_metrics
from churn_utils.evaluation.economics import Economics
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


def join_labels(
    predictions: pd.DataFrame, labels: pd.DataFrame, as_of: pd.Timestamp
) -> pd.DataFrame:
    """Join predictions with the labels that had arrived by a date.

    Args:
        predictions: ``customer_id, snapshot_date`` and any other columns; no row is dropped.
        labels: rows of ``churn_labels``.
        as_of: labels that arrived later are ignored.

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
        draws: of the bootstrap over customers.
        seed: of the bootstrap.

    Returns:
        Rows with ``COLUMNS``: ``METRICS`` of each version and slice with 95 % bootstrap intervals.
        Only labelled rows enter a metric; where they are fewer than ``MIN_LABELLED`` or all of one
        class, the values are missing and the counts are there.
    """
    parts = []
    for version, rows in scored.groupby("model_version"):
        for name, part in _split_slices(rows):
            labelled = part.dropna(subset=["churned"])
            table = _measure_rows(labelled, economics, draws, seed)
            table = table.assign(rows_labelled=len(labelled))
            parts.append(stamp(table, as_of, window, version, len(part), name))
    if not parts:
        return pd.DataFrame(columns=COLUMNS)
    return pd.concat(parts, ignore_index=True)


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
    figures = score_with_loss(churned, probability, economics, weights)
    return bootstrap.summarize_draws(figures).rename_axis("metric").reset_index()


def score_with_loss(
    churned: np.ndarray, probability: np.ndarray, economics: Economics, weights: np.ndarray
) -> pd.DataFrame:
    """Compute ``METRICS`` for each weighting of the same rows.

    Args:
        churned, probability, economics: as for ``evaluation.metrics.score_metrics``.
        weights: shape (weightings, rows).

    Returns:
        One row per weighting, one column per name in ``METRICS``. ``loss_usd`` is USD per customer
        less than if every churner had been known in advance.
    """
    churn_rate = weights @ churned / weights.sum(axis=1)
    value_of_hindsight = churn_rate * (economics.churner_value_usd - economics.offer_cost_usd)
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
