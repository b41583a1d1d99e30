"""Figures of the customers and their labels, before any model."""

from __future__ import annotations

import numpy as np
import pandas as pd
from plotly.graph_objects import Figure
from statsmodels.stats.proportion import proportion_confint

from churn_utils.reports.figures.style import BLUE, INK, MARK_LINE, ORANGE, error_bars, new_figure

OUTCOMES = ((False, "stayed", BLUE), (True, "churned", ORANGE))
BINS = 30


def plot_churn_rate(customers: pd.DataFrame, column: str, title: str) -> Figure:
    """Draw the churn rate of each group as bars with 95 % Wilson intervals, and that of all.

    Args:
        customers: columns ``churned`` (bool) and ``column``.
        column: a category; one bar per value.
    """
    labels = customers.groupby(column)["churned"]
    groups = labels.agg(rate="mean", churners="sum", customers="size")
    groups["lower"], groups["upper"] = proportion_confint(
        groups["churners"], groups["customers"], method="wilson"
    )
    figure = new_figure(title, y="churned")
    figure.add_bar(
        x=groups.index.astype(str),
        y=groups["rate"],
        marker_color=BLUE,
        error_y=error_bars(groups, "rate", color=INK, thickness=1.2),
        customdata=groups["customers"],
        hovertemplate="%{x}: %{y:.1%} of %{customdata} customers<extra></extra>",
    )
    overall = customers["churned"].mean()
    figure.add_hline(y=overall, line=MARK_LINE, annotation_text=f"all: {overall:.1%}")
    return figure.update_yaxes(tickformat=".0%", rangemode="tozero")


def plot_distribution(customers: pd.DataFrame, column: str, title: str, unit: str) -> Figure:
    """Draw the distribution of a number for customers who stayed and who churned, as outlines.

    Each group adds up to 100 %, so that groups of different sizes can be compared.

    Args:
        customers: columns ``churned`` (bool) and ``column``.
        column: a number.
        unit: of the number.
    """
    figure = new_figure(title, x=f"{column} ({unit})", y="share of the group")
    values = customers[column]
    edges = np.linspace(values.min(), values.max(), BINS + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    for churned, name, colour in OUTCOMES:
        group = values[customers["churned"] == churned]
        counts, _ = np.histogram(group, bins=edges)
        size = max(1, counts.sum())
        figure.add_scatter(
            x=centres,
            y=counts / size,
            name=name,
            mode="lines",
            fill="tozeroy",
            line={"shape": "hvh", "color": colour},
        )
    return figure.update_yaxes(tickformat=".0%")


def plot_splits(labels: pd.DataFrame) -> Figure:
    """Draw the customers of each split as stacked bars: stayed below, churned above.

    Args:
        labels: columns ``split`` (``train``, ``validate``, ``test``) and ``churned`` (bool).
    """
    counts = pd.crosstab(labels["split"], labels["churned"])
    counts = counts.reindex(
        index=["train", "validate", "test"], columns=[False, True], fill_value=0
    )
    title = "60 / 20 / 20 by the hash of the customer's slot"
    figure = new_figure(title, y="customers", height=340)
    for churned, name, colour in OUTCOMES:
        rows = counts[churned]
        figure.add_bar(x=counts.index, y=rows, name=name, marker_color=colour, text=rows)
    return figure.update_layout(barmode="stack")
