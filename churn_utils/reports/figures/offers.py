"""Figures of offers that are made: what they changed, what the control group costs and buys."""

from __future__ import annotations

import pandas as pd
from plotly.graph_objects import Figure
from plotly.subplots import make_subplots

from churn_utils.reports.figures import style


def plot_groups(by_month: pd.DataFrame, title: str) -> Figure:
    """Draw the churn rates of treated and control customers side by side for each month.

    Args:
        by_month: as ``evaluation.offer_effects.measure_by_month`` returns it.
    """
    figure = style.new_figure(title, y="share who churned")
    months = [f"{month:%b %Y}" for month in by_month["snapshot_date"]]
    bars = (
        ("control: no offer", "churn_control", "control", style.GREY),
        ("treated: offer made", "churn_treated", "treated", style.BLUE),
    )
    for name, rate, count, colour in bars:
        figure.add_bar(
            x=months,
            y=by_month[rate],
            name=name,
            marker_color=colour,
            text=by_month[rate].map("{:.0%}".format),
            customdata=by_month[count],
            hovertemplate="%{text} of %{customdata:,} customers<extra>%{fullData.name}</extra>",
            textposition="outside",
            cliponaxis=False,
        )
    return figure.update_yaxes(tickformat=".0%", rangemode="tozero")


def plot_save_rate(by_month: pd.DataFrame, assumed: float, title: str) -> Figure:
    """Draw the measured save rate of each month with its interval, and the assumed one.

    Args:
        by_month: as ``evaluation.offer_effects.measure_by_month`` returns it.
        assumed: that the champion decides by; marked.
    """
    figure = style.new_figure(title, y="share of the churners kept")
    figure.add_scatter(
        x=[f"{month:%b %Y}" for month in by_month["snapshot_date"]],
        y=by_month["save_rate"],
        error_y=style.error_bars(by_month, "save_rate", "rate_lower", "rate_upper"),
        mode="markers",
        marker=style.POINT,
        showlegend=False,
    )
    figure.add_hline(y=assumed, line=style.MARK_LINE, annotation_text=f"assumed: {assumed:.0%}")
    return figure.update_yaxes(tickformat=".0%")


def plot_shares(shares: pd.DataFrame, title: str) -> Figure:
    """Draw what control groups of several sizes cost, and how exactly they measure.

    Args:
        shares: as ``monitoring.offer_trial.compare_shares`` returns it.
    """
    panels = make_subplots(
        cols=2, subplot_titles=["cost: USD a customer forgone", "bought: the save rate, 95 %"]
    )
    figure = style.new_figure(title, panels=panels)
    names = [f"{share:.0%}" for share in shares["control_share"]]
    figure.add_bar(x=names, y=shares["forgone_usd"], marker_color=style.ORANGE, row=1, col=1)
    figure.add_scatter(
        x=names,
        y=shares["save_rate"],
        error_y=style.error_bars(shares, "save_rate"),
        mode="markers",
        marker=style.POINT,
        row=1,
        col=2,
    )
    figure.add_hline(y=shares["true_save_rate"].iloc[0], line=style.REFERENCE_LINE, row=1, col=2)
    figure.update_xaxes(title="share of the control group")
    figure.update_yaxes(tickformat=".0%", row=1, col=2)
    return figure.update_layout(showlegend=False, margin_t=90)  # above the panels' own titles


def plot_refits(refits: pd.DataFrame, title: str) -> Figure:
    """Draw what the offers of each model are truly expected to cause.

    Args:
        refits: as ``monitoring.offer_trial.compare_refits`` returns it.
    """
    figure = style.new_figure(title, x="USD a customer that the offers cause", height=300)
    worst_first = refits.iloc[::-1]
    values = worst_first["caused_usd"].map("{:.1f} USD, ".format)
    figure.add_bar(
        x=worst_first["caused_usd"],
        y=worst_first.index,
        orientation="h",
        marker_color=style.BLUE,
        text=values + worst_first["selected"].map("{:.0%} selected".format),
    )
    return figure
