"""Simulated today as the API sees it, and how old features are on it."""

from __future__ import annotations

import logging
from datetime import date

log = logging.getLogger(__name__)


class Calendar:
    """Today: the setting ``CHURN_TODAY``, else the day of the newest features that there were."""

    def __init__(self, today: str) -> None:
        """Start with the setting, empty where there is none."""
        self._given, self._newest = today, ""
        self._ages: tuple[str, dict[str, int]] = ("", {})

    @property
    def today(self) -> str:
        """Today as ``YYYY-MM-DD``; empty before any features were seen."""
        return self._given or self._newest

    @property
    def days_ahead(self) -> int:
        """Days by which the newest features are later than today: 0 unless the setting is behind."""
        return max(_days_between(self.today, self._newest), 0) if self._newest else 0

    @property
    def age_of_newest(self) -> float:
        """Age in days of the newest features; not a number before there were any."""
        return self.age_of(self._newest) if self._newest else float("nan")

    def note_newest(self, newest: str) -> None:
        """Take note of the day of the newest features; warn, once a day, where the setting is behind it."""
        if newest and newest != self._newest:
            self._newest = newest
            if self.days_ahead:
                log.warning(
                    "CHURN_TODAY is %s, but there are features of %s: they answer, and ages count from the "
                    "setting; correct it, or leave it out",
                    self._given,
                    newest,
                )

    def age_of(self, snapshot_date: str) -> int:
        """Days from a snapshot to today, never below 0; remembered until today changes."""
        today, ages = self._ages
        if today != self.today:
            today, ages = self._ages = (self.today, {})
        if snapshot_date not in ages:
            ages[snapshot_date] = max(_days_between(snapshot_date, today), 0)
        return ages[snapshot_date]


def _days_between(first: str, second: str) -> int:
    return (date.fromisoformat(second) - date.fromisoformat(first)).days
