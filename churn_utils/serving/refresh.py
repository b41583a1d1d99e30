"""What the renewal of the API watches: the registry and the tables, and the log that a trial is judged on."""

from __future__ import annotations

import time

import pandas as pd

from churn_utils.data import tables
from churn_utils.registry import versions
from churn_utils.serving import ab_test

WATCHED = ("customer_features", "deployments", "churn_labels")
SETTLED_NS = 1_000_000_000
RETRY_SECONDS = (
    10.0  # until what was refused is looked at again: files that are put back move no marker
)
JUDGE_SECONDS = (
    30.0  # at least, between two looks at a trial's answers: the log changes every other second
)
JUDGE_SHARE = 0.05  # of the time at most goes into them, however large the log is


def read_marker() -> tuple[int, ...] | None:
    """What changes whenever a table or the registry does; None where the registry cannot be watched so."""
    registered = versions.read_change_marker()
    if registered is None:
        return None
    return (*registered, *(tables.read_change_marker(name) for name in WATCHED))


def is_settled(marker: tuple[int, ...]) -> bool:
    """Tell whether a change that is a moment old cannot be followed by another within the same tick of the clock."""
    return time.time_ns() - max(marker) > SETTLED_NS


class Refusals:
    """What was refused, so that it is told once however often it is looked at again."""

    def __init__(self) -> None:
        """Start with nothing refused."""
        self._told, self._looked_at = None, 0.0

    def is_new(self, version: int | None, reason: str) -> bool:
        """Note that a version was refused, and tell whether that was not known yet."""
        told, self._told, self._looked_at = self._told, (version, reason), time.monotonic()
        return told != self._told

    def are_due(self) -> bool:
        """Tell whether what was refused should be looked at again."""
        return time.monotonic() > self._looked_at + RETRY_SECONDS


class Judge:
    """Judges a running split when answers were logged, and not too often."""

    def __init__(self) -> None:
        """Start with nothing judged."""
        self._judged, self._judge_after = (
            0,
            0.0,
        )  # state of the log that was judged, and when to look again

    def is_due(self, trial: ab_test.Trial | None) -> bool:
        """Tell whether answers were logged since the trial was last judged, some time ago."""
        if trial is None or trial.mode == ab_test.SHADOW or time.monotonic() < self._judge_after:
            return False
        return tables.read_change_marker("inference_log") != self._judged

    def judge(self, trial: ab_test.Trial, today: pd.Timestamp) -> str:
        """Judge a trial, stop it if it is clearly worse, and return the verdict."""
        self._judged, started = tables.read_change_marker("inference_log"), time.monotonic()
        verdict = ab_test.stop_if_worse(trial, today)["verdict"]
        ended = time.monotonic()
        self._judge_after = ended + max(JUDGE_SECONDS, (ended - started) / JUDGE_SHARE)
        return verdict
