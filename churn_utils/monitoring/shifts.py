"""Which shifts are news: alert a feature once, and again only after it has moved much further."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from churn_utils.monitoring import drift_tests
from churn_utils.monitoring.champion import Champion
from churn_utils.monitoring.decision import Evidence, Limits, Shift


@dataclass(frozen=True)
class ObservedShifts:
    """What moved in a month; the fields are those of ``Evidence``."""

    shifts: dict[str, Shift]
    weighted_psi: float | None
    new_shifts: list[str]
    standing: dict[str, float]


def read_standing(
    history: pd.DataFrame | None, as_of: pd.Timestamp, champion_version: int
) -> dict[str, float]:
    """Return the PSI at the alert, by feature, of what stood at the last decision before a month.

    ``history`` holds rows of ``decisions``; what was alerted under another champion does not count.
    """
    if history is None:
        return {}
    earlier = history[history["as_of_date"] < as_of]
    if earlier.empty:
        return {}
    last = earlier.sort_values("as_of_date").iloc[-1]
    evidence = Evidence.model_validate_json(last["evidence"])
    return evidence.standing if evidence.champion_version == champion_version else {}


def gather_shifts(
    current: pd.DataFrame, champion: Champion, standing: dict[str, float], limits: Limits
) -> ObservedShifts:
    """Compare a month's features and scores with the champion's training data.

    ``current`` has rows with all model inputs, none when the delivery was broken; ``standing`` is
    what ``read_standing`` returned.
    """
    if current.empty:
        return ObservedShifts({}, None, [], standing)
    psi = measure_relied_on(champion.with_score(current), champion, limits)
    new_shifts = list_new(psi, standing, limits)
    reliance = champion.feature_reliance
    shifts = {}
    weighted_psi = 0.0
    for name, value in psi.items():
        share = float(reliance.get(name, 1.0))  # 1 for its own score
        shifts[name] = Shift(psi=round(value, 4), feature_reliance=round(share, 4))
        weighted_psi += value * reliance.get(name, 0.0)
    still_standing = update_standing(psi, new_shifts, standing, limits)
    return ObservedShifts(shifts, round(weighted_psi, 5), new_shifts, still_standing)


def measure_relied_on(rows: pd.DataFrame, champion: Champion, limits: Limits) -> dict[str, float]:
    """Return ``{feature: PSI beyond chance}`` of each feature that the champion relies on.

    Its own score is measured too where the rows carry it.
    """
    reliance = champion.feature_reliance
    names = reliance.index[reliance >= limits.reliance].tolist()
    if drift_tests.SCORE in rows:
        names.append(drift_tests.SCORE)
    shift = drift_tests.measure_shift(rows[names], champion.reference[names])
    return shift["psi_beyond_chance"].to_dict()


def list_new(psi: dict[str, float], standing: dict[str, float], limits: Limits) -> list[str]:
    """Return the features to alert: moved, and not yet alerted at about this size."""
    new = []
    for name, value in psi.items():
        if value < limits.psi:
            continue
        alerted = standing.get(name)
        if alerted is None or value >= max(2 * alerted, alerted + limits.psi):
            new.append(name)
    return new


def update_standing(
    psi: dict[str, float], new_shifts: list[str], standing: dict[str, float], limits: Limits
) -> dict[str, float]:
    """Return ``{feature: PSI at the alert}`` of every shift that stands after this month.

    A shift stands until less than half of the limit is left of it. What moves along with an alerted
    feature belongs to the same alert: chance must not lift it over the limit a month later.
    """
    visible = {name: value for name, value in psi.items() if value >= limits.psi / 2}
    kept = {name: alerted for name, alerted in standing.items() if name in visible}
    if not new_shifts:
        return kept
    alerted_now = {name: psi[name] for name in new_shifts}
    return {**visible, **kept, **alerted_now}


def list_passed(then: dict[str, float], now: dict[str, Shift], limits: Limits) -> list[str]:
    """Return the features that had moved, by the PSI of the newest labelled month, and are back."""
    passed = []
    for name, psi in then.items():
        if psi >= limits.psi and now[name].psi < limits.psi / 2:
            passed.append(name)
    return passed
