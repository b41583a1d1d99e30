"""Figures of a model's quality on labelled customers: ranking, calibration, importance.

evidently draws ROC and precision-recall curves only inside its own pages; these stand in notebooks
and share the pages' plotly.js.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from plotly.graph_objects import Figure

from churn_utils.reports.figures.style import BLUE, CURVE, INK, REFERENCE_LINE, new_figure, thin


def plot_roc(churned: pd.Series, probability: np.ndarray, title: str) -> Figure:
    """Draw the ROC curve beside the diagonal of random guesses; the legend says both areas."""
    from sklearn.metrics import roc_auc_score, roc_curve

    false_positive, true_positive, _ = roc_curve(churned, probability)
    area = roc_auc_score(churned, probability)
    figure = new_figure(title, x="false positive rate", y="true positive rate", height=420)
    _add_curve(figure, false_positive, true_positive, f"model, area {area:.3f}")
    figure.add_scatter(x=[0, 1], y=[0, 1], name="random, area 0.5", line=REFERENCE_LINE)
    return figure


def plot_precision_recall(churned: pd.Series, probability: np.ndarray, title: str) -> Figure:
    """Draw precision against recall, beside the churn rate, which random guesses would reach."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    precision, recall, _ = precision_recall_curve(churned, probability)
    area = average_precision_score(churned, probability)
    rate = churned.mean()
    figure = new_figure(
        title, x="recall: churners found", y="precision: offers to churners", height=420
    )
    _add_curve(figure, recall, precision, f"model, area {area:.3f}")
    figure.add_scatter(x=[0, 1], y=[rate, rate], name=f"random, {rate:.3f}", line=REFERENCE_LINE)
    return figure


def _add_curve(figure: Figure, x: np.ndarray, y: np.ndarray, name: str) -> None:
    """Add the curve of the model, with no more points than can be seen."""
    x, y = thin(x, y)
    figure.add_scatter(x=x, y=y, name=name, line=CURVE)


def plot_reliability(bins: pd.DataFrame, title: str) -> Figure:
    """Draw the observed against the predicted churn rate of each bin, with 95 % intervals.

    On the dotted diagonal the probabilities are perfectly calibrated. ``bins`` are as
    ``evaluation.metrics.reliability`` returns them.
    """
    observed = bins["observed"]
    half_width = 1.96 * np.sqrt(observed * (1 - observed) / bins["rows"])
    figure = new_figure(title, x="predicted probability", y="observed churn rate", height=420)
    figure.add_scatter(x=[0, 1], y=[0, 1], name="perfect", line=REFERENCE_LINE)
    figure.add_scatter(
        x=bins["predicted"],
        y=observed,
        name="model",
        mode="markers+lines",
        error_y={"array": half_width, "color": BLUE},
        line={"color": BLUE},
        marker={"size": 9},
    )
    return figure


def plot_importance(importance: pd.DataFrame) -> Figure:
    """Draw the permutation importance of each feature as bars, the most important on top.

    Args:
        importance: columns ``feature``, ``importance`` (rise in log loss when the feature is
            shuffled) and ``spread`` (standard deviation over shuffles), most important first.
    """
    rows = importance.iloc[::-1]
    title = "What the model needs: rise in log loss when a feature is shuffled"
    figure = new_figure(title, x="rise in log loss", height=560)
    figure.add_bar(
        x=rows["importance"],
        y=rows["feature"],
        orientation="h",
        marker_color=BLUE,
        error_x={"array": rows["spread"], "color": INK, "thickness": 1.2},
    )
    return figure
