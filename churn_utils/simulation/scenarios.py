"""The scenarios of the simulated customers.

Importing this module is cheap: the command line lists the scenarios without loading the simulator.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

from churn_utils import settings
from churn_utils.errors import DataError

NO_CHANGE = "none"
SCENARIOS = {
    NO_CHANGE: "nothing changes",
    "price_rise": "fibre bills rise by 15 % and fibre customers churn more",
    "competitor": "customers with a contract churn more; no feature shows it",
    "mix_shift": (
        "a campaign moves 35 % to credit card and paperless billing; churn behaviour is unchanged"
    ),
    "data_bug": (
        "for one month upstream sends charges in cents and renames a category; "
        "corrected a month later"
    ),
}
START_MONTH = 3
SLOTS = 7043


@dataclass(frozen=True)
class Simulation:
    """Everything that a simulated month depends on besides its number.

    Raises:
        DataError: an unknown scenario, or a number that is out of range.
    """

    scenario: str = "price_rise"  # name in SCENARIOS
    seed: int = settings.SEED  # of all random numbers but those of month 0, IBM's extract
    start_month: int = START_MONTH  # of the change; for data_bug the only month sent wrongly
    slots: int = SLOTS  # customers; those beyond 7,043 are copies of IBM's
    save_rate: float | None = None  # share of churners an offer keeps; None: it varies (responses)

    def __post_init__(self) -> None:
        """Check the scenario's name and the ranges of the numbers."""
        if self.scenario not in SCENARIOS:
            raise DataError(
                f"there is no scenario {self.scenario!r}; the scenarios are {', '.join(SCENARIOS)}."
            )
        check_whole_number("seed", self.seed, least=0)
        check_whole_number("start_month", self.start_month, least=1)
        check_whole_number("slots", self.slots, least=1)
        if self.save_rate is not None and not 0 <= self.save_rate <= 1:
            raise DataError(f"save_rate is {self.save_rate!r}; valid are numbers from 0 to 1.")

    @property
    def description(self) -> str:
        """What the scenario changes, in words."""
        return SCENARIOS[self.scenario]

    def scenario_in(
        self,
        month: int,
    ) -> str:
        """Return the scenario in force in a month: ``none`` before the start month."""
        return self.scenario if month >= self.start_month else NO_CHANGE


def check_whole_number(
    name: str,
    value: int,
    least: int,
) -> None:
    """Raise a ``DataError`` if a value is no whole number of at least ``least``."""
    if not isinstance(value, Integral) or value < least:
        raise DataError(f"{name} is {value!r}; valid are whole numbers from {least} on.")
