"""The API's clock: simulated today, and how old features are."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache


@lru_cache(maxsize=1024)  # every prediction needs the age of its features
def _count_days(first: str, second: str) -> int:
    """Return the days from one date to another, 0 if the second is not later."""
    start = date.fromisoformat(first)
    end = date.fromisoformat(second)
    return max((end - start).days, 0)


@dataclass(frozen=True)
class FeatureClock:
    """Simulated today: the setting ``CHURN_TODAY``, else the date of the newest features seen.

    Both are dates, ``YYYY-MM-DD``. The newest one seen outlives the features: a store that lost
    them does not turn the clock back.
    """

    setting: str = ""  # empty if today follows the features
    newest_seen: str = ""  # empty before the first features

    @property
    def today(self) -> str:
        """Today as ``YYYY-MM-DD``; empty without a setting and before any features were seen."""
        return self.setting or self.newest_seen

    @property
    def days_ahead(self) -> int:
        """Days by which the newest features are later than today; above 0 only if it is set."""
        return _count_days(self.today, self.newest_seen) if self.newest_seen else 0

    @property
    def age_of_newest(self) -> float:
        """Age in days of the newest features; not a number before there were any."""
        return self.age_of(self.newest_seen) if self.newest_seen else math.nan

    def age_of(self, snapshot_date: str) -> int:
        """Return the days from a snapshot to today, 0 for a snapshot of the future."""
        return _count_days(snapshot_date, self.setting or self.newest_seen)

    def see(self, newest: str) -> FeatureClock:
        """Return the clock after the store said of which date its newest features are.

        An empty date changes nothing.
        """
        return replace(self, newest_seen=newest) if newest else self
