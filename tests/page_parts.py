"""Executed notebooks for the tests of pages, and a parser of what a browser finds in a page."""

import json
from html.parser import HTMLParser

import nbformat
import pandas as pd
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from churn_utils.reports import html
from churn_utils.reports.figures import decisions
from churn_utils.reports.summary import Summary

FIRST_CELL = """# 02 – find a model

*Which model finds churners? It must beat the default.*

**Next:** [03](03_model_registry.ipynb), [04a](04a_challenger_validation.ipynb), [docs](https://example.org/docs)
"""
SECRET = "secret_variable = compute_everything()"
FACTS = {"run": "20250201 <seed 42>", "N_TRIALS": 40}


class Page(HTMLParser):
    """What a browser would find: text, links, scripts, and everything that it would load."""

    def __init__(self, path):
        super().__init__()
        self.text, self.links, self.loads, self.scripts, self.ids = "", [], [], [], []
        self._in = None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self._in = tag if tag in ("script", "style") else self._in
        self.ids += [attrs["id"]] if "id" in attrs else []
        if tag == "a":
            self.links.append(attrs.get("href", ""))
        elif tag == "link":
            self.loads.append(attrs["href"])
        elif "src" in attrs:
            self.loads.append(attrs["src"])

    def handle_endtag(self, tag):
        self._in = None if tag == self._in else self._in

    def handle_data(self, data):
        if self._in == "script":
            self.scripts.append(data)
        elif self._in is None:
            self.text += data


def figure_output(title="Churn </script><b>by</b> contract"):
    figure = decisions.plot_bars(pd.Series({"Two year": 7.0}), title, "USD")
    return new_output("display_data", {html.PLOTLY_MIME: json.loads(figure.to_json())})


def summary_output(**numbers):
    return new_output("execute_result", Summary(**numbers)._repr_mimebundle_())


def code_cell(*outputs, **metadata):
    return new_code_cell(SECRET, outputs=list(outputs), execution_count=1, metadata=metadata)


def write_notebook(folder, name, *cells):
    """Write an executed notebook with a first cell of prose and these cells; return its path."""
    path = folder / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(exist_ok=True)
    first = new_markdown_cell(FIRST_CELL.replace("02", name[:2]))
    nbformat.write(new_notebook(cells=[first, *cells]), path)
    return path
