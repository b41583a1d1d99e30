"""The numbers that a notebook ends with, and how the index page of a run finds them.

The last cell of a notebook evaluates ``Summary(churn_rate=0.265, ...)``. Jupyter stores an HTML
table, plain text, and under ``SUMMARY_MIME`` a list of ``[name, value]`` pairs (nbformat sorts the
keys of JSON objects), which ``read_summary`` reads for the index and for the gate's verdict.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
import numpy as np
import pandas as pd

from churn_utils.reports import html

SUMMARY_MIME = "application/vnd.churn.summary+json"
SummaryValue = str | bool | int | float | None


class Summary:
    """Named numbers and words of a notebook, in their order.

    NumPy's values become plain Python scalars, anything else (a date, a list) becomes text.
    """

    def __init__(self, **numbers: object) -> None:
        """Keep numbers, given as keyword arguments."""
        self.numbers = {name: _to_plain(value) for name, value in numbers.items()}

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict:
        """Return the output in every format that Jupyter stores (its display protocol)."""
        lines = []
        pairs = []
        for name, value in self.numbers.items():
            lines.append(f"{name}: {html.format_number(value)}")
            pairs.append([name, value])
        table = html.render("summary.html", numbers=self.numbers)
        return {"text/html": str(table), "text/plain": "\n".join(lines), SUMMARY_MIME: pairs}


def _to_plain(value: object) -> SummaryValue:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, SummaryValue):
        return value
    return str(value)


def read_summary(notebook: Path) -> Summary:
    """Return what an executed notebook (``.ipynb``) ended with.

    Several summaries are joined, and the last value of a name counts; without any, the summary has
    no numbers.
    """
    numbers: dict = {}
    content = nbformat.read(notebook, as_version=4)
    for cell in content.cells:
        for output in cell.get("outputs", []):
            formats = output.get("data", {})
            numbers.update(formats.get(SUMMARY_MIME, []))
    return Summary(**numbers)


def summarise_metrics(figures: pd.DataFrame, prefix: str) -> dict[str, float | str]:
    """Return the four metrics that people quote, as arguments for ``Summary``.

    Args:
        figures: as ``evaluation.bootstrap.metrics_with_intervals`` returns them.
        prefix: of their names, such as ``test``.

    Returns:
        ``<prefix>_roc_auc``, ``_pr_auc``, ``_log_loss`` and ``_value_usd``, then the 95 % intervals
        of ROC AUC and USD as text: ``<prefix>_roc_auc_interval``, ``<prefix>_value_usd_interval``.
    """
    quoted: dict[str, float | str] = {}
    for name in ("roc_auc", "pr_auc", "log_loss", "value_usd"):
        quoted[f"{prefix}_{name}"] = figures.loc[name, "value"]
    for name, digits in (("roc_auc", 3), ("value_usd", 0)):
        lower = figures.loc[name, "lower"]
        upper = figures.loc[name, "upper"]
        quoted[f"{prefix}_{name}_interval"] = f"{lower:.{digits}f} to {upper:.{digits}f}"
    return quoted
