"""Figures of the gate: verdicts, and intervals beside their bounds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from plotly.graph_objects import Figure
from plotly.subplots import make_subplots

from churn_utils.reports.figures import style

MOST_DETAIL = 130  # characters of a check's detail that fit its row


def plot_verdicts(findings: pd.DataFrame, title: str) -> Figure:
    """Draw one row per check of the gate, coloured by its verdict, the first check on top.

    Args:
        findings: columns ``check``, ``verdict`` (``pass``, ``fail``, ``not_evaluated``),
            ``requirement`` and ``detail`` (what was found).
    """
    rows = findings.iloc[::-1].reset_index(drop=True)
    figure = style.new_figure(title, height=110 + 46 * len(rows))
    figure.add_bar(
        x=np.ones(len(rows)),
        y=rows["check"],
        orientation="h",
        showlegend=False,
        marker_color=rows["verdict"].map(style.VERDICT_COLOURS),
        opacity=0.16,
        hoverinfo="skip",
    )
    for row in rows.itertuples():
        detail = str(row.detail)[:MOST_DETAIL]
        figure.add_annotation(
            x=0.01,
            y=row.check,
            xanchor="left",
            showarrow=False,
            align="left",
            font={"size": 12},
            text=f"<b>{row.verdict}</b>  {row.requirement}<br>{detail}",
        )
    figure.update_xaxes(visible=False, range=[0, 1])
    return figure.update_layout(bargap=0.12, margin={"b": 10})


def plot_intervals(findings: pd.DataFrame, bounds: Mapping[str, float], title: str) -> Figure:
    """Draw the 95 % interval of each check in a panel of its own, beside the bound it must clear.

    Args:
        findings: columns ``check``, ``value``, ``lower``, ``upper``.
        bounds: bound by name of the check; checks without one are left out.
    """
    rows = findings[findings["check"].isin(bounds)].reset_index(drop=True)
    count = max(1, len(rows))
    panels = make_subplots(
        rows=count,
        cols=1,
        subplot_titles=rows["check"].tolist(),
        vertical_spacing=min(0.25, 0.5 / count),
    )
    figure = style.new_figure(title, height=120 + 130 * len(rows), panels=panels)
    for position in range(len(rows)):
        panel = {"row": position + 1, "col": 1}
        row = rows.iloc[[position]]
        figure.add_scatter(
            x=row["value"],
            y=[""],
            error_x=style.error_bars(row, "value", thickness=3),
            marker=style.POINT,
            **panel,
        )
        bound = bounds[row["check"].item()]
        figure.add_vline(x=bound, line=style.LIMIT_LINE, **panel)
    return figure.update_layout(showlegend=False)
