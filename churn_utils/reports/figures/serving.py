"""Figures of the API: latencies, the A/B test, traffic around a promotion."""

from __future__ import annotations

import numpy as np
import pandas as pd
from plotly.graph_objects import Figure

from churn_utils.reports.figures import style

MOST_REQUESTS = 1500  # drawn of each version


def plot_latencies(traffic: pd.DataFrame, title: str) -> Figure:
    """Draw the share of requests answered within a time, with the median and 99th percentile.

    Args:
        traffic: column ``milliseconds`` of each request.
    """
    times = np.sort(traffic["milliseconds"].to_numpy())
    position = np.arange(1, len(times) + 1)
    x, y = style.thin(times, position / len(times))
    figure = style.new_figure(
        title, x="milliseconds, as the caller sees them", y="share of requests"
    )
    figure.add_scatter(x=x, y=y, line=style.CURVE)
    median, slow = np.quantile(times, [0.5, 0.99])
    for name, value in (("median", median), ("99 %", slow)):
        figure.add_vline(
            x=value,
            line=style.MARK_LINE,
            annotation_text=f"{name}: {value:.1f} ms",
            annotation_position="right",
        )
    figure.update_xaxes(range=[0, 1.3 * slow])  # the slowest 1 % would squeeze the rest
    figure.update_yaxes(tickformat=".0%", range=[0, 1.02])
    return figure


def plot_ab_test(difference_usd: float, lower: float, upper: float, title: str) -> Figure:
    """Draw the difference between the arms of an A/B test with its 95 % interval, against 0.

    Args:
        difference_usd: challenger minus champion, USD per customer; NaN while too few customers
            are labelled, which the figure then says.
        lower: lower bound of the interval.
        upper: upper bound of the interval.
    """
    figure = style.new_figure(title, x="challenger minus champion, USD per customer", height=240)
    if np.isfinite(difference_usd):
        figure.add_scatter(
            x=[lower, upper],
            y=["difference", "difference"],
            mode="lines",
            line={"color": style.BLUE, "width": 6},
            name="95 % interval",
        )
        figure.add_scatter(
            x=[difference_usd],
            y=["difference"],
            mode="markers",
            marker={"color": style.ORANGE, "size": 14},
            name="estimate",
        )
    else:
        style.add_note(figure, "not enough labelled customers yet")
    return figure.add_vline(x=0, line=style.INK_LINE)


def plot_promotion(traffic: pd.DataFrame, title: str) -> Figure:
    """Draw every request around a promotion: when it was sent, its latency, the version's colour.

    Args:
        traffic: columns ``second`` (since the start), ``milliseconds``, ``status`` (HTTP; anything
            but 200 is marked as failed) and ``model_version`` (missing where it failed).
    """
    figure = style.new_figure(title, x="seconds", y="milliseconds")
    answered = traffic.dropna(subset="model_version").sort_values("second", kind="stable")
    for version, rows in answered.groupby("model_version"):
        seconds, milliseconds = style.thin(rows["second"], rows["milliseconds"], most=MOST_REQUESTS)
        figure.add_scatter(
            x=seconds.round(4),
            y=milliseconds.round(3),
            mode="markers",
            marker={"size": 4},
            name=f"version {int(version)}",
        )
    failed = traffic[traffic["status"] != 200]
    if len(failed):
        figure.add_scatter(
            x=failed["second"],
            y=failed["milliseconds"],
            mode="markers",
            name="failed",
            marker={"color": style.INK, "size": 10, "symbol": "x"},
        )
    return figure.update_yaxes(type="log")
