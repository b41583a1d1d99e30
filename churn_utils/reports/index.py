"""The index page of a run: its outcome, the main numbers, a card per notebook, every number."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import nbformat
from markupsafe import Markup

from churn_utils.reports import html
from churn_utils.reports.summary import SummaryValue, read_summary

# What a stakeholder wants to know first: a number's name in some notebook's summary, its caption.
TILES = {
    "champion_in_effect": "version that answers since {in_effect_since}",
    "value_recovered": "of the value lost to drift won back by the retraining",
    "test_roc_auc": (
        "ROC AUC of version {challenger} (gate: {gate}) on customers held out of training"
    ),
    "test_value_usd": "USD per customer of version {challenger} on the same customers",
    "expected_value_usd": (
        "USD expected from the offers of version {champion}, by its own probabilities"
    ),
}
CURRENT_PAGES = ("07_model_monitoring", "08_drift_detection", "09_offers_and_control")
RETRAINING_NAME = re.compile(r"_(\d{4}-\d{2})$")
SENTENCE_END = re.compile(r"(?<=[.?!])\s")
SMALL_FIGURE = {
    "height": 250,
    "title": {"text": ""},
    "margin": {"l": 50, "r": 12, "t": 28, "b": 40},
    "font": {"size": 11},
}


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended, in the words that its last lines print."""

    headline: str  # one sentence: what a reader must know
    status: Literal["done", "refused", "waiting", "failed"]
    details: list[str] = field(default_factory=list)  # further sentences, such as what is left out
    command: str = ""  # what to run next; empty if there is nothing to run


class Card(NamedTuple):
    """Link to the page of a notebook, with its question and its cover figure, if it has one."""

    page: str
    title: str
    question: str
    picture: Markup


def write_index(
    folder: Path,
    notebooks: list[Path],
    facts: Mapping[str, object],
    outcome: RunOutcome | None = None,
) -> Path:
    """Write ``folder/index.html``, which links pages and retention lists there; return its path.

    Args:
        folder: of the run's pages.
        notebooks: executed, in the order of the run.
        facts: what the page says of its origin (run, scenario, seed).
        outcome: how the run ended, shown on top.
    """
    numbers = []
    values: dict[str, SummaryValue] = {}
    for path in notebooks:
        found = read_summary(path).numbers
        values |= found
        numbers += [(name, value, path.stem) for name, value in found.items()]
    page = html.render(
        "index.html",
        outcome=outcome,
        tiles=_build_tiles(values),
        groups=_group_cards(notebooks),
        numbers=numbers,
        retention_lists=sorted(path.name for path in folder.glob("retention_list_*.csv")),
        facts=facts,
    )
    return html.write_text(folder / "index.html", page)


def _build_tiles(values: Mapping[str, SummaryValue]) -> list[tuple[SummaryValue, str]]:
    """Return main numbers with captions; what a caption lacks is shown as a question mark."""
    known = defaultdict(lambda: "?", values)
    tiles = []
    for name, caption in TILES.items():
        if name not in values:
            continue
        text = caption.format_map(known)
        interval = f"{name}_interval"
        if interval in values:
            text += f", {values[interval]}"
        tiles.append((values[name], text))
    return tiles


def _group_cards(notebooks: list[Path]) -> dict[str, list[Card]]:
    """Return cards by heading: the present, the retrainings (newest first), the beginning."""
    current = []
    beginning = []
    retrainings = defaultdict(list)
    for path in notebooks:
        card = _build_card(path)
        found = RETRAINING_NAME.search(path.stem)
        if path.stem in CURRENT_PAGES:
            current.append(card)
        elif found:
            retrainings[found[1]].append(card)
        else:
            beginning.append(card)
    groups = {"Where it stands": current}
    for month in sorted(retrainings, reverse=True):
        groups[f"The retraining of {month}"] = retrainings[month]
    groups["How it began"] = beginning
    return {heading: cards for heading, cards in groups.items() if cards}


def _build_card(path: Path) -> Card:
    notebook = nbformat.read(path, as_version=4)
    title, question = read_heading(notebook)
    figure = _find_cover(notebook)
    picture = Markup("")
    if figure is not None:
        picture = html.render_figure(figure, f"card-{path.stem}", **SMALL_FIGURE)
    return Card(f"{path.stem}.html", title, question, picture)


def read_heading(notebook: nbformat.NotebookNode) -> tuple[str, str]:
    """Return the title of a notebook and the first sentence of its business question."""
    text = next(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    title, _, rest = text.strip().partition("\n")
    paragraph = rest.strip().splitlines()[:1]
    question = SENTENCE_END.split("".join(paragraph))[0]
    return title.lstrip("# "), question.strip("*> ")


def _find_cover(notebook: nbformat.NotebookNode) -> Mapping | None:
    """Return the figure of the cell tagged ``cover``, which stands for the notebook."""
    for cell in notebook.cells:
        if "cover" not in cell.metadata.get("tags", []):
            continue
        for output in cell.outputs:
            if html.PLOTLY_MIME in output.get("data", {}):
                return output["data"][html.PLOTLY_MIME]
    return None
