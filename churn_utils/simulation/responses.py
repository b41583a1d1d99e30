"""How the simulated customers respond to a retention offer; no model is told of it.

Most who would have churned are kept with a probability of their own, some never are, and for a few
the contact itself is a reason to leave. It follows from the template's attributes and from a draw
for each customer, so a customer responds alike in every month.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, ndtri

from churn_utils.simulation.scenarios import Simulation

NEVER_SAVED = 0.15  # share of the customers that no offer keeps
PROVOKED = 0.04  # share of the customers that the contact may drive away
CHURN_WHEN_PROVOKED = 0.3  # probability that it does
# Log-odds of being kept. Set so that an offer keeps about half of those who would churn.
USUAL = 0.5
WITH_CONTRACT, LONG_TENURE, ELECTRONIC_CHECK = 0.8, 0.5, -0.4
SPREAD = 1.0  # standard deviation of what no attribute shows
LONG_TENURE_MONTHS = 24
STREAM = 1_000_003  # keeps these random numbers apart from those of the months
GOLDEN_RATIO = 0.618_033_988_75  # its multiples are spread evenly over 0 to 1


class Responses(NamedTuple):
    """How customers respond to an offer, each of shape (slots,)."""

    saved: np.ndarray  # probability that a customer who would churn stays
    provoked: np.ndarray  # probability that one who would stay churns


def usual_log_odds(templates: pd.DataFrame) -> np.ndarray:
    """Return the log-odds of being kept that follow from the attributes, shape (templates,)."""
    has_contract = templates["contract"] != "Month-to-month"
    stayed_long = templates["tenure"] > LONG_TENURE_MONTHS
    pays_by_check = templates["payment_method"] == "Electronic check"
    log_odds = (
        USUAL
        + WITH_CONTRACT * has_contract
        + LONG_TENURE * stayed_long
        + ELECTRONIC_CHECK * pays_by_check
    )
    return log_odds.to_numpy()


def find_responses(
    usual: np.ndarray, slots: np.ndarray, joined: np.ndarray, simulation: Simulation
) -> Responses:
    """Return how the customers of consecutive slots respond to an offer.

    Args:
        usual: log-odds of the templates, as ``usual_log_odds`` returns them.
        slots: numbers of the slots.
        joined: month in which the customer of each slot joined.
        simulation: its seed decides; with a fixed ``save_rate`` all respond alike, and the contact
            drives none away.
    """
    if simulation.save_rate is not None:
        return Responses(np.full(len(slots), simulation.save_rate), np.zeros(len(slots)))
    stream = np.random.SeedSequence([simulation.seed, STREAM])
    generator = np.random.Generator(np.random.Philox(stream).advance(int(slots[0])))
    by_slot = generator.random((len(slots), 4))
    by_customer = (by_slot + GOLDEN_RATIO * joined[:, None]) % 1
    unseen, never, provoked, _ = by_customer.T
    log_odds = usual[slots % len(usual)] + SPREAD * ndtri(unseen)
    return Responses(
        saved=np.where(never < NEVER_SAVED, 0.0, expit(log_odds)),
        provoked=np.where(provoked < PROVOKED, CHURN_WHEN_PROVOKED, 0.0),
    )


def decide_churn(without_offer: np.ndarray, response: Responses, draw: np.ndarray) -> np.ndarray:
    """Return whether customers churn after an offer, from whether they would without; bool."""
    is_kept = draw < response.saved
    is_driven_away = draw < response.provoked
    return np.where(without_offer, ~is_kept, is_driven_away)


def probability_with_offer(without_offer: np.ndarray, response: Responses) -> np.ndarray:
    """Return the churn probability after an offer, from that without one."""
    return without_offer * (1 - response.saved) + (1 - without_offer) * response.provoked
