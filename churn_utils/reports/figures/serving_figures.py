"""Figures of the serving notebook, in the style of ``charts``."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from churn_utils.reports.figures.figures import BLUE, GREY, INK, ORANGE, new_figure

COLOURS = [GREY, BLUE, ORANGE]


def plot_latencies(traffic: pd.DataFrame, title: str) -> go.Figure:
    """Share of requests that were answered within a time, with the median and the 99th percentile."""
    times = np.sort(traffic["milliseconds"].to_numpy())
    kept = np.unique(np.linspace(0, len(times) - 1, 300).astype(int))
    figure = new_figure(title, x="milliseconds, as the caller sees them", y="share of requests")
    figure.add_scatter(
        x=times[kept], y=(kept + 1) / len(times), line={"color": BLUE, "width": 3}, name="requests"
    )
    for share, name in ((0.5, "median"), (0.99, "99 %")):
        value = float(np.quantile(times, share))
        figure.add_vline(
            x=value,
            line={"color": ORANGE, "dash": "dot"},
            annotation_text=f"{name}: {value:.1f} ms",
            annotation_position="right",
        )
    figure.update_xaxes(range=[0, 1.3 * float(np.quantile(times, 0.99))])
    figure.update_yaxes(tickformat=".0%", range=[0, 1.02])
    return figure.update_layout(showlegend=False)


def plot_trial(verdict: dict, title: str) -> go.Figure:
    """Difference between the arms in USD per customer with its interval, against 0."""
    figure = new_figure(title, x="challenger minus champion, USD per customer", height=240)
    if np.isfinite(verdict["difference_usd"]):
        figure.add_scatter(
            x=[verdict["lower"], verdict["upper"]],
            y=["difference"] * 2,
            mode="lines",
            line={"color": BLUE, "width": 6},
            name="95 % interval",
        )
        figure.add_scatter(
            x=[verdict["difference_usd"]],
            y=["difference"],
            mode="markers",
            marker={"color": ORANGE, "size": 14},
            name="estimate",
        )
    else:
        figure.add_annotation(
            text="not enough labelled customers yet",
            showarrow=False,
            xref="paper",
            yref="paper",
            x=0.5,
            y=0.5,
        )
    figure.add_vline(x=0, line={"color": INK, "dash": "dot"})
    return figure


def plot_promotion(traffic: pd.DataFrame, title: str) -> go.Figure:
    """Every answer under way: when it was asked for, how long it took, and which version gave it."""
    figure = new_figure(title, x="seconds", y="milliseconds")
    answered = traffic.dropna(subset="model_version")
    for colour, (version, rows) in zip(
        COLOURS[1:], answered.groupby("model_version"), strict=False
    ):
        rows = rows.sort_values("second")
        rows = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, 1500).astype(int))]
        figure.add_scatter(
            x=rows["second"].round(4),
            y=rows["milliseconds"].round(3),
            mode="markers",
            marker={"color": colour, "size": 4},
            name=f"version {int(version)}",
        )
    lost = traffic[traffic["status"] != 200]
    if len(lost):
        figure.add_scatter(
            x=lost["second"],
            y=lost["milliseconds"],
            mode="markers",
            name="failed",
            marker={"color": INK, "size": 10, "symbol": "x"},
        )
    figure.update_yaxes(type="log")
    return figure
