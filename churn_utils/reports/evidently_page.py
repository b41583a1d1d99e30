"""evidently's report on a window: drift against the training rows, and classification quality."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from churn_utils import settings
from churn_utils.features import definitions
from churn_utils.monitoring import drift_tests
from churn_utils.monitoring.champion import Champion
from churn_utils.reports import html

if TYPE_CHECKING:
    from evidently import Dataset

LABEL = "churned"
PROBABILITY = "churn_probability"


def write_evidently_page(
    current: pd.DataFrame, champion: Champion, threshold: float, window: str, psi: float = 0.1
) -> Path:
    """Write ``evidently/<window>.html``, which needs no network, into the run's reports folder.

    Args:
        current: labelled rows with all model inputs, ``churned`` and ``churn_probability``.
        champion: its training rows are the reference.
        threshold: probability from which a customer gets an offer.
        window: names the page, such as ``2025-04``.
        psi: population stability index from which evidently calls a column drifted.
    """
    settings.disable_telemetry()
    from evidently import Report  # 4 s, so only for those who need it
    from evidently.presets import ClassificationPreset, DataDriftPreset

    presets = [
        DataDriftPreset(
            columns=champion.inputs,
            num_method="psi",
            cat_method="psi",
            num_threshold=psi,
            cat_threshold=psi,
        ),
        ClassificationPreset(probas_threshold=threshold),
    ]
    path = settings.run_reports() / "evidently" / f"{window}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    reference = _describe(_reference_rows(champion), champion.inputs)
    snapshot = Report(presets).run(_describe(current, champion.inputs), reference)
    snapshot.save_html(str(path))
    _share_script(path)
    return path


def _reference_rows(champion: Champion) -> pd.DataFrame:
    """Return the rows that the champion was trained on, with its own score as the probability."""
    rows = champion.reference.copy()
    rows[PROBABILITY] = rows[drift_tests.SCORE]
    rows[LABEL] = champion.training_rows[LABEL]
    return rows


def _describe(rows: pd.DataFrame, inputs: list[str]) -> Dataset:
    """Return rows as evidently's data set, which says what each column is."""
    from evidently import BinaryClassification, DataDefinition, Dataset

    outcome = BinaryClassification(target=LABEL, prediction_probas=PROBABILITY, pos_label=1)
    definition = DataDefinition(
        numerical_columns=definitions.select_numerical(inputs),
        categorical_columns=list(definitions.select_categorical(inputs)),
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
