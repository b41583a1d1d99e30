"""Figures of production: months on the x axis, what happened marked in them, one style with ``charts``."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from churn_utils.monitoring.performance import SCORE
from churn_utils.reports.figures.figures import BLUE, GREEN, GREY, INK, ORANGE, RED, new_figure

MODELS = {
    "best": ("best possible", GREY),
    "shadow": ("old champion, in the shadow", ORANGE),
    "champion": ("champion in effect", BLUE),
}
EVENTS = {
    "world": ("the world changed", RED),
    "alert": ("alert", ORANGE),
    "quarantine": ("quarantine", ORANGE),
    "retrain": ("retraining asked for", INK),
    "promoted": ("new champion", GREEN),
    "refused": ("refused", RED),
}


def _band(figure: go.Figure, x, lower, upper, colour: str) -> None:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    figure.add_scatter(
        x=[*x, *x[::-1]],
        y=[*upper, *lower[::-1]],
        fill="toself",
        fillcolor=f"rgba({red},{green},{blue},0.14)",
        mode="lines",
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
    )


def _add_events(figure: go.Figure, events: pd.DataFrame) -> go.Figure:
    """Mark what happened when, at the foot; events of one month are written under each other."""
    for position, (date, group) in enumerate(events.groupby("date")):
        names = list(dict.fromkeys(group["event"]))
        figure.add_vline(x=date, line={"color": EVENTS[names[0]][1], "dash": "dot", "width": 1.5})
        text = "<br>".join(
            f"<span style='color:{EVENTS[name][1]}'>{EVENTS[name][0]}</span>" for name in names
        )
        figure.add_annotation(
            x=date,
            y=0.02 + 0.3 * (position % 2),
            yref="paper",
            yanchor="bottom",
            xanchor="left",
            text=text,
            showarrow=False,
            align="left",
            font={"size": 12},
        )
    return figure.update_xaxes(dtick="M1", tickformat="%b %Y")


def plot_value_timeline(months: pd.DataFrame, events: pd.DataFrame, title: str) -> go.Figure:
    """USD per customer that each month's decisions earned, beside the old champion and the best possible.

    Args:
        months: as ``review.value_by_month`` returns them.
        events: as ``review.list_events`` returns them.
        title: of the figure.
    """
    figure = new_figure(title, y="USD per customer", height=460)
    for model, (name, colour) in MODELS.items():
        rows = months.dropna(subset=[model])
        if model == "champion":
            _band(
                figure,
                rows["snapshot_date"].tolist(),
                rows[f"{model}_lower"].tolist(),
                rows[f"{model}_upper"].tolist(),
                colour,
            )
        figure.add_scatter(
            x=rows["snapshot_date"],
            y=rows[model],
            name=name,
            mode="lines+markers",
            line={
                "color": colour,
                "width": 3 if model == "champion" else 2,
                "dash": "solid" if model == "champion" else "dash",
            },
        )
    figure.update_layout(legend={"y": -0.12, "yanchor": "top", "x": 0, "xanchor": "left"})
    return _add_events(figure, events).update_yaxes(rangemode="tozero")


def plot_lost_value(months: pd.DataFrame, title: str) -> go.Figure:
    """USD that each month's decisions earned less than the best possible ones, all customers together."""
    figure = new_figure(title, y="USD less than the best possible")
    figure.add_bar(
        x=months["snapshot_date"],
        y=months["lost_usd"],
        marker_color=BLUE,
        text=[f"{value:,.0f}" for value in months["lost_usd"]],
    )
    return figure.update_xaxes(dtick="M1", tickformat="%b %Y")


def plot_estimates(compared: pd.DataFrame, title: str, unit: str) -> go.Figure:
    """What a metric was estimated to be before the labels came, and what the labels said.

    Args:
        compared: rows of ``monitoring.compare_estimate`` of one metric.
        title: of the figure.
        unit: of the metric.
    """
    figure = new_figure(title, y=unit)
    arms = {
        "array": compared["upper"] - compared["estimated"],
        "arrayminus": compared["estimated"] - compared["lower"],
    }
    x = pd.to_datetime(compared["window"])
    figure.add_scatter(
        x=x,
        y=compared["estimated"],
        error_y=arms,
        mode="markers",
        name="estimated before the labels",
        marker={"size": 10, "color": GREY},
    )
    colours = np.where(compared["inside"], GREEN, RED)
    figure.add_scatter(
        x=x,
        y=compared["realised"],
        mode="markers",
        name="what the labels said",
        marker={"size": 12, "symbol": "diamond", "color": colours},
    )
    return figure.update_xaxes(dtick="M1", tickformat="%b %Y")


