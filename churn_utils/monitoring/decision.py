"""Records of a monthly decision: limits, evidence, and its row in the table ``decisions``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from churn_utils.monitoring.retraining_value import WindowGain

OK, ALERT, QUARANTINE, RETRAIN = "ok", "alert", "quarantine", "retrain"
DECISIONS = (OK, ALERT, QUARANTINE, RETRAIN)

# Diagnoses
NONE = "none"
DATA_QUALITY = "data quality"
COVARIATE = "covariate"
PRIOR = "prior"
CONCEPT = "concept"
ECONOMICS = "economics"

COLUMNS = [
    "as_of_date",
    "feature_month",
    "labels_from",
    "labels_to",
    "decision",
    "diagnosis",
    "why",
    "evidence",
]


@dataclass(frozen=True)
class Limits:
    """Where evidence becomes a decision; set by judgement before ``drill.py`` first ran."""

    quarantined_share: float = 0.05  # of a delivery; fewer bad rows cannot move what the rest shows
    psi: float = 0.1  # beyond chance; the usual bound of a moderate shift
    reliance: float = 0.01  # of the champion on a feature, from which its shift matters
    gain_usd: float = 5.0  # per customer and month that a retraining must surely bring
    confidence: float = 0.98  # of the gain's two-sided interval; two windows are looked at
    prior_share: float = 0.8  # of the gain that moving the intercept brings in a prior shift
    save_rate_confidence: float = 0.99  # of the interval that the assumed save rate must lie in


@dataclass(frozen=True)
class Delivery:
    """How many rows of a snapshot arrived, how many were quarantined, and why all of them were."""

    delivered: int
    quarantined: int
    faults: tuple[str, ...] = ()  # of the delivery as a whole


class Shift(BaseModel):
    """Shift of one feature, and how far the champion relies on it (1 for its own score)."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    psi: float  # beyond chance
    feature_reliance: float = Field(validation_alias="use", serialization_alias="use")


class SaveRate(BaseModel):
    """Share of the churners that offers kept, measured on the newest labelled months."""

    model_config = ConfigDict(frozen=True)

    assumed: float  # by the champion's economics
    value: float
    lower: float
    upper: float
    treated: int  # customers, each month counted
    control: int
    was_alerted: bool = False  # in an earlier month of the same champion

    @property
    def is_news(self) -> bool:
        """Whether the assumed rate lies outside the interval, and no alert has said so yet."""
        has_left = not self.lower <= self.assumed <= self.upper
        return has_left and not self.was_alerted

    def __str__(self) -> str:
        """Show the rate with its interval and what was assumed."""
        return (
            f"offers keep {self.value:.0%} of the churners [{self.lower:.0%}, {self.upper:.0%}], "
            f"the champion assumes {self.assumed:.0%}"
        )


class Evidence(BaseModel):
    """What a decision rests on; stored as JSON in the column ``evidence``."""

    model_config = ConfigDict(frozen=True)

    champion_version: int  # that was in effect
    delivered: int  # rows of the month
    quarantined: int
    faults: tuple[str, ...] = ()  # of the delivery as a whole
    shifts: dict[str, Shift] = {}  # of what the champion relies on; empty for a broken delivery
    weighted_psi: float | None = None  # over all features, by reliance; None for a broken delivery
    new_shifts: list[str] = []  # features to alert
    standing: dict[str, float] = {}  # PSI at the alert of each alerted shift that still stands
    gains: list[WindowGain] = []  # what a refit would have been worth, by window
    passed: list[str] = []  # features whose shift is over, where a refit would be worth it
    save_rate: SaveRate | None = None  # only where offers were made
    without_control: tuple[str, ...] = ()  # months whose labels say nothing about churn

    @property
    def best_window(self) -> WindowGain | None:
        """The window with the highest lower bound, which says most for a retraining, or None."""
        return max(self.gains, key=lambda gain: gain.lower, default=None)

    def to_json(self) -> str:
        """Return the text that is stored; what older rows do not know only where there is any."""
        facts = self.model_dump(by_alias=True)
        for name in ("faults", "save_rate", "without_control"):
            if not facts[name]:
                del facts[name]
        return json.dumps(facts)


@dataclass(frozen=True)
class Decision:
    """What an as-of month calls for."""

    as_of: pd.Timestamp
    action: str  # one of DECISIONS; stored as ``decision``
    diagnosis: str  # what moved, if anything
    reason: str  # one sentence with its numbers; stored as ``why``
    evidence: Evidence

    @property
    def labels_from(self) -> pd.Timestamp | None:
        """First labelled month that decided, with ``retrain`` the first to train on."""
        best = self.evidence.best_window
        return None if best is None else pd.Timestamp(best.labels_from)

    @property
    def labels_to(self) -> pd.Timestamp | None:
        """Last labelled month that decided; None when no label was news to the champion."""
        best = self.evidence.best_window
        return None if best is None else pd.Timestamp(best.labels_to)

    def to_frame(self) -> pd.DataFrame:
        """Return one row with ``COLUMNS``, as it is stored in ``decisions``."""
        row = {
            "as_of_date": self.as_of,
            "feature_month": self.as_of,
            "labels_from": self.labels_from,
            "labels_to": self.labels_to,
            "decision": self.action,
            "diagnosis": self.diagnosis,
            "why": self.reason,
            "evidence": self.evidence.to_json(),
        }
        dates = dict.fromkeys(["labels_from", "labels_to"], "datetime64[ns]")
        return pd.DataFrame([row], columns=COLUMNS).astype(dates)

    @classmethod
    def from_row(cls, row: Any) -> Decision:
        """Read a decision from a row of ``decisions``, as ``itertuples`` gives it."""
        evidence = Evidence.model_validate_json(row.evidence)
        return cls(row.as_of_date, row.decision, row.diagnosis, row.why, evidence)
