"""Figures of a model version: what it was made from, and when it was in effect."""

from __future__ import annotations

import pandas as pd
from plotly.graph_objects import Figure

from churn_utils.reports.figures.style import BLUE, LIGHT_BLUE, MARK_LINE, add_note, new_figure


def plot_lineage(links: pd.DataFrame, title: str) -> Figure:
    """Draw what came from what as a flow from left to right.

    Args:
        links: as ``registry.lineage.link_version`` returns them: columns ``source``, ``target``.
    """
    names = pd.Index(pd.concat([links["source"], links["target"]]).unique())
    figure = new_figure(title, height=340)
    figure.add_sankey(
        node={
            # In two lines, because the labels at the right would run into each other.
            "label": [name.replace(" ", "<br>", 1) for name in names],
            "color": BLUE,
            "pad": 28,
            "thickness": 16,
        },
        link={
            "source": names.get_indexer(links["source"]),
            "target": names.get_indexer(links["target"]),
            "value": [1] * len(links),
            "color": LIGHT_BLUE,
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
    figure = new_figure(title, height=140 + 50 * max(1, len(deployments)))
    next_month = as_of + pd.DateOffset(months=1)
    last_days = deployments["effective_to"].fillna(next_month)
    for row, end in zip(deployments.itertuples(), last_days, strict=True):
        name = f"version {row.version}"
        figure.add_scatter(
            x=[row.effective_from, end],
            y=[name, name],
            mode="lines",
            line={"width": 22, "color": BLUE},
            hovertemplate=f"approved by {row.approved_by}<extra>{name}</extra>",
        )
    figure.add_vline(x=as_of, line=MARK_LINE)
    if deployments.empty:
        add_note(figure, "no version has been promoted")
    return figure.update_layout(showlegend=False)