def plot_slices(metrics: pd.DataFrame, title: str, unit: str) -> go.Figure:
    """One metric by slice with its interval; slices without enough labels are named and stay empty.

    Args:
        metrics: rows of ``monitoring_metrics`` of one window, version and metric.
        title: of the figure.
        unit: of the metric.
    """
    rows = metrics.iloc[::-1]
    figure = new_figure(title, x=unit, height=130 + 40 * len(rows))
    arms = {
        "array": rows["upper"] - rows["value"],
        "arrayminus": rows["value"] - rows["lower"],
        "thickness": 2,
    }
    figure.add_scatter(
        x=rows["value"],
        y=rows["slice"],
        error_x=arms,
        mode="markers",
        marker={"size": 11, "color": BLUE},
        customdata=rows[["rows_labelled", "rows"]],
        hovertemplate="%{y}: %{x:.1f}, %{customdata[0]} of %{customdata[1]} labelled<extra></extra>",
    )
    return figure.add_vline(x=0, line={"color": GREY, "width": 1})


def plot_shift(shifts: pd.DataFrame, title: str) -> go.Figure:
    """PSI beyond chance of each feature (rows) in each month (columns), what the champion uses most on top.

    Args:
        shifts: index feature, one column per month, and ``use``: the feature's share of what the champion uses.
        title: of the figure.
    """
    rows = shifts.sort_values("use")
    table = rows.drop(columns="use").round(3)
    figure = new_figure(title, height=150 + 24 * len(table))
    labels = [
        "its own score" if name == SCORE else f"{name} ({use:.0%})"
        for name, use in rows["use"].items()
    ]
    texts = table.map(
        lambda psi: "" if not psi >= 0.005 else f"{psi:.2f}"
    )  # zeros and what was not measured
    figure.add_heatmap(
        z=table.to_numpy(),
        x=[f"{column:%b %Y}" for column in table],
        y=labels,
        zmin=0,
        zmax=0.3,
        colorscale=[[0, "#F6F8FA"], [0.33, "#F3CF9B"], [1, RED]],
        colorbar={"title": "PSI"},
        text=texts.to_numpy(),
        texttemplate="%{text}",
        xgap=2,
        ygap=2,
    )
    return figure


def plot_gains(gains: pd.DataFrame, limit: float, title: str) -> go.Figure:
    """What a refit would have been worth at each as-of month, with its interval, and the line that it must clear.

    Args:
        gains: ``as_of_date, gain_usd, lower, upper, decision``.
        limit: USD per customer that the interval must lie above.
        title: of the figure.
    """
    figure = new_figure(title, y="USD per customer and month")
    colours = np.where(gains["decision"] == "retrain", GREEN, GREY)
    arms = {
        "array": gains["upper"] - gains["gain_usd"],
        "arrayminus": gains["gain_usd"] - gains["lower"],
    }
    figure.add_scatter(
        x=gains["as_of_date"],
        y=gains["gain_usd"],
        error_y=arms,
        mode="markers",
        marker={"size": 12, "color": colours},
    )
    figure.add_hline(
        y=limit, line={"color": RED, "dash": "dot"}, annotation_text=f"{limit:.0f} USD"
    )
    return figure.update_xaxes(dtick="M1", tickformat="%b %Y")


def plot_recovery(measured: pd.DataFrame, title: str) -> go.Figure:
    """Old champion, new champion and the best possible side by side, as ``review.measure_recovery`` returns them."""
    figure = new_figure(title, y="USD per customer", height=420)
    if measured.empty:
        return figure.add_annotation(
            text="no labelled month has been scored by two champions yet",
            showarrow=False,
            xref="paper",
            yref="paper",
            x=0.5,
            y=0.5,
        )
    rows = measured.drop(index="recovered")
    arms = {
        "array": rows["upper"] - rows["value"],
        "arrayminus": rows["value"] - rows["lower"],
        "color": INK,
    }
    figure.add_bar(
        x=rows.index,
        y=rows["value"],
        error_y=arms,
        marker_color=[ORANGE, BLUE, GREY],
        text=[f"{value:,.0f}" for value in rows["value"]],
        textposition="inside",
        insidetextanchor="middle",
    )
    return figure.update_yaxes(rangemode="tozero")
