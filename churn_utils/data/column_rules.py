"""Rules between the columns of a customer, for the data contract and the API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from churn_utils.data.columns import INTERNET_OPTIONS

# Bounds of total charges / (tenure x monthly charges). IBM's file: 0.69 to 1.57.
TOTAL_TO_EXPECTED = (0.3, 3.0)


@dataclass(frozen=True)
class ColumnRule:
    """A rule between columns.

    Attributes:
        column: the column that a broken rule is blamed on.
        compared_with: the other columns; they stand before ``column`` in ``COLUMNS``.
        reason: what is wrong with ``column`` when the rule is broken.
        is_broken: takes the value of ``column`` and of each compared column, either of one row or
            as whole Series; a missing number is NaN. Missing values break no rule but one that is
            about them.
    """

    column: str
    compared_with: tuple[str, ...]
    reason: str
    is_broken: Callable[..., Any]


def _is_unbilled(total_charges, tenure):
    """Tell whether there is no bill although a month has passed."""
    is_missing = total_charges != total_charges  # only NaN differs from itself
    return (tenure > 0) & is_missing


def _is_implausible(total_charges, tenure, monthly_charges):
    """Tell whether the bills so far are far from tenure x monthly charges."""
    expected = tenure * monthly_charges
    least, most = TOTAL_TO_EXPECTED
    is_too_low = total_charges < least * expected
    is_too_high = total_charges > most * expected
    return (expected > 0) & (is_too_low | is_too_high)


def _contradicts_phone(multiple_lines, phone_service):
    """Tell whether lines and phone service do not agree that there is no phone."""
    says_no_phone = multiple_lines == "No phone service"
    has_no_phone = phone_service == "No"
    return says_no_phone != has_no_phone


def _contradicts_internet(option, internet_service):
    """Tell whether an option and internet service do not agree that there is no internet."""
    says_no_internet = option == "No internet service"
    has_no_internet = internet_service == "No"
    return says_no_internet != has_no_internet


RULES = (
    ColumnRule(
        "multiple_lines", ("phone_service",), "contradicts phone_service", _contradicts_phone
    ),
    *(
        ColumnRule(
            name, ("internet_service",), "contradicts internet_service", _contradicts_internet
        )
        for name in INTERNET_OPTIONS
    ),
    ColumnRule("total_charges", ("tenure",), "is blank although tenure is not 0", _is_unbilled),
    ColumnRule(
        "total_charges",
        ("tenure", "monthly_charges"),
        f"is not {TOTAL_TO_EXPECTED[0]} to {TOTAL_TO_EXPECTED[1]} times tenure x monthly charges",
        _is_implausible,
    ),
)
