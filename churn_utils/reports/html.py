"""Turn executed notebooks into pages without code, and an index that links them; all of it opens offline."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import nbformat
import pandas as pd

PLOTLY_MIME = "application/vnd.plotly.v1+json"
SUMMARY_MIME = "application/vnd.churn.summary+json"
ASSETS = "assets"

STYLE = """
:root { --ink: #243447; --soft: #5f6f80; --line: #dde4eb; --blue: #2f6db5; --back: #f6f8fa; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink);
       font: 16px/1.6 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
main { max-width: 1020px; margin: 0 auto; padding: 28px 36px 56px; background: #fff; min-height: 100vh; }
nav { max-width: 1020px; margin: 0 auto; padding: 12px 36px; font-size: 14px; }
a { color: var(--blue); text-decoration: none; } a:hover { text-decoration: underline; }
h1 { font-size: 30px; line-height: 1.25; margin: 8px 0 12px; } h2 { font-size: 21px; margin: 36px 0 8px; }
h1 .anchor-link, h2 .anchor-link, h3 .anchor-link { display: none; }
table { border-collapse: collapse; border: 0 !important; font-size: 14px; margin: 12px 0;
        display: block; overflow-x: auto; max-width: 100%; }
th, td { padding: 5px 12px; border: 0; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
th { background: var(--back); } td:first-child, th:first-child { text-align: left; } tbody th { white-space: nowrap; }
table.text td, table.text th { text-align: left; }
pre { font-size: 13px; line-height: 1.45; background: var(--back); padding: 10px 14px; overflow-x: auto;
      white-space: pre-wrap; }
code { font-size: 90%; background: var(--back); padding: 1px 4px; border-radius: 3px; } pre code { padding: 0; }
blockquote { margin: 12px 0; padding: 2px 18px; border-left: 4px solid var(--blue); background: var(--back); }
.error { border-left: 4px solid #c8423f; }
.facts { margin-top: 44px; padding-top: 14px; border-top: 1px solid var(--line); color: var(--soft); font-size: 13px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 16px; margin: 18px 0; }
.tile { background: var(--back); border-radius: 8px; padding: 12px 16px; } .tile b { display: block; font-size: 25px; }
.tile span { color: var(--soft); font-size: 13px; }
.cards { display: grid; grid-template-columns: 1fr 1fr; gap: 22px; margin: 22px 0; }
.card { border: 1px solid var(--line); border-radius: 8px; padding: 14px 18px; min-width: 0; }
.card h2 { margin: 0 0 4px; font-size: 18px; } .card p { margin: 4px 0; color: var(--soft); font-size: 14px; }
@media (max-width: 760px) { .cards { grid-template-columns: 1fr; } main { padding: 20px; } }
"""


class Summary:
    """The numbers that a notebook ends with: a table for its reader, and a copy that the index page collects."""

    def __init__(self, **numbers) -> None:
        """Keep ``numbers`` in order, NumPy scalars as Python's."""
        self.numbers = {
            key: value.item() if hasattr(value, "item") else value for key, value in numbers.items()
        }

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        rows = "".join(
            f"<tr><td>{html.escape(key.replace('_', ' '))}</td><td>{html.escape(format_number(value))}</td></tr>"
            for key, value in self.numbers.items()
        )
        text = "\n".join(f"{key}: {format_number(value)}" for key, value in self.numbers.items())
        return {
            "text/html": f"<table class='text'>{rows}</table>",
            "text/plain": text,
            SUMMARY_MIME: [
                [key, json.loads(json.dumps(value, default=str))]
                for key, value in self.numbers.items()
            ],
        }


def summarise_metrics(figures: pd.DataFrame, prefix: str) -> dict[str, float | str]:
    """The four figures that people quote, for ``Summary``: values, and the intervals of ROC AUC and USD.

    Args:
        figures: as ``evaluation.metrics_with_intervals`` returns them.
        prefix: of their names, such as ``test``.
    """
    quoted = {
        f"{prefix}_{name}": figures.loc[name, "value"]
        for name in ("roc_auc", "pr_auc", "log_loss", "value_usd")
    }
    for name, digits in (("roc_auc", 3), ("value_usd", 0)):
        lower, upper = figures.loc[name, ["lower", "upper"]]
        quoted[f"{prefix}_{name}_interval"] = f"{lower:.{digits}f} to {upper:.{digits}f}"
    return quoted


def style_table(table: pd.DataFrame):
    """Show a table of words: no index, everything to the left, months instead of dates, numbers with one decimal."""
    formats = {name: "{:%Y-%m}" for name in table.select_dtypes("datetime")}
    formats |= {name: "{:.1f}" for name in table.select_dtypes("float")}
    styles = [{"selector": "th, td", "props": "text-align: left"}]
    styles += [
        {"selector": f"td.col{table.columns.get_loc(name)}", "props": "white-space: nowrap"}
        for name in table.select_dtypes("datetime")
    ]
    return (
        table.style.hide(axis="index")
        .set_table_styles(styles)
        .format(formats, na_rep="", escape="html")
    )


def format_number(value) -> str:
    """Write a number as people read it: thousands separated, small ones with four digits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def read_summary(notebook: Path) -> dict:
    """Numbers that an executed notebook ended with; empty when it shows no ``Summary``."""
    numbers: dict = {}
    for output in _outputs(nbformat.read(notebook, as_version=4)):
        numbers.update(output.get("data", {}).get(SUMMARY_MIME, []))
    return numbers


def read_heading(notebook: Path) -> tuple[str, str]:
    """Title of a notebook and the first sentence of its business question."""
    text = next(
        cell.source
        for cell in nbformat.read(notebook, as_version=4).cells
        if cell.cell_type == "markdown"
    )
    lines = [line for line in text.splitlines() if line.strip()]
    title = lines[0].lstrip("# ")
    question = re.split(r"(?<=[.?!])\s", lines[1])[0] if len(lines) > 1 else ""
    return title, question.strip("*> ")


def _outputs(notebook: nbformat.NotebookNode):
    for cell in notebook.cells:
        yield from cell.get("outputs", [])


def export_notebook(notebook: Path, folder: Path, facts: dict) -> Path:
    """Write an executed notebook as a page without code: prose, figures, tables and results.

    Args:
        notebook: executed ``.ipynb``.
        folder: of the run; the page becomes ``folder/<name>.html`` and shares ``folder/assets``.
        facts: what the page says of its origin (run, parameters, times).

    Returns:
        Path of the page.
    """
    from nbconvert import HTMLExporter
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    content, _ = CoalesceStreamsPreprocessor().preprocess(nbformat.read(notebook, as_version=4), {})
    for cell in content.cells:
        if cell.cell_type == "code":
            cell.outputs = [
                _page_output(out, cell.id, i)
                for i, out in enumerate(cell.outputs)
                if _is_shown(out)
            ]
    exporter = HTMLExporter(
        template_name="basic",
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    body, _ = exporter.from_notebook_node(content)
    body = re.sub(r'href="(\d\d[a-z]?_\w+)\.ipynb(#[^"]*)?"', r'href="\1.html\2"', body)
    name = notebook.stem
    rows = "".join(
        f"{html.escape(str(key))}: <code>{html.escape(str(value))}</code> · "
        for key, value in facts.items()
    )
    source = f'notebook: <a href="notebooks/{name}.ipynb">{name}.ipynb</a>'
    page = _page(
        name,
        f'<main>{body}<div class="facts">{rows}{source}</div></main>',
        '<a href="index.html">← all pages of this run</a>',
    )
    return _write(folder / f"{name}.html", page)


def _is_shown(output: dict) -> bool:
    return not (output.output_type == "stream" and output.name == "stderr")


def _page_output(output: dict, cell: str, position: int) -> dict:
    """Turn a plotly figure into HTML that uses the shared plotly.js; anything else stays."""
    figure = output.get("data", {}).get(PLOTLY_MIME)
    if figure is None:
        return output
    return nbformat.v4.new_output(
        "display_data", {"text/html": _figure_html(figure, f"figure-{cell}-{position}")}
    )


def _figure_html(figure: dict, identity: str, **layout) -> str:
    layout = dict(figure["layout"]) | layout
    data, laid_out = (json.dumps(part).replace("</", "<\\/") for part in (figure["data"], layout))
    return (
        f'<div id="{identity}"></div><script>Plotly.newPlot("{identity}", {data}, {laid_out}, '
        '{"responsive": true, "displayModeBar": false});</script>'
    )


def _page(title: str, body: str, navigation: str = "") -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style>'
        f'<script src="{ASSETS}/plotly.min.js"></script></head><body><nav>{navigation}</nav>{body}</body></html>'
    )


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def copy_assets(folder: Path) -> None:
    """Put the one copy of plotly.js that all pages of a run share into ``folder/assets``."""
    from plotly.offline import get_plotlyjs

    target = folder / ASSETS / "plotly.min.js"
    if not target.exists():
        _write(target, get_plotlyjs())


def _cover(notebook: nbformat.NotebookNode) -> dict | None:
    """The figure that stands for a notebook: that of its cell tagged ``cover``."""
    for cell in notebook.cells:
        if "cover" in cell.metadata.get("tags", []):
            for output in cell.outputs:
                if PLOTLY_MIME in output.get("data", {}):
                    return output["data"][PLOTLY_MIME]
    return None


def _card(notebook: Path) -> str:
    title, question = read_heading(notebook)
    figure = _cover(nbformat.read(notebook, as_version=4))
    small = {
        "height": 250,
        "title": {"text": ""},
        "margin": {"l": 50, "r": 12, "t": 28, "b": 40},
        "font": {"size": 11},
    }
    picture = _figure_html(figure, f"card-{notebook.stem}", **small) if figure else ""
    return (
        f'<section class="card"><h2><a href="{notebook.stem}.html">{html.escape(title)}</a></h2>'
        f"<p>{html.escape(question)}</p>{picture}</section>"
    )


# What a stakeholder asks first: the number's name in some notebook's summary, and its caption.
TILES = {
    "champion_in_effect": "version that answers since {in_effect_since}",
    "value_recovered": "of the value lost to drift won back by the retraining",
    "test_roc_auc": "ROC AUC of version {challenger} (gate: {gate}) on customers nobody trained on",
    "test_value_usd": "USD per customer of version {challenger} on the same customers",
    "expected_value_usd": "USD expected from the offers of version {champion}, by its own probabilities",
}


def _group(notebooks: list[Path]) -> dict[str, list[Path]]:
    """Pages under headings: where it stands first, then the retrainings, then how it began."""
    looks = [
        path for path in notebooks if path.stem in ("07_model_monitoring", "08_drift_detection")
    ]
    months = {path.stem[-7:] for path in notebooks if re.search(r"_\d{4}-\d{2}$", path.stem)}
    groups = {"Where it stands": looks}
    for month in sorted(months, reverse=True):
        groups[f"The retraining of {month}"] = [
            path for path in notebooks if path.stem.endswith(month)
        ]
    named = {path for paths in groups.values() for path in paths}
    groups["How it began"] = [path for path in notebooks if path not in named]
    return {heading: paths for heading, paths in groups.items() if paths}


def _fill(caption: str, values: dict) -> str:
    return html.escape(re.sub(r"\{(\w+)\}", lambda match: str(values.get(match[1], "?")), caption))


def write_index(folder: Path, notebooks: list[Path], facts: dict) -> Path:
    """Write ``folder/index.html``: the main numbers, a card per notebook, then every number with its page."""
    found = [
        (key, value, path.stem) for path in notebooks for key, value in read_summary(path).items()
    ]
    values = {key: value for key, value, _ in found}
    tiles = "".join(
        f'<div class="tile"><b>{html.escape(format_number(values[key]))}</b><span>{_fill(caption, values)}'
        + (
            f", {html.escape(str(values[key + '_interval']))}"
            if f"{key}_interval" in values
            else ""
        )
        + "</span></div>"
        for key, caption in TILES.items()
        if key in values
    )
    groups = "".join(
        f'<h2>{heading}</h2><div class="cards">{"".join(_card(path) for path in paths)}</div>'
        for heading, paths in _group(notebooks).items()
    )
    rows = "".join(
        f"<tr><td>{html.escape(key.replace('_', ' '))}</td><td>{html.escape(format_number(value))}</td>"
        f'<td><a href="{stem}.html">{stem}</a></td></tr>'
        for key, value, stem in found
    )
    lists = "".join(
        f'<p><a href="{path.name}">{path.name}</a>: the ranked customers of that month, with reasons</p>'
        for path in sorted(folder.glob("retention_list_*.csv"))
    )
    origin = " · ".join(
        f"{html.escape(str(key))}: <code>{html.escape(str(value))}</code>"
        for key, value in facts.items()
    )
    body = (
        f'<main><h1>Telco churn: who gets an offer, and why</h1><div class="tiles">{tiles}</div>'
        f"{groups}<h2>Every number, and the page it comes from</h2>"
        f'<table class="text"><tr><th>number</th><th>value</th><th>from</th></tr>{rows}</table>'
        f'{lists}<div class="facts">{origin}</div></main>'
    )
    return _write(folder / "index.html", _page("Telco churn", body))
