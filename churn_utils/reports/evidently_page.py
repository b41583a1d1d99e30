"""evidently's report on a window: data drift against the champion's training rows, and classification quality."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from churn_utils import settings
from churn_utils.features import definitions
from churn_utils.monitoring import drift, performance

LABEL, PROBABILITY = "churned", "churn_probability"


def write_evidently_page(
    current: pd.DataFrame, champion: drift.Champion, threshold: float, window: str, psi: float = 0.1
) -> Path:
    """Write ``evidently/<window>.html`` into the run's reports folder; the page needs no network.

    Args:
        current: labelled rows of the window with all model inputs, ``churned`` and ``churn_probability``.
        champion: its training rows are the reference.
        threshold: from which on a customer gets an offer.
        window: names the page, such as ``2025-04``.
        psi: population stability index from which evidently calls a column drifted.

    Returns:
        Path of the page.
    """
    settings.disable_telemetry()
    from evidently import (
        BinaryClassification,
        DataDefinition,
        Dataset,
        Report,
    )  # 4 s, so only for those who need it
    from evidently.presets import ClassificationPreset, DataDriftPreset

    definition = DataDefinition(
        numerical_columns=definitions.NUMERICAL,
        categorical_columns=list(definitions.CATEGORICAL),
        classification=[
            BinaryClassification(target=LABEL, prediction_probas=PROBABILITY, pos_label=1)
        ],
    )
    trained = champion.reference.rename(columns={performance.SCORE: PROBABILITY})
    trained = trained.assign(**{LABEL: champion.training_rows[LABEL].astype(int)})
    columns = [*definitions.MODEL_INPUTS, PROBABILITY, LABEL]
    sides = [
        Dataset.from_pandas(
            rows[columns].astype({LABEL: "int64"}).reset_index(drop=True),
            data_definition=definition,
        )
        for rows in (current, trained)
    ]
    presets = [
        DataDriftPreset(
            columns=list(definitions.MODEL_INPUTS),
            num_method="psi",
            cat_method="psi",
            num_threshold=psi,
            cat_threshold=psi,
        ),
        ClassificationPreset(probas_threshold=threshold),
    ]
    path = settings.run_reports() / "evidently" / f"{window}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    Report(presets).run(*sides).save_html(str(path))
    _share_script(path)
    return path


def _share_script(path: Path) -> None:
    """Move evidently's own 3.5 MB of JavaScript, the same in every page, into one file beside them."""
    text = path.read_text(encoding="utf-8")
    script = max(re.findall(r"<script>(.*?)</script>", text, flags=re.S), key=len)
    path.with_name("evidently.js").write_text(script, encoding="utf-8")
    path.write_text(
        text.replace(f"<script>{script}</script>", '<script src="evidently.js"></script>'),
        encoding="utf-8",
    )
