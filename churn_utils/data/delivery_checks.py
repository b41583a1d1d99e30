"""Check whether a delivery as a whole looks like a month of the same customers.

The contract judges each row by itself. Here a delivery is compared with the month before it: every
row may be sound while half of them are missing, or while ids no longer belong to their rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from churn_utils.data.columns import BY_NAME, COLUMNS, CUSTOMER_COLUMNS, CUSTOMER_ID

CATEGORICAL = tuple(
    column.name for column in COLUMNS if column.categories and column.name in CUSTOMER_COLUMNS
)
# Of columns with different categories the contract rejects the rows.
EXCHANGEABLE = tuple(
    (first, second)
    for first, second in combinations(CATEGORICAL, 2)
    if BY_NAME[first].categories == BY_NAME[second].categories
)
TENURE_BANDS_MONTHS = (0, 6, 12, 24, 48, np.inf)


@dataclass(frozen=True)
class Limits:
    """Where a delivery no longer looks like a month; set before the drill of bad deliveries ran.

    Attributes:
        fewest_rows, most_rows: share of the rows of the month before.
        segment_rows: of the month before, from which a segment must appear again; fewer may all
            leave by chance.
        segment_share: of the share that a segment had in the month before, below which it counts as
            missing.
        dominant_share: of a category in a column, from which it has taken all.
        returned: share of the customers of the month before who must be in the delivery.
        unchanged: share of the returned customers whose fixed attributes must fit.
        bills: least and most growth of the total charges, in monthly charges per month.
        exchange_margin: by how much two columns must fit to each other's past better than to their
            own to be called exchanged.
        fewest_returned: returned customers from which they are compared at all.
    """

    fewest_rows: float = 0.8
    most_rows: float = 1.25
    segment_rows: int = 50
    segment_share: float = 0.1
    dominant_share: float = 0.999
    returned: float = 0.25
    unchanged: float = 0.9
    bills: tuple[float, float] = (0.5, 2.0)
    exchange_margin: float = 0.1
    fewest_returned: int = 50


@dataclass(frozen=True)
class DeliveryFault:
    """One way in which a delivery does not look like a month.

    Attributes:
        check: name of the check.
        value: the figure that was found.
        limit: what it may be.
        reason: one sentence with the figures.
    """

    check: str
    value: float
    limit: float
    reason: str


def check_delivery(
    delivered: pd.DataFrame,
    before: pd.DataFrame,
    months_between: int = 1,
    rows_delivered: int | None = None,
    limits: Limits | None = None,
) -> list[DeliveryFault]:
    """Compare a delivery with the customers of the last accepted month.

    Args:
        delivered: rows that passed the contract, with the columns ``CUSTOMER_COLUMNS``, typed.
        before: rows of the last accepted month, in the same columns.
        months_between: months from that month to the delivered one.
        rows_delivered: with those that the contract rejected; by default there are none.
        limits: where a difference becomes a fault.

    Returns:
        What is wrong, the plainest cause first; empty if the delivery looks like a month.
    """
    limits = limits or Limits()
    faults = [
        _check_volume(rows_delivered or len(delivered), len(before), limits),
        *_check_segments(delivered, before, limits),
        *_check_dominance(delivered, before, limits),
        *_check_returned(delivered, before, months_between, limits),
    ]
    return [fault for fault in faults if fault is not None]


def find_identical_month(delivered: pd.DataFrame, months: dict[str, pd.DataFrame]) -> str | None:
    """Return the name of a month with the same rows as the delivery, None if there is none.

    Args:
        delivered: rows with ``CUSTOMER_COLUMNS``, typed.
        months: accepted rows of earlier months by name, in the same columns.
    """
    wanted = digest_rows(delivered)
    for name, rows in months.items():
        if len(rows) == len(delivered) and digest_rows(rows) == wanted:
            return name
    return None


def digest_rows(rows: pd.DataFrame) -> str:
    """Return a digest of rows with ``CUSTOMER_COLUMNS`` that does not depend on their order."""
    hashes = pd.util.hash_pandas_object(rows[list(CUSTOMER_COLUMNS)], index=False)
    in_order = np.sort(hashes.to_numpy())
    return hashlib.sha256(in_order.tobytes()).hexdigest()


def _check_volume(rows: int, rows_before: int, limits: Limits) -> DeliveryFault | None:
    """Compare the number of rows with that of the month before."""
    share = rows / rows_before
    if limits.fewest_rows <= share <= limits.most_rows:
        return None
    limit = limits.fewest_rows if share < limits.fewest_rows else limits.most_rows
    reason = (
        f"{rows:,} rows, {rows_before:,} the month before ({share:.0%}; "
        f"{limits.fewest_rows:.0%} to {limits.most_rows:.0%} are expected)"
    )
    return DeliveryFault("volume", share, limit, reason)


def _check_segments(
    delivered: pd.DataFrame, before: pd.DataFrame, limits: Limits
) -> list[DeliveryFault]:
    """Find segments of the month before that are (nearly) missing."""
    faults = []
    segments_before = _list_segments(before)
    segments_now = _list_segments(delivered)
    for name in segments_before:
        counts_before = segments_before[name].value_counts()
        counts_now = segments_now[name].value_counts()
        for segment, rows_before in counts_before.items():
            if rows_before < limits.segment_rows:
                continue
            rows_now = int(counts_now.get(segment, 0))
            share_before = rows_before / len(before)
            share_now = rows_now / max(len(delivered), 1)
            if share_now < limits.segment_share * share_before:
                reason = (
                    f"{name} {segment!r} has {rows_now:,} rows, {rows_before:,} the month before "
                    f"(at least {limits.segment_share:.0%} of its share is expected)"
                )
                relative = share_now / share_before
                fault = DeliveryFault("segment", relative, limits.segment_share, reason)
                faults.append(fault)
    return faults


def _list_segments(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Return the segment of each row by name: categories, bands of tenure, and two together."""
    segments = {name: rows[name] for name in CATEGORICAL}
    segments["senior_citizen"] = rows["senior_citizen"].astype(str)
    bands = pd.cut(rows["tenure"], TENURE_BANDS_MONTHS, include_lowest=True)
    segments["tenure in months"] = bands.astype(str)
    segments["contract and internet_service"] = (
        rows["contract"].astype(str) + " / " + rows["internet_service"].astype(str)
    )
    return segments


