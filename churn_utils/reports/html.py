"""Pages of executed notebooks: prose, figures and tables without code; they open offline."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pandas as pd
from markupsafe import Markup
from nbformat import NotebookNode

from churn_utils.reports import rendering

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler  # it imports matplotlib, 1 s of CPU

PLOTLY_MIME = "application/vnd.plotly.v1+json"
LINK_TO_NOTEBOOK = re.compile(r'href="(\d\d[a-z]?_\w+)\.ipynb(#[^"]*)?"')


def export_notebook(notebook: Path, folder: Path, facts: Mapping[str, object]) -> Path:
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
            cell.outputs = _page_outputs(cell)
    exporter = HTMLExporter(
        template_name="basic",
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    body, _ = exporter.from_notebook_node(content)
    body = LINK_TO_NOTEBOOK.sub(r'href="\1.html\2"', body)
    page = rendering.render("notebook.html", name=notebook.stem, body=Markup(body), facts=facts)
    return rendering.write_text(folder / f"{notebook.stem}.html", page)


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
    return rendering.render(
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
        rendering.write_text(target, get_plotlyjs())


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
