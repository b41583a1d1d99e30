"""Figures of a version: verdicts and intervals of its gate, its origin, when it was in effect."""

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
        findings: as ``validation.gate.evaluate_checks`` returns them.
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
        findings: as ``validation.gate.evaluate_checks`` returns them.
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


def plot_lineage(links: pd.DataFrame, title: str) -> Figure:
    """Draw the links of ``registry.lineage.link_version`` as a flow from left to right."""
    names = pd.Index(pd.concat([links["source"], links["target"]]).unique())
    figure = style.new_figure(title, height=340)
    figure.add_sankey(
        node={
            # In two lines, because the labels at the right would run into each other.
            "label": [name.replace(" ", "<br>", 1) for name in names],
            "color": style.BLUE,
            "pad": 28,
            "thickness": 16,
        },
        link={
            "source": names.get_indexer(links["source"]),
            "target": names.get_indexer(links["target"]),
            "value": [1] * len(links),
            "color": style.LIGHT_BLUE,
        },
    )
    return figure


def plot_deployments(deployments: pd.DataFrame, as_of: pd.Timestamp, title: str) -> Figure:
    """Draw one bar per deployment from its first to its last day; a dotted line marks ``as_of``.

    Args:
        deployments: columns ``version``, ``effective_from``, ``effective_to`` (missing while it is
            in effect: its bar ends a month after ``as_of``) and ``approved_by``.
        as_of: today in simulated time.
    """
    figure = style.new_figure(title, height=140 + 50 * max(1, len(deployments)))
    next_month = as_of + pd.DateOffset(months=1)
    last_days = deployments["effective_to"].fillna(next_month)
    for row, end in zip(deployments.itertuples(), last_days, strict=True):
        name = f"version {row.version}"
        figure.add_scatter(
            x=[row.effective_from, end],
            y=[name, name],
            mode="lines",
            line={"width": 22, "color": style.BLUE},
            hovertemplate=f"approved by {row.approved_by}<extra>{name}</extra>",
        )
    figure.add_vline(x=as_of, line=style.MARK_LINE)
    if deployments.empty:
        style.add_note(figure, "no version has been promoted")
    return figure.update_layout(showlegend=False)
