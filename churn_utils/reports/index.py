"""The index page of a run: its outcome, the main numbers, a card per notebook, every number."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import nbformat
from markupsafe import Markup

from churn_utils.reports import html, rendering
from churn_utils.reports.summary import SummaryValue, format_number, read_summary

# What a stakeholder wants to know first: a number's name in some notebook's summary, its caption.
TILES = {
    "champion_in_effect": "version that answers since {in_effect_since}",
    "value_recovered": "of the value lost to drift won back by the retraining",
    "test_roc_auc": "ROC AUC of version {challenger} (gate: {gate}) on customers held out of training",
    "test_value_usd": "USD per customer of version {challenger} on the same customers",
    "expected_value_usd": (
        "USD expected from the offers of version {champion}, by its own probabilities"
    ),
}
STATUS_LABELS = {
    "done": "Run complete",
    "refused": "Challenger refused",
    "waiting": "Waiting",
    "failed": "Run failed",
}
CURRENT_PAGES = ("07_model_monitoring", "08_drift_detection")
RETRAINING_NAME = re.compile(r"_(\d{4}-\d{2})$")
SMALL_FIGURE = {
    "height": 250,
    "title": {"text": ""},
    "margin": {"l": 50, "r": 12, "t": 28, "b": 40},
    "font": {"size": 11},
}


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended, in the words that its last lines print.

    Attributes:
        headline: one sentence: what a reader must know.
        status: ``done``, ``refused`` (a challenger failed its gate), ``waiting`` (for an approval
            or a month) or ``failed`` (a stage stopped with an error).
        details: further sentences, such as what was left out.
        command: what to run next; empty if there is nothing to run.
    """

    headline: str
    status: Literal["done", "refused", "waiting", "failed"]
    details: list[str] = field(default_factory=list)
    command: str = ""

    @property
    def label(self) -> str:
        """The status in words, so that no reader depends on its colour."""
        return STATUS_LABELS[self.status]


@dataclass(frozen=True)
class NamedNumber:
    """A number of a summary and the notebook that it comes from."""

    key: str
    value: SummaryValue
    notebook: str

    @property
    def name(self) -> str:
        """The number's name with spaces."""
        return self.key.replace("_", " ")

    @property
    def text(self) -> str:
        """The number as people read it."""
        return format_number(self.value)


@dataclass(frozen=True)
class Tile:
    """One of the main numbers, and what it says."""

    number: str
    caption: str


@dataclass(frozen=True)
class Card:
    """Link to the page of a notebook, with its question and its cover figure (or nothing)."""

    page: str
    title: str
    question: str
    picture: Markup


@dataclass(frozen=True)
class Group:
    """Cards under one heading."""

    heading: str
    cards: list[Card]


def write_index(
    folder: Path,
    notebooks: list[Path],
    facts: Mapping[str, object],
    outcome: RunOutcome | None = None,
) -> Path:
    """Write ``folder/index.html``.

    Args:
        folder: of the run's pages; retention lists in it are linked.
        notebooks: executed notebooks, in the order of the run.
        facts: what the page says of its origin (run, scenario, seed).
        outcome: how the run ended, shown on top.

    Returns:
        Path of the page.
    """
    numbers = [
        NamedNumber(key, value, path.stem)
        for path in notebooks
        for key, value in read_summary(path).numbers.items()
    ]
    page = rendering.render(
        "index.html",
        outcome=outcome,
        tiles=_build_tiles({number.key: number.value for number in numbers}),
        groups=_group_cards(notebooks),
        numbers=numbers,
        retention_lists=sorted(path.name for path in folder.glob("retention_list_*.csv")),
        facts=facts,
    )
    return rendering.write_text(folder / "index.html", page)


def _build_tiles(values: Mapping[str, SummaryValue]) -> list[Tile]:
    """Return the tiles whose number is there; what a caption lacks is shown as a question mark."""
    known = defaultdict(lambda: "?", {key: str(value) for key, value in values.items()})
    tiles = []
    for key, caption in TILES.items():
        if key not in values:
            continue
        text = caption.format_map(known)
        interval = f"{key}_interval"
        if interval in values:
            text = f"{text}, {values[interval]}"
        tiles.append(Tile(format_number(values[key]), text))
    return tiles


def _group_cards(notebooks: list[Path]) -> list[Group]:
    """Return the cards under headings: the present first, then retrainings, then the beginning."""
    current: list[Path] = []
    retrainings: dict[str, list[Path]] = {}
    beginning: list[Path] = []
    for path in notebooks:
        month = RETRAINING_NAME.search(path.stem)
        if path.stem in CURRENT_PAGES:
            current.append(path)
        elif month:
            retrainings.setdefault(month[1], []).append(path)
        else:
            beginning.append(path)
    headed = [("Where it stands", current)]
    for name in sorted(retrainings, reverse=True):
        headed.append((f"The retraining of {name}", retrainings[name]))
    headed.append(("How it began", beginning))
    return [
        Group(heading, [_build_card(path) for path in paths]) for heading, paths in headed if paths
    ]


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
    first = next(cell for cell in notebook.cells if cell.cell_type == "markdown")
    lines = [line for line in first.source.splitlines() if line.strip()]
    title = lines[0].lstrip("# ")
    if len(lines) == 1:
        return title, ""
    question = re.split(r"(?<=[.?!])\s", lines[1])[0]
    return title, question.strip("*> ")


def _find_cover(notebook: nbformat.NotebookNode) -> Mapping | None:
    """Return the figure of the cell tagged ``cover``, which stands for the notebook."""
    for cell in notebook.cells:
        if "cover" not in cell.metadata.get("tags", []):
            continue
        for output in cell.outputs:
            if html.PLOTLY_MIME in output.get("data", {}):
                return output["data"][html.PLOTLY_MIME]
    return None
