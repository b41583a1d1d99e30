"""What evidently's report needs and leaves: described rows, drift scores, a page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from churn_utils import settings
from churn_utils.features import model_inputs
from churn_utils.monitoring import drift_tests
from churn_utils.monitoring.champion import Champion
from churn_utils.reports import html

if TYPE_CHECKING:
    from evidently import Dataset
    from evidently.core.report import Snapshot

LABEL = "churned"
PROBABILITY = "churn_probability"


def write_page(snapshot: Snapshot, window: str) -> Path:
    """Write ``evidently/<window>.html`` into the run's reports folder; the page needs no network.

    Args:
        snapshot: what evidently's ``Report.run`` returned.
        window: names the page, such as ``2025-04``.

    Returns:
        Path of the page.
    """
    path = settings.run_reports() / "evidently" / f"{window}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    snapshot.save_html(str(path))
    _share_script(path)
    return path


def tabulate_drift(snapshot: Snapshot) -> pd.Series:
    """Return evidently's drift score of each column, largest first; index column."""
    metrics = [found for found in snapshot.dict()["metrics"] if "column" in found["config"]]
    scores = {found["config"]["column"]: float(found["value"]) for found in metrics}
    return pd.Series(scores, dtype=float).sort_values(ascending=False).rename_axis("column")


def describe_reference(champion: Champion) -> Dataset:
    """Return the rows that the champion was trained on, with its own score as the probability."""
    rows = champion.reference.copy()
    rows[PROBABILITY] = rows[drift_tests.SCORE]
    rows[LABEL] = champion.training_rows[LABEL]
    return describe(rows, champion.inputs)


def describe(rows: pd.DataFrame, inputs: list[str]) -> Dataset:
    """Return rows as evidently's data set, which says what each column is.

    Args:
        rows: the model's inputs, ``churned`` and ``churn_probability``.
        inputs: names of the model's inputs.
    """
    settings.disable_telemetry()
    from evidently import BinaryClassification, DataDefinition, Dataset  # takes 4 s

    outcome = BinaryClassification(target=LABEL, prediction_probas=PROBABILITY, pos_label=1)
    definition = DataDefinition(
        numerical_columns=model_inputs.select_numerical(inputs),
        categorical_columns=list(model_inputs.select_categorical(inputs)),
        classification=[outcome],
    )
    columns = [*inputs, PROBABILITY, LABEL]
    described = rows[columns].reset_index(drop=True)
    described[LABEL] = described[LABEL].astype("int64")
    return Dataset.from_pandas(described, data_definition=definition)


def _share_script(path: Path) -> None:
    """Move evidently's own JavaScript, 3.5 MB and the same in every page, into one file beside."""
    text = path.read_text(encoding="utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    largest = max(scripts, key=len)
    inline = f"<script>{largest}</script>"
    linked = '<script src="evidently.js"></script>'
    html.write_text(path.with_name("evidently.js"), largest)
    html.write_text(path, text.replace(inline, linked))
