"""Figures of months in production: what the champion earned and lost, estimates, slices."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from plotly.graph_objects import Figure

from churn_utils.reports.figures import style


class Mark(NamedTuple):
    """Caption and colour of an event."""

    caption: str
    colour: str


class Line(NamedTuple):
    """Legend and style of a model in the timeline."""

    caption: str
    colour: str
    width: int
    dash: str


MODELS = {
    "best": Line("best possible", style.GREY, 2, "dash"),
    "shadow": Line("old champion, in the shadow", style.ORANGE, 2, "dash"),
    "champion": Line("champion in effect", style.BLUE, 3, "solid"),
}
EVENTS = {
    "world": Mark("the world changed", style.RED),
    "alert": Mark("alert", style.ORANGE),
    "quarantine": Mark("quarantine", style.ORANGE),
    "retrain": Mark("retraining asked for", style.INK),
    "promoted": Mark("new champion", style.GREEN),
    "refused": Mark("refused", style.RED),
}
EVENT_HEIGHTS = (0.02, 0.32)  # of neighbouring months in turn, so that captions do not overlap


def plot_value_timeline(months: pd.DataFrame, events: pd.DataFrame, title: str) -> Figure:
    """Draw what each month's decisions earned, beside the old champion and the best possible.

    The champion's line has its 95 % band; dotted lines with captions say what happened when.

    Args:
        months: as ``monitoring.recovery.value_by_month`` returns them.
        events: as ``monitoring.history.list_events`` returns them.
    """
    figure = style.new_figure(title, y="USD per customer", height=460)
    for model, line in MODELS.items():
        rows = months.dropna(subset=[model])
        if model == "champion":
            _add_band(figure, rows)
        figure.add_scatter(
            x=rows["snapshot_date"],
            y=rows[model],
            name=line.caption,
            mode="lines+markers",
            line={"color": line.colour, "width": line.width, "dash": line.dash},
        )
    _add_events(figure, events)
    figure.update_layout(legend={"y": -0.12, "yanchor": "top", "x": 0, "xanchor": "left"})
    return style.label_months(figure).update_yaxes(rangemode="tozero")


def _add_band(figure: Figure, rows: pd.DataFrame) -> None:
    """Fill the champion's interval: along the upper bounds, and back along the lower ones."""
    dates = rows["snapshot_date"].tolist()
    upper = rows["champion_upper"].tolist()
    lower = rows["champion_lower"].tolist()
    figure.add_scatter(
        x=dates + dates[::-1],
        y=upper + lower[::-1],
        fill="toself",
        fillcolor=style.LIGHT_BLUE,
        mode="lines",
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
    )


def _add_events(figure: Figure, events: pd.DataFrame) -> None:
    """Mark each month that had events; those of one month are written below each other."""
    for position, (date, group) in enumerate(events.groupby("date")):
        marks = [EVENTS[name] for name in group["event"].unique()]
        captions = [f"<span style='color:{mark.colour}'>{mark.caption}</span>" for mark in marks]
        figure.add_vline(x=date, line={"color": marks[0].colour, "dash": "dot", "width": 1.5})
        figure.add_annotation(
            x=date,
            y=EVENT_HEIGHTS[position % len(EVENT_HEIGHTS)],
            yref="paper",
            yanchor="bottom",
            xanchor="left",
            text="<br>".join(captions),
            showarrow=False,
            align="left",
            font={"size": 12},
        )


def plot_lost_value(months: pd.DataFrame, title: str) -> Figure:
    """Draw what each month's decisions earned less than the best possible ones, as bars.

    Args:
        months: columns ``snapshot_date`` and ``lost_usd`` (all customers together).
    """
    figure = style.new_figure(title, y="USD less than the best possible")
    figure.add_bar(
        x=months["snapshot_date"],
        y=months["lost_usd"],
        marker_color=style.BLUE,
        text=[f"{value:,.0f}" for value in months["lost_usd"]],
    )
    return style.label_months(figure)


def plot_estimates(compared: pd.DataFrame, title: str, unit: str) -> Figure:
    """Draw a metric as estimated before the labels came and as the labels gave it, by month.

    A diamond is green if the labels gave a value within the estimate's interval, else red.

    Args:
        compared: rows of ``monitoring.performance.compare_estimate`` of one metric.
        unit: of the metric.
    """
    figure = style.new_figure(title, y=unit)
    x = pd.to_datetime(compared["window"])
    figure.add_scatter(
        x=x,
        y=compared["estimated"],
        error_y=style.error_bars(compared, "estimated"),
        mode="markers",
        name="estimated before the labels",
        marker={"size": 10, "color": style.GREY},
    )
    colours = np.where(compared["inside"], style.GREEN, style.RED)
    figure.add_scatter(
        x=x,
        y=compared["realised"],
        mode="markers",
        name="what the labels said",
        marker={"size": 12, "symbol": "diamond", "color": colours},
    )
    return style.label_months(figure)


def plot_slices(metrics: pd.DataFrame, title: str, unit: str) -> Figure:
    """Draw one metric by slice with its interval; slices with too few labels stay empty.

    Args:
        metrics: rows of ``monitoring_metrics`` of one window, version and metric.
        unit: of the metric.
    """
    rows = metrics.iloc[::-1]
    figure = style.new_figure(title, x=unit, height=130 + 40 * len(rows))
    figure.add_scatter(
        x=rows["value"],
        y=rows["slice"],
        error_x=style.error_bars(rows, "value", thickness=2),
        mode="markers",
        marker={"size": 11, "color": style.BLUE},
        customdata=rows[["rows_labelled", "rows"]],
        hovertemplate=(
            "%{y}: %{x:.1f}, %{customdata[0]} of %{customdata[1]} labelled<extra></extra>"
        ),
    )
    return figure.add_vline(x=0, line={"color": style.GREY, "width": 1})
