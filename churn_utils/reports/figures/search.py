"""Figures of the hyperparameter search, of frames of ``training.search`` and ``search_analysis``.

``optuna.visualization`` has such figures too, but its history and slices leave pruned trials out
and mix the families, and its importances cover only hyperparameters that every trial has, here the
family alone.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from plotly.graph_objects import Figure
from plotly.subplots import make_subplots

from churn_utils.reports.figures import style

PRUNED_ABOVE_WORST = 0.0008  # nats between the worst finished trial and the row of pruned ones
LOG_SCALE_FROM_RATIO = 30  # of the largest to the smallest value of a hyperparameter


def plot_trials(trials: pd.DataFrame) -> Figure:
    """Draw every trial of the search: log loss by family, pruned trials on top, the best so far.

    Args:
        trials: columns ``trial`` (number), ``family``, ``state`` (``complete`` or ``pruned``),
            ``log_loss`` (in cross-validation) and ``best_so_far``.
    """
    figure = style.new_figure(
        "The search: every trial", x="trial", y="log loss in cross-validation"
    )
    done = trials[trials["state"] == "complete"]
    for family, rows in done.groupby("family"):
        figure.add_scatter(
            x=rows["trial"], y=rows["log_loss"], mode="markers", name=family, marker={"size": 9}
        )
    pruned = trials[trials["state"] == "pruned"]
    figure.add_scatter(
        x=pruned["trial"],
        y=np.full(len(pruned), done["log_loss"].max() + PRUNED_ABOVE_WORST),
        mode="markers",
        name="pruned",
        marker={"symbol": "x", "color": style.GREY},
        text=pruned["family"],
    )
    figure.add_scatter(
        x=trials["trial"],
        y=trials["best_so_far"],
        mode="lines",
        name="best so far",
        line={"color": style.INK, "shape": "hv", "width": 1.5},
    )
    return figure


def plot_hyperparameters(ranked: pd.DataFrame, title: str) -> Figure:
    """Draw how much each hyperparameter matters within its family as bars, the largest on top.

    Args:
        ranked: columns ``family``, ``hyperparameter``, ``importance`` (share of the differences
            between the trials of the family, from 0 to 1), most important first.
    """
    rows = ranked.iloc[::-1]
    height = 130 + 32 * max(3, len(rows))
    figure = style.new_figure(title, x="share of the differences between trials", height=height)
    figure.add_bar(
        x=rows["importance"],
        y=rows["family"] + ": " + rows["hyperparameter"],
        orientation="h",
        marker_color=style.BLUE,
    )
    return figure.update_xaxes(tickformat=".0%")


def plot_hyperparameter_slices(sliced: pd.DataFrame, family: str, title: str) -> Figure:
    """Draw how far each trial of a family was behind the best one, a panel per hyperparameter.

    Args:
        sliced: columns ``family``, ``hyperparameter``, ``value`` and ``behind`` (nats).
        family: whose trials are drawn.
    """
    rows = sliced[sliced["family"] == family]
    names = list(rows["hyperparameter"].unique()) or [""]
    panels = make_subplots(1, len(names), subplot_titles=names, shared_yaxes=True)
    figure = style.new_figure(title, y="nats behind the best", panels=panels)
    for column, name in enumerate(names, start=1):
        trials = rows[rows["hyperparameter"] == name]
        figure.add_scatter(
            x=trials["value"],
            y=trials["behind"].clip(lower=0),
            mode="markers",
            marker={"size": 9, "color": style.BLUE, "opacity": 0.7},
            row=1,
            col=column,
        )
        scale = "log" if _spans_magnitudes(trials["value"]) else "linear"
        figure.update_xaxes(type=scale, row=1, col=column)
    return figure.update_layout(showlegend=False)


def _spans_magnitudes(values: pd.Series) -> bool:
    """Tell whether all values are positive and their range is wide."""
    smallest, largest = values.min(), values.max()
    return bool(0 < smallest < largest / LOG_SCALE_FROM_RATIO)


def plot_search_gains(
    gains: pd.DataFrame,
    title: str,
) -> Figure:
    """Draw what the chosen model gains over each reference, a panel for ROC AUC and one for USD.

    An interval (95 %) that crosses the line at 0 is no proven gain.

    Args:
        gains: as ``search_analysis.measure_gain`` returns them, the chosen model first.
    """
    rows = gains.iloc[1:]
    names = {"auc_gain": "ROC AUC", "usd_gain": "USD per customer"}
    panels = make_subplots(1, 2, subplot_titles=list(names.values()), shared_yaxes=True)
    figure = style.new_figure(title, height=150 + 60 * len(rows), panels=panels)
    for column, name in enumerate(names, start=1):
        figure.add_scatter(
            x=rows[name],
            y="over " + rows["model"],
            error_x=style.error_bars(rows, name, f"{name}_lower", f"{name}_upper", thickness=3),
            mode="markers",
            marker=style.POINT,
            row=1,
            col=column,
        )
        figure.add_vline(x=0, line=style.INK_LINE, row=1, col=column)
    return figure.update_layout(showlegend=False)
