"""Records of a monthly decision: limits, evidence, and its row in the table ``decisions``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict

from churn_utils.monitoring.retraining_value import WindowGain

OK, ALERT, QUARANTINE, RETRAIN = "ok", "alert", "quarantine", "retrain"
DECISIONS = (OK, ALERT, QUARANTINE, RETRAIN)

# Diagnoses
NONE = "none"
DATA_QUALITY = "data quality"
COVARIATE = "covariate"
PRIOR = "prior"
CONCEPT = "concept"

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
    """Where evidence becomes a decision; set by judgement before ``benchmarks/drill.py`` first ran.

    Attributes:
        quarantined_share: of a delivery; fewer bad rows cannot move what the rest shows.
        psi: beyond chance; the usual bound of a moderate shift.
        reliance: the champion's reliance on a feature from which its shift matters.
        gain_usd: per customer and month that a retraining must surely bring.
        confidence: of the gain's interval; two-sided, as two windows are looked at each month.
        prior_share: of the gain that moving the intercept must bring to be called a prior shift.
    """

    quarantined_share: float = 0.05
    psi: float = 0.1
    reliance: float = 0.01
    gain_usd: float = 5.0
    confidence: float = 0.98
    prior_share: float = 0.8


@dataclass(frozen=True)
class Delivery:
    """How many rows of a snapshot arrived, and how many of them broke the contract."""

    delivered: int
    quarantined: int


class Shift(BaseModel):
    """Shift of one feature.

    Attributes:
        psi: beyond chance.
        use: share of the champion's reliance on it; 1 for the champion's own score.
    """

    model_config = ConfigDict(frozen=True)

    psi: float
    use: float


class Evidence(BaseModel):
    """What a decision rests on; stored as JSON in the column ``evidence``.

    Attributes:
        champion_version: the champion that was in effect.
        delivered, quarantined: rows of the month's delivery.
        shifts: by feature that the champion relies on; empty for a broken delivery.
        weighted_psi: PSI of all features, weighted by reliance; None for a broken delivery.
        new_shifts: features to alert.
        standing: PSI at the alert of each shift that was alerted and still stands.
        gains: what a refit would have been worth, by window.
        passed: features whose shift is over, where a refit would have been worth it.
    """

    model_config = ConfigDict(frozen=True)

    champion_version: int
    delivered: int
    quarantined: int
    shifts: dict[str, Shift] = {}
    weighted_psi: float | None = None
    new_shifts: list[str] = []
    standing: dict[str, float] = {}
    gains: list[WindowGain] = []
    passed: list[str] = []

    @property
    def best_window(self) -> WindowGain | None:
        """The window with the highest lower bound, which says most for a retraining, or None."""
        return max(self.gains, key=lambda gain: gain.lower, default=None)

    def to_json(self) -> str:
        """Return the text that is stored."""
        return json.dumps(self.model_dump(by_alias=True))


@dataclass(frozen=True)
class Decision:
    """What an as-of month calls for.

    Attributes:
        as_of: the month.
        action: one of ``DECISIONS``; stored as ``decision``.
        diagnosis: what moved, if anything.
        reason: one sentence with its numbers; stored as ``why``.
        evidence: what the decision rests on.
    """

    as_of: pd.Timestamp
    action: str
    diagnosis: str
    reason: str
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
