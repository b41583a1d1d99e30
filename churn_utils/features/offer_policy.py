"""How a home makes offers: not at all, or with a control group that is selected and gets none.

Importing this module is cheap: the command line and the API need no table for it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from churn_utils import settings
from churn_utils.data.files import write_atomically
from churn_utils.data.integrity import spread_text
from churn_utils.errors import DataError, UsageError

NONE, MADE = "none", "made"  # modes
TREATED, CONTROL, NOT_SELECTED = "treated", "control", "not_selected"  # groups
DEFAULT_SHARE = 0.2  # with it a change is found nearly as soon as without offers (drill-offers)
ASSUMED_SAVE_RATE = 0.5  # of the first champion where offers are made, until it has been measured
FILE = "offers.json"


@dataclass(frozen=True)
class OfferPolicy:
    """How decisions are carried out: selected customers get the offer, but for a control group.

    Attributes:
        control_share: share of the selected customers who get no offer.
        salt: decides, with a customer's id, who they are.

    Raises:
        UsageError: a share of the control group that is no number from 0 to below 1.
    """

    control_share: float = DEFAULT_SHARE
    salt: str = "control group"

    def __post_init__(self) -> None:
        """Refuse a share that leaves no offer, or is no share."""
        if not 0 <= self.control_share < 1:
            raise UsageError(
                f"the share of the control group is {self.control_share}; valid are numbers from 0 "
                f"to below 1, such as {DEFAULT_SHARE}. With 1 no offer would be made."
            )

    def assign(self, customer_id: str, is_selected: bool) -> str:
        """Return the group of a customer: the one rule of batch and API.

        Who of the selected is control follows from the SHA-256 of the salt and the id, so a
        customer stays on one side.
        """
        if not is_selected:
            return NOT_SELECTED
        is_control = spread_text(f"{self.salt} {customer_id}") < self.control_share
        return CONTROL if is_control else TREATED


def make_policy(offers: str, control_share: float, seed: int) -> OfferPolicy | None:
    """Return the policy of a mode, ``none`` or ``made``; None where no offers are made.

    Raises:
        UsageError: another mode, or a share that is no number from 0 to below 1.
    """
    if offers not in (NONE, MADE):
        raise UsageError(f"OFFERS is {offers!r}; valid are {NONE} and {MADE}.")
    return OfferPolicy(control_share, salt=f"seed {seed}") if offers == MADE else None


def path_of_policy() -> Path:
    """Return the file in which this home keeps how it makes offers."""
    return settings.home() / FILE


def read_policy() -> OfferPolicy | None:
    """Return how this home makes offers; None if it makes none.

    Raises:
        DataError: the file that says so is damaged.
    """
    path = path_of_policy()
    if not path.exists():
        return None
    try:
        stored = json.loads(path.read_bytes())
        return OfferPolicy(float(stored["control_share"]), str(stored["salt"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}, which says how this home makes offers, is damaged: write "
            f"{json.dumps(asdict(OfferPolicy()))} to it if that is right, or start again with "
            "run_all.py --fresh."
        ) from error


def bind_policy(policy: OfferPolicy | None) -> None:
    """Write how this home makes offers, or compare it with what is there.

    Raises:
        UsageError: the home makes offers in another way, or has scored months without any.
    """
    from churn_utils.data import tables  # which reading a policy does not need

    standing = read_policy()
    if standing == policy:
        return
    if standing is None and policy is not None and not tables.exists("predictions"):
        write_atomically(path_of_policy(), json.dumps(asdict(policy)))
        return
    raise UsageError(
        f"{settings.home()} {_describe(standing)}, and is now asked to work as one that "
        f"{_describe(policy)}. Use another home (run_all.py --home DIR), or start again with "
        "run_all.py --fresh."
    )


def _describe(policy: OfferPolicy | None) -> str:
    if policy is None:
        return "makes no offers"
    return f"makes offers with a control group of {policy.control_share:.0%}"