def _check_dominance(
    delivered: pd.DataFrame, before: pd.DataFrame, limits: Limits
) -> list[DeliveryFault]:
    """Find categories that (nearly) all rows have and did not have the month before."""
    faults = []
    for name in CATEGORICAL:
        share_now = delivered[name].value_counts(normalize=True).head(1)
        if share_now.empty or share_now.iloc[0] < limits.dominant_share:
            continue
        category = share_now.index[0]
        share_before = float((before[name] == category).mean())
        if share_before < limits.dominant_share:
            reason = (
                f"{name} is {category!r} in {share_now.iloc[0]:.1%} of the rows, "
                f"{share_before:.1%} the month before"
            )
            value = float(share_now.iloc[0])
            faults.append(DeliveryFault("dominance", value, limits.dominant_share, reason))
    return faults


def _check_returned(
    delivered: pd.DataFrame, before: pd.DataFrame, months_between: int, limits: Limits
) -> list[DeliveryFault]:
    """Compare the customers who are in both months with themselves."""
    pairs = before[list(CUSTOMER_COLUMNS)].merge(
        delivered[list(CUSTOMER_COLUMNS)], on=CUSTOMER_ID, suffixes=("_before", "_now")
    )
    possible = min(len(delivered), len(before))
    share = len(pairs) / max(possible, 1)
    if share < limits.returned:
        reason = (
            f"{len(pairs):,} of {len(before):,} customers of the month before are in the delivery "
            f"({share:.0%} of the {possible:,} that could be; at least {limits.returned:.0%} "
            "are expected)"
        )
        return [DeliveryFault("returned", share, limits.returned, reason)]
    if len(pairs) < limits.fewest_returned:
        return []
    faults = []
    for check, (description, fits) in _list_continuity(months_between, limits).items():
        share = float(fits(pairs).mean())
        if share < limits.unchanged:
            reason = (
                f"of {len(pairs):,} returned customers {share:.1%} {description} "
                f"(at least {limits.unchanged:.0%} are expected)"
            )
            faults.append(DeliveryFault(check, share, limits.unchanged, reason))
    return faults + _check_exchanged(pairs, limits)


def _list_continuity(
    months_between: int, limits: Limits
) -> dict[str, tuple[str, Callable[[pd.DataFrame], pd.Series]]]:
    """Return by check what must hold from month to month: in words, and as a test of pairs."""
    least, most = limits.bills

    def tenure_grew(pairs: pd.DataFrame) -> pd.Series:
        return pairs["tenure_now"] - pairs["tenure_before"] == months_between

    def gender_stayed(pairs: pd.DataFrame) -> pd.Series:
        return pairs["gender_now"] == pairs["gender_before"]

    def seniority_stayed(pairs: pd.DataFrame) -> pd.Series:
        return pairs["senior_citizen_now"] >= pairs["senior_citizen_before"]

    def charges_grew(pairs: pd.DataFrame) -> pd.Series:
        total_now = pairs["total_charges_now"].fillna(0.0)
        total_before = pairs["total_charges_before"].fillna(0.0)
        bills = (total_now - total_before) / (months_between * pairs["monthly_charges_now"])
        return bills.between(least, most)

    months = f"{months_between} month{'s' if months_between > 1 else ''}"
    return {
        "tenure": (f"have a tenure that grew by {months}", tenure_grew),
        "gender": ("kept their gender", gender_stayed),
        "senior_citizen": ("kept senior status once they had it", seniority_stayed),
        "total_charges": (
            f"have total charges that grew by {least:g} to {most:g} bills a month",
            charges_grew,
        ),
    }


def _check_exchanged(pairs: pd.DataFrame, limits: Limits) -> list[DeliveryFault]:
    """Find two columns whose values stand in each other's place."""
    own_agreement = {name: _agreement(pairs, name, name) for name in CATEGORICAL}
    faults = []
    for first, second in EXCHANGEABLE:
        own = own_agreement[first] + own_agreement[second]
        crossed = _agreement(pairs, first, second) + _agreement(pairs, second, first)
        margin = (crossed - own) / 2
        if margin > limits.exchange_margin:
            reason = (
                f"{first} and {second} seem to be exchanged: {crossed / 2:.1%} of the values of "
                f"returned customers fit to the other column's past, {own / 2:.1%} to their own"
            )
            faults.append(DeliveryFault("exchanged", margin, limits.exchange_margin, reason))
    return faults


def _agreement(pairs: pd.DataFrame, now: str, before: str) -> float:
    """Return the share of returned customers whose value now equals a column's value before."""
    is_equal = pairs[f"{now}_now"] == pairs[f"{before}_before"]
    return float(is_equal.mean())
