"""Figures of search and economics; every function takes a frame and returns a figure in the style of ``charts``."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from churn_utils.reports.figures.figures import BLUE, GREY, INK, ORANGE, new_figure

LIGHT = "rgba(47,109,181,0.16)"


def plot_value_band(curve: pd.DataFrame, threshold: float, title: str) -> go.Figure:
    """USD per customer against the threshold with its interval, and the threshold that the costs give."""
    figure = new_figure(title, x="threshold on the churn probability", y="USD per customer")
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    figure.add_scatter(x=curve["threshold"], y=curve["upper"], **edge)
    figure.add_scatter(
        x=curve["threshold"], y=curve["lower"], fill="tonexty", fillcolor=LIGHT, **edge
    )
    figure.add_scatter(
        x=curve["threshold"], y=curve["value_usd"], line={"color": BLUE, "width": 3}, name="value"
    )
    figure.add_vline(
        x=threshold,
        line={"color": ORANGE, "dash": "dot"},
        annotation_text=f"cost / value = {threshold:.2f}",
    )
    figure.add_hline(y=0, line={"color": GREY, "width": 1})
    return figure.update_layout(showlegend=False)


def plot_cost_sensitivity(table: pd.DataFrame, title: str) -> go.Figure:
    """USD per customer that wrong costs lose: true offer cost against a churner's true worth; paler is better."""
    grid = table.pivot(index="offer_cost_usd", columns="churner_value_usd", values="lost_usd")
    figure = new_figure(
        title,
        x="what a churner who stays is truly worth (USD)",
        y="what an offer truly costs (USD)",
    )
    figure.add_heatmap(
        z=grid.to_numpy(),
        x=[f"{worth:,.0f}" for worth in grid.columns],
        y=[f"{cost:,.0f}" for cost in grid.index],
        colorscale=[[0, "#FFFFFF"], [1, ORANGE]],
        zmin=0,
        texttemplate="%{z:.0f}",
        showscale=False,
        hovertemplate="an offer costs %{y}, a churner is worth %{x}: %{z:.1f} USD lost<extra></extra>",
    )
    return figure.update_xaxes(type="category").update_yaxes(type="category")


def plot_gains(gains: pd.DataFrame, title: str) -> go.Figure:
    """What the chosen model has over each reference in ROC AUC and in USD, with intervals; 0 is no gain."""
    rows = gains.iloc[1:]
    figure = make_subplots(1, 2, subplot_titles=["ROC AUC", "USD per customer"], shared_yaxes=True)
    figure.update_layout(new_figure(title, height=150 + 60 * len(rows)).layout)
    for column, gain in enumerate(("auc_gain", "usd_gain"), start=1):
        arms = {
            "array": rows[f"{gain}_upper"] - rows[gain],
            "arrayminus": rows[gain] - rows[f"{gain}_lower"],
            "thickness": 3,
        }
        figure.add_scatter(
            x=rows[gain],
            y="over " + rows["model"],
            error_x=arms,
            mode="markers",
            marker={"size": 12, "color": BLUE},
            row=1,
            col=column,
        )
        figure.add_vline(x=0, line={"color": INK, "dash": "dot"}, row=1, col=column)
    return figure.update_layout(showlegend=False)


def plot_hyperparameters(ranked: pd.DataFrame, title: str) -> go.Figure:
    """Importance of each hyperparameter within its family, most important on top."""
    rows = ranked.iloc[::-1]
    figure = new_figure(
        title, x="share of the differences between trials", height=130 + 32 * max(3, len(rows))
    )
    figure.add_bar(
        x=rows["importance"],
        y=rows["family"] + ": " + rows["hyperparameter"],
        orientation="h",
        marker_color=BLUE,
    )
    return figure.update_xaxes(tickformat=".0%")


def plot_slices(sliced: pd.DataFrame, family: str, title: str) -> go.Figure:
    """How far each trial of a family lay behind the best one, hyperparameter by hyperparameter."""
    rows = sliced[sliced["family"] == family]
    names = list(dict.fromkeys(rows["hyperparameter"])) or [""]
    figure = make_subplots(1, len(names), subplot_titles=names, shared_yaxes=True)
    figure.update_layout(new_figure(title, y="nats behind the best").layout, xaxis={"title": None})
    for column, name in enumerate(names, start=1):
        part = rows[rows["hyperparameter"] == name]
        figure.add_scatter(
            x=part["value"],
            y=part["behind"].clip(lower=0),
            mode="markers",
            marker={"size": 9, "color": BLUE, "opacity": 0.7},
            row=1,
            col=column,
        )
        wide = (
            len(part) and part["value"].min() > 0 and part["value"].max() > 30 * part["value"].min()
        )
        figure.update_xaxes(type="log" if wide else "linear", row=1, col=column)
    return figure.update_layout(showlegend=False)
