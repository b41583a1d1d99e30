"""HTML pages, which open offline: jinja2 templates, pages of executed notebooks and of gates.

In the templates (folder ``templates``) every value is escaped unless it is ``Markup``, and a name
that is used and not given is an error. The one style sheet, ``style.css``, is part of
``base.html``, so that a page that is sent alone keeps its looks.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from nbformat import NotebookNode

from churn_utils import settings
from churn_utils.registry.gate_evidence import GateEvidence

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler  # it imports matplotlib, 1 s of CPU

PLOTLY_MIME = "application/vnd.plotly.v1+json"
LINK_TO_NOTEBOOK = re.compile(r'href="(\d\d[a-z]?_\w+)\.ipynb(#[^"]*)?"')


@functools.cache
def _load_environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("churn_utils.reports"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = format_number
    environment.filters["spaced"] = lambda name: name.replace("_", " ")
    return environment


def render(template: str, **values: object) -> Markup:
    """Fill the template of this file name and return HTML that is safe inside another template."""
    return Markup(_load_environment().get_template(template).render(values))


def format_number(value: object) -> str:
    """Write a number as people read it: thousands separated, small ones with four digits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    digits = ",.0f" if abs(value) >= 1000 else ".4g"
    return format(value, digits)


def write_text(path: Path, text: str) -> Path:
    """Write ``text`` as UTF-8, make the folder if it is missing, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def export_notebook(
    notebook: Path,
    folder: Path,
    facts: Mapping[str, object],
) -> Path:
    """Write an executed notebook as the page ``folder/<name>.html`` without code; return its path.

    It shares ``folder/assets`` with the others; ``facts`` are what it says of its origin (run,
    parameters, times).
    """
    from nbconvert import HTMLExporter
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    content, _ = CoalesceStreamsPreprocessor().preprocess(nbformat.read(notebook, as_version=4), {})
    for cell in content.cells:
        if cell.cell_type == "code":
            cell.outputs = _page_outputs(cell)
    exporter = HTMLExporter(
        template_name="basic",
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    body, _ = exporter.from_notebook_node(content)
    body = LINK_TO_NOTEBOOK.sub(r'href="\1.html\2"', body)
    page = render("notebook.html", name=notebook.stem, body=Markup(body), facts=facts)
    return write_text(folder / f"{notebook.stem}.html", page)


def _page_outputs(cell: NotebookNode) -> list[NotebookNode]:
    """Return the outputs of a cell without stderr, its plotly figures as HTML."""
    shown = []
    for position, output in enumerate(cell.outputs):
        if output.output_type == "stream" and output.name == "stderr":
            continue
        figure = output.get("data", {}).get(PLOTLY_MIME)
        if figure is not None:
            markup = render_figure(figure, f"figure-{cell.id}-{position}")
            output = nbformat.v4.new_output("display_data", {"text/html": str(markup)})
        shown.append(output)
    return shown


def render_figure(figure: Mapping, identity: str, **layout: object) -> Markup:
    """Return a figure as HTML that draws it with the plotly.js that all pages share.

    Args:
        figure: plotly's JSON, with ``data`` and ``layout``.
        identity: id of the element that it is drawn in, unique in its page.
        layout: entries that replace those of the figure's own layout.
    """
    return render(
        "figure.html",
        identity=identity,
        data=figure["data"],
        layout={**figure["layout"], **layout},
    )


def copy_assets(folder: Path) -> None:
    """Put the one copy of plotly.js that all pages of a run share into ``folder/assets``."""
    from plotly.offline import get_plotlyjs

    target = folder / "assets" / "plotly.min.js"
    if not target.exists():
        write_text(target, get_plotlyjs())


def style_table(table: pd.DataFrame) -> Styler:
    """Style a table of words for a notebook.

    The index is hidden, everything is aligned to the left, dates are shown as months, numbers with
    one decimal, missing values as blanks.
    """
    dates = list(table.select_dtypes("datetime"))
    formats = dict.fromkeys(dates, "{:%Y-%m}")
    formats |= dict.fromkeys(table.select_dtypes("float"), "{:.1f}")
    styles = [{"selector": "th, td", "props": "text-align: left"}]
    for name in dates:
        cells = f"td.col{table.columns.get_loc(name)}"
        styles.append({"selector": cells, "props": "white-space: nowrap"})
    styler = table.style.hide(axis="index").set_table_styles(styles)
    return styler.format(formats, na_rep="", escape="html")


def render_gate(evidence: GateEvidence, digest: str) -> str:
    """Return a gate's evidence and its SHA-256, which an approval is bound to, as a page."""
    return render("gate.html", model=settings.MODEL_NAME, evidence=evidence, digest=digest)


def write_gate(evidence: GateEvidence, digest: str) -> Path:
    """Write the page of a gate into the run's reports, as ``gate_v<version>.html``."""
    path = settings.run_reports() / f"gate_v{evidence.version}.html"
    return write_text(path, render_gate(evidence, digest))
