"""Figures of drift: how far features moved, what a refit would gain, what retraining recovered.

evidently's drift page shows one window; these show all months side by side, with the features in
the order in which the champion relies on them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from plotly.graph_objects import Figure

from churn_utils.monitoring.drift_tests import SCORE
from churn_utils.reports.figures import style

PSI_SCALE = [[0, "#F6F8FA"], [0.33, "#F3CF9B"], [1, style.RED]]
HIGHEST_PSI = 0.3  # from here on a cell has its strongest colour
LEAST_PSI_WRITTEN = 0.005  # smaller values would be written as 0.00


def plot_shifts(shifts: pd.DataFrame, title: str) -> Figure:
    """Draw the PSI beyond chance of each feature (rows) in each month (columns) as a heat map.

    The features that the champion relies on most are on top.

    Args:
        shifts: as ``monitoring.history.tabulate_shifts`` returns them.
    """
    rows = shifts.sort_values("feature_reliance")
    table = rows.drop(columns="feature_reliance").round(3)
    figure = style.new_figure(title, height=150 + 24 * len(table))
    figure.add_heatmap(
        z=table.to_numpy(),
        x=[f"{month:%b %Y}" for month in table],
        y=[_label_feature(name, share) for name, share in rows["feature_reliance"].items()],
        zmin=0,
        zmax=HIGHEST_PSI,
        colorscale=PSI_SCALE,
        colorbar={"title": "PSI"},
        text=table.map(_format_psi).to_numpy(),
        texttemplate="%{text}",
        xgap=2,
        ygap=2,
    )
    return figure


def _label_feature(name: str, feature_reliance: float) -> str:
    return "its own score" if name == SCORE else f"{name} ({feature_reliance:.0%})"


def _format_psi(psi: float) -> str:
    if pd.isna(psi) or psi < LEAST_PSI_WRITTEN:
        return ""
    return f"{psi:.2f}"


def plot_refit_gains(gains: pd.DataFrame, limit: float, title: str) -> Figure:
    """Draw what a refit would have gained at each month with its interval, and the limit.

    Months that decided to retrain are green, the others grey.

    Args:
        gains: as ``monitoring.history.tabulate_gains`` returns them.
        limit: USD per customer that the whole interval must exceed.
    """
    figure = style.new_figure(title, y="USD per customer and month")
    figure.add_scatter(
        x=gains["as_of_date"],
        y=gains["gain_usd"],
        error_y=style.error_bars(gains, "gain_usd"),
        mode="markers",
        marker={
            "size": 12,
            "color": np.where(gains["decision"] == "retrain", style.GREEN, style.GREY),
        },
    )
    figure.add_hline(y=limit, line=style.LIMIT_LINE, annotation_text=f"{limit:.0f} USD")
    return style.label_months(figure)


def plot_recovery(measured: pd.DataFrame, title: str) -> Figure:
    """Draw the value of old champion, new champion and the best possible as bars with intervals.

    Args:
        measured: as ``monitoring.recovery.measure_recovery`` returns it.
    """
    figure = style.new_figure(title, y="USD per customer", height=420)
    if measured.empty:
        return style.add_note(figure, "no labelled month has been scored by two champions yet")
    rows = measured.drop(index="recovered", errors="ignore")
    value = rows["value"]
    figure.add_bar(
        x=rows.index,
        y=value,
        error_y=style.error_bars(rows, "value", color=style.INK),
        marker_color=[style.ORANGE, style.BLUE, style.GREY][: len(rows)],
        text=[f"{usd:,.0f}" for usd in value],
        textposition="inside",
        insidetextanchor="middle",
    )
    return figure.update_yaxes(rangemode="tozero")
