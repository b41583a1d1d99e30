"""What all figures share: colours, fonts, margins, error bars, axes of months, notes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from plotly.graph_objects import Figure

BLUE = "#2F6DB5"
ORANGE = "#E08A1E"
GREEN = "#3A9A62"
RED = "#C8423F"
GREY = "#9AA5B1"
INK = "#243447"
LIGHT_BLUE = "rgba(47,109,181,0.16)"
VERDICT_COLOURS = {"pass": GREEN, "fail": RED, "not_evaluated": ORANGE}
CURVE = {"color": BLUE, "width": 3}
POINT = {"size": 12, "color": BLUE}
MARK_LINE = {"color": ORANGE, "dash": "dot"}  # what a reader is to notice, such as a threshold
LIMIT_LINE = {"color": RED, "dash": "dot"}  # that an interval must clear
INK_LINE = {"color": INK, "dash": "dot"}
REFERENCE_LINE = {"color": GREY, "dash": "dot"}  # such as random guesses
MOST_POINTS = 300  # of a curve: more cannot be seen and makes pages large


def new_figure(
    title: str, x: str = "", y: str = "", height: int = 380, panels: Figure | None = None
) -> Figure:
    """Return an empty figure in the common style, as wide as the page.

    Args:
        title: above the figure, at its left.
        x, y: titles of the axes.
        height: in pixels.
        panels: of ``plotly.subplots.make_subplots``; without them there is one panel.
    """
    figure = Figure() if panels is None else panels
    return figure.update_layout(
        template="plotly_white",
        title={"text": title, "x": 0, "xref": "paper", "font": {"size": 17}},
        font={
            "family": "system-ui, Segoe UI, Helvetica, Arial, sans-serif",
            "size": 13,
            "color": INK,
        },
        height=height,
        margin={"l": 70, "r": 30, "t": 56, "b": 56},
        xaxis={"title": x, "automargin": True},
        yaxis={"title": y, "automargin": True},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 1, "xanchor": "right"},
        colorway=[BLUE, ORANGE, GREEN, RED, GREY],
        bargap=0.25,
    )


def error_bars(
    rows: pd.DataFrame, value: str, lower: str = "lower", upper: str = "upper", **style: object
) -> dict:
    """Return plotly's ``error_x`` or ``error_y`` of intervals in three columns of ``rows``.

    Returns:
        ``array`` (distance to the upper bound), ``arrayminus`` (to the lower one), and ``style``,
        further entries such as ``thickness``.
    """
    up = rows[upper] - rows[value]
    down = rows[value] - rows[lower]
    return {"array": up, "arrayminus": down, **style}


def thin(*columns: np.ndarray, most: int = MOST_POINTS) -> list[np.ndarray]:
    """Return evenly spaced entries of columns of one length, at most ``most`` and both ends."""
    length = len(columns[0])
    positions = np.linspace(0, length - 1, num=min(most, length))
    kept = positions.astype(int)
    return [np.asarray(column)[kept] for column in columns]


def label_months(figure: Figure) -> Figure:
    """Label the horizontal axis with one tick a month, such as ``Apr 2025``; return the figure."""
    return figure.update_xaxes(dtick="M1", tickformat="%b %Y")


def add_note(figure: Figure, text: str) -> Figure:
    """Write a sentence into the middle of a figure that has nothing to show and return it."""
    return figure.add_annotation(
        text=text, showarrow=False, xref="paper", yref="paper", x=0.5, y=0.5
    )
