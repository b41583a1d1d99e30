"""Simulated today as the API sees it, and the age of features on that date."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache


@dataclass(frozen=True)
class FeatureClock:
    """Simulated today: the setting ``CHURN_TODAY``, else the date of the newest features seen.

    Attributes:
        setting: today as it was set, ``YYYY-MM-DD``; empty if it follows the features.
        newest_seen: date of the newest features so far, ``YYYY-MM-DD``; empty before the first.
            It outlives the features: a store that lost them does not turn the clock back.
    """

    setting: str = ""
    newest_seen: str = ""

    @property
    def today(self) -> str:
        """Today as ``YYYY-MM-DD``; empty without a setting and before any features were seen."""
        return self.setting or self.newest_seen

    @property
    def days_ahead(self) -> int:
        """Days by which the newest features are later than today; above 0 only if it is set."""
        if not self.newest_seen:
            return 0
        return _count_days(self.today, self.newest_seen)

    @property
    def age_of_newest(self) -> float:
        """Age in days of the newest features; not a number before there were any."""
        if not self.newest_seen:
            return float("nan")
        return self.age_of(self.newest_seen)

    def age_of(self, snapshot_date: str) -> int:
        """Return the days from a snapshot to today, 0 for a snapshot of the future."""
        return _count_days(snapshot_date, self.setting or self.newest_seen)

    def see(self, newest: str) -> FeatureClock:
        """Return the clock after the store said of which date its newest features are."""
        return replace(self, newest_seen=newest) if newest else self


@lru_cache(maxsize=1024)  # every prediction needs the age of its features
def _count_days(first: str, second: str) -> int:
    """Return the days from one date to another, 0 if the second is not later."""
    days = (date.fromisoformat(second) - date.fromisoformat(first)).days
    return max(days, 0)
