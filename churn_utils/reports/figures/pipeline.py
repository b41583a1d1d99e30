"""Figure of the loop that the notebooks walk through."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from plotly.graph_objects import Figure

from churn_utils.reports.figures.style import BLUE, GREY, INK, new_figure


class Step(NamedTuple):
    """A stage of the loop: number of its notebook, name, and what it is about."""

    number: str
    name: str
    detail: str


LOOP = [
    Step("01", "features", "Delta tables"),
    Step("02", "search", "Optuna, MLflow"),
    Step("03", "registry", "challenger"),
    Step("04a", "gate", "checks, evidence"),
    Step("04b", "approval", "promotion"),
    Step("05", "batch", "predictions"),
    Step("06", "serving", "API"),
    Step("07", "monitoring", "late labels"),
    Step("08", "drift", "decision"),
]
ARROW_GAP = 0.27  # share of the way between two steps that an arrow leaves free at either end
QUESTION = "what is retraining worth,<br>in USD per customer?"


def plot_loop(done: Collection[str]) -> Figure:
    """Draw the steps of the loop as a ring of boxes, each with an arrow to the next.

    Args:
        done: numbers of steps, such as ``04a``. Their boxes are filled, the others are still ahead.
    """
    figure = new_figure("The loop: nine steps, and back to the first", height=420)
    places = _place_steps(len(LOOP))
    next_places = np.roll(places, -1, axis=0)
    for step, place, next_place in zip(LOOP, places, next_places, strict=True):
        _add_arrow(figure, place, next_place)
        _add_box(figure, step, place, filled=step.number in done)
    figure.add_annotation(
        x=0, y=0, text=QUESTION, showarrow=False, font={"size": 15, "color": GREY}
    )
    figure.update_xaxes(visible=False, range=[-2.1, 2.1])
    figure.update_yaxes(visible=False, range=[-1.2, 1.2])
    return figure.update_layout(margin={"b": 10})


def _place_steps(count: int) -> np.ndarray:
    """Return the places of steps on an ellipse, clockwise from the top, shape (count, 2)."""
    turns = np.linspace(0, 2 * np.pi, count, endpoint=False)
    x = 1.5 * np.sin(turns)
    y = np.cos(turns)
    return np.column_stack([x, y])


def _add_arrow(figure: Figure, start: np.ndarray, end: np.ndarray) -> None:
    gap = ARROW_GAP * (end - start)
    tail = start + gap
    head = end - gap
    figure.add_annotation(
        x=head[0],
        y=head[1],
        ax=tail[0],
        ay=tail[1],
        xref="x",
        yref="y",
        axref="x",
        ayref="y",
        arrowhead=2,
        arrowwidth=2,
        arrowcolor=GREY,
        text="",
    )


def _add_box(figure: Figure, step: Step, place: np.ndarray, filled: bool) -> None:
    if filled:
        text_colour, fill, border = "white", BLUE, BLUE
    else:
        text_colour, fill, border = INK, "white", GREY
    x, y = place
    figure.add_annotation(
        x=x,
        y=y,
        text=f"<b>{step.number} {step.name}</b><br>{step.detail}",
        showarrow=False,
        borderpad=7,
        font={"color": text_colour, "size": 13},
        bgcolor=fill,
        bordercolor=border,
    )
