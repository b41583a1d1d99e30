"""Figures of the decision to make an offer: what thresholds and offers are worth in USD."""

from __future__ import annotations

import numpy as np
import pandas as pd
from plotly.graph_objects import Figure

from churn_utils.reports.figures import style


def plot_value_band(curve: pd.DataFrame, threshold: float, title: str) -> Figure:
    """Draw the value of each threshold as a curve with its 95 % band, and the threshold in use.

    Args:
        curve: as ``evaluation.profit_curves.value_curve`` returns it.
        threshold: that follows from the costs; marked.
    """
    figure = style.new_figure(title, x="threshold on the churn probability", y="USD per customer")
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    x = curve["threshold"]
    figure.add_scatter(x=x, y=curve["upper"], **edge)
    figure.add_scatter(x=x, y=curve["lower"], **edge, fill="tonexty", fillcolor=style.LIGHT_BLUE)
    figure.add_scatter(x=x, y=curve["value_usd"], line=style.CURVE, name="value")
    figure.add_vline(
        x=threshold,
        line=style.MARK_LINE,
        annotation_text=f"an offer pays from {threshold:.2f}",
    )
    figure.add_hline(y=0, line={"color": style.GREY, "width": 1})
    return figure.update_layout(showlegend=False)


def plot_cost_sensitivity(table: pd.DataFrame, title: str) -> Figure:
    """Draw what wrong costs lose as a grid: true offer costs down, a churner's true value across.

    Paler cells lose less; ``table`` is as ``evaluation.profit_curves.cost_sensitivity`` returns it.
    """
    grid = table.pivot(index="offer_cost_usd", columns="churner_value_usd", values="lost_usd")
    figure = style.new_figure(
        title,
        x="what a churner who stays is truly worth (USD)",
        y="what an offer truly costs (USD)",
    )
    figure.add_heatmap(
        z=grid.to_numpy(),
        x=[f"{value:,.0f}" for value in grid.columns],
        y=[f"{cost:,.0f}" for cost in grid.index],
        colorscale=[[0, "#FFFFFF"], [1, style.ORANGE]],
        zmin=0,
        texttemplate="%{z:.0f}",
        showscale=False,
        hovertemplate=(
            "an offer costs %{y}, a churner is worth %{x}: %{z:.1f} USD lost<extra></extra>"
        ),
    )
    return figure.update_xaxes(type="category").update_yaxes(type="category")


def plot_confusion(churned: pd.Series, treated: np.ndarray, title: str) -> Figure:
    """Draw the confusion matrix of the decision as a grid of customers.

    Args:
        churned: labels (bool), shape (n,).
        treated: who got an offer (bool), shape (n,).
    """
    happened = np.where(churned, "churned", "stayed")
    decision = np.where(treated, "offer", "no offer")
    counts = pd.crosstab(happened, decision)
    counts = counts.reindex(
        index=["stayed", "churned"], columns=["no offer", "offer"], fill_value=0
    )
    figure = style.new_figure(title, x="decision", y="what happened", height=360)
    figure.add_heatmap(
        z=counts.to_numpy(),
        x=counts.columns,
        y=counts.index,
        colorscale=[[0, "#EEF3F9"], [1, style.BLUE]],
        text=counts.to_numpy(),
        texttemplate="%{text}",
        showscale=False,
    )
    return figure


def plot_scores(predictions: pd.DataFrame, title: str) -> Figure:
    """Draw the histogram of churn probabilities, coloured by decision, and the threshold.

    Args:
        predictions: columns ``churn_probability``, ``threshold`` (that of the one version; missing
            where nothing was scored) and ``decision`` (``offer``, ``no_offer``).
    """
    figure = style.new_figure(title, x="churn probability", y="customers")
    for decision, colour in (("no_offer", style.BLUE), ("offer", style.ORANGE)):
        rows = predictions[predictions["decision"] == decision]
        probability = rows["churn_probability"]
        figure.add_histogram(
            x=probability.round(4),
            name=decision.replace("_", " "),
            marker_color=colour,
            xbins={"start": 0, "end": 1, "size": 0.025},
        )
    threshold = predictions["threshold"].max()
    figure.add_vline(
        x=threshold,
        line=style.INK_LINE,
        annotation_text="threshold",
    )
    return figure.update_layout(barmode="stack", bargap=0.05)


def plot_expected_value(
    predictions: pd.DataFrame,
    title: str,
) -> Figure:
    """Draw the expected value of offers to the best customers, added up from the best one on.

    Args:
        predictions: column ``expected_value_usd`` of an offer to each customer.
    """
    values = predictions["expected_value_usd"].sort_values(ascending=False)
    ordered = values.to_numpy()
    customers = np.arange(1, len(ordered) + 1)
    x, y = style.thin(customers, ordered.cumsum())
    figure = style.new_figure(
        title, x="customers who get the offer, best first", y="expected value (USD)"
    )
    figure.add_scatter(x=x, y=y, line=style.CURVE)
    worthwhile = int((ordered > 0).sum())
    figure.add_vline(
        x=worthwhile,
        line=style.MARK_LINE,
        annotation_text=f"offers pay up to customer {worthwhile:,}",
    )
    return figure


def plot_bars(values: pd.Series, title: str, unit: str) -> Figure:
    """Draw one horizontal bar per entry, labelled with its value; the first entry is on top.

    Args:
        values: numbers by name.
        unit: of the numbers.
    """
    rows = values.iloc[::-1]
    figure = style.new_figure(title, x=unit, height=120 + 44 * len(rows))
    figure.add_bar(
        x=rows,
        y=rows.index,
        orientation="h",
        marker_color=style.BLUE,
        text=[f"{value:,.0f}" for value in rows],
    )
    return figure
