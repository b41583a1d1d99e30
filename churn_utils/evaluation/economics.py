"""What a retention offer costs and earns: costs, threshold, decision, expected value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from churn_utils.errors import ChurnError

OFFER, NO_OFFER = "offer", "no_offer"


@dataclass(frozen=True)
class Economics:
    """What a retention offer costs and what a churner who stays is worth, in USD per customer.

    Attributes:
        offer_cost_usd: paid for each customer who gets the offer.
        churner_value_usd: of a churner who stays.
        save_rate: share of churners that the offer keeps, 0 to 1; 1 where no offer is made.
    """

    offer_cost_usd: float = 500.0
    churner_value_usd: float = 2000.0
    save_rate: float = 1.0

    def __post_init__(self) -> None:
        """Refuse costs under which no decision could pay, or every one would."""
        if not 0 < self.offer_cost_usd < self.churner_value_usd < math.inf:
            raise ChurnError(
                f"offer_cost_usd is {self.offer_cost_usd} and churner_value_usd "
                f"{self.churner_value_usd}: the offer must cost more than 0 and less than the "
                "churner is worth."
            )
        if not self.offer_cost_usd / self.churner_value_usd < self.save_rate <= 1:
            raise ChurnError(
                f"save_rate is {self.save_rate}: an offer of {_in_usd(self.offer_cost_usd)} that "
                f"keeps {self.save_rate:.0%} of the churners, worth "
                f"{_in_usd(self.churner_value_usd)} each, never pays. Valid are rates above "
                f"{self.offer_cost_usd / self.churner_value_usd:.2f} up to 1."
            )

    @property
    def saved_value_usd(self) -> float:
        """Return what an offer to a churner is worth on average: value × save rate."""
        return self.churner_value_usd * self.save_rate

    @property
    def threshold(self) -> float:
        """Return the churn probability from which an offer pays: cost / (value × save rate)."""
        return self.offer_cost_usd / self.saved_value_usd

    def describe(self) -> str:
        """Return the costs in words, to the cent where there are any."""
        costs = (
            f"{_in_usd(self.offer_cost_usd)} an offer, {_in_usd(self.churner_value_usd)} a churner"
        )
        return costs if self.save_rate == 1 else f"{costs}, {self.save_rate:.0%} of them kept"

    def expected_value_usd(self, probability):
        """Return the expected value in USD of an offer at this churn probability."""
        return self.saved_value_usd * probability - self.offer_cost_usd


def _in_usd(amount: float) -> str:
    return f"{amount:,.2f}".removesuffix(".00") + " USD"


def decision_value_usd(
    churned: np.ndarray, treated: np.ndarray, economics: Economics
) -> np.ndarray:
    """Return the value in USD of each decision, shape (n,); without an offer it is 0.

    Args:
        churned: labels, 0 or 1, shape (n,).
        treated: whether the offer is made, shape (n,) or one value for all.
        economics: an offer to a churner earns value × save rate minus cost, to others it costs.
    """
    return treated * (churned * economics.saved_value_usd - economics.offer_cost_usd)


def value_of_deciding_usd(
    churned: np.ndarray,
    probability: np.ndarray,
    economics: Economics,
) -> np.ndarray:
    """Return ``decision_value_usd`` of offers from the threshold of ``economics`` on."""
    treated = probability >= economics.threshold
    return decision_value_usd(churned, treated, economics)


def decide(probability: Any, economics: Economics) -> tuple[Any, Any]:
    """Decide whether to make the offer: the one rule of batch and API.

    Args:
        probability: churn probability of one customer, or an array of shape (n,).
        economics: costs; the offer is made from their threshold on.

    Returns:
        The decision (``offer`` or ``no_offer``) and the expected value in USD of making the offer,
        whatever the decision; arrays of shape (n,) for an array.
    """
    expected_value_usd = economics.expected_value_usd(probability)
    pays = probability >= economics.threshold
    if isinstance(pays, np.ndarray):
        return np.where(pays, OFFER, NO_OFFER), expected_value_usd
    return (OFFER if pays else NO_OFFER), expected_value_usd
