"""The champion as monitoring sees it: its model, its training rows, what it relies on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pandas as pd

from churn_utils import settings
from churn_utils.errors import DataError
from churn_utils.evaluation.economics import Economics
from churn_utils.features import model_inputs, offers, offline
from churn_utils.inference import scoring
from churn_utils.monitoring import drift_tests, performance
from churn_utils.registry import lineage, versions


@dataclass(frozen=True, eq=False)
class Champion:
    """A champion; what is derived from it is computed on first use."""

    version: int
    model: Any  # has ``predict_proba`` over model inputs
    training_rows: pd.DataFrame  # model inputs of its train rows, the reference of every shift
    trained_to: pd.Timestamp  # newest month of its labels; later labels are news to it
    economics: Economics = Economics()  # costs that it was trained for
    calibration_rows: pd.DataFrame | None = None  # labelled, on which it was calibrated

    @cached_property
    def calibration_error(self) -> np.ndarray:
        """Covariance of its calibration (``measure_calibration_error``); 0 where not known."""
        rows = self.calibration_rows
        if rows is None:
            return np.zeros((2, 2))
        churned = rows["churned"].to_numpy(dtype=float)
        probability = scoring.predict_probability(self.model, rows)
        weights = offers.sample_weights(rows)
        return performance.measure_calibration_error(churned, probability, weights)

    @cached_property
    def inputs(self) -> list[str]:
        """Model inputs of the champion; features that were defined later are not among them."""
        return model_inputs.inputs_of(self.model)

    def keep_complete(self, rows: pd.DataFrame, use: str) -> pd.DataFrame:
        """Leave out the rows that lack one of its inputs; log how many, and of which use."""
        return model_inputs.drop_incomplete(rows, self.inputs, use)

    @cached_property
    def feature_reliance(self) -> pd.Series:
        """Share of each feature in what moves its probabilities; index feature."""
        return drift_tests.measure_feature_reliance(self.model, self.training_rows)

    @cached_property
    def reference(self) -> pd.DataFrame:
        """Model inputs of its training rows and its own ``champion_score`` of each."""
        # Scores that the rows carry are those of the champion before this one.
        unscored = self.training_rows.drop(columns=drift_tests.SCORE, errors="ignore")
        return self.with_score(unscored)

    def with_score(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the model inputs of rows and its ``champion_score`` of each.

        Rows that carry the score already had their inputs checked when they were scored.

        Raises:
            DataError: some rows carry a score and others do not.
            FeatureError: rows without score that are no model inputs.
        """
        if drift_tests.SCORE not in rows:
            inputs = model_inputs.select_model_inputs(rows, self.inputs)
            score = self.model.predict_proba(inputs)[:, 1]
            return inputs.assign(**{drift_tests.SCORE: score})
        unscored = rows[drift_tests.SCORE].isna().sum()
        if unscored:
            raise DataError(
                f"{unscored} of {len(rows)} rows have no {drift_tests.SCORE}; "
                "score all rows or none."
            )
        return rows[[*self.inputs, drift_tests.SCORE]]


def load_champion(version: int) -> Champion:
    """Load a version with its training rows, at the table versions that its training recorded."""
    return _load(str(settings.home()), versions.read_version(version).run_id, version)


@lru_cache(maxsize=4)
def _load(home: str, run_id: str, number: int) -> Champion:
    """Load a champion once per process, home and run: a new home counts its versions from 1."""
    version = versions.read_version(number)
    model = scoring.load_model(version)
    training_set = lineage.read_training_set(number)
    inputs = model_inputs.inputs_of(model)
    rows = offline.training_rows(training_set, "train", inputs)
    return Champion(
        version=number,
        model=model,
        training_rows=rows,
        trained_to=rows["event_date"].max(),
        economics=version.economics,
        calibration_rows=offline.training_rows(training_set, "validate", inputs),
    )
