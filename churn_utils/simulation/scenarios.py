"""Which simulated world a home holds: one scenario, one seed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import pandas as pd

from churn_utils import settings
from churn_utils.data.files import write_atomically
from churn_utils.errors import UsageError
from churn_utils.simulation import customers


@dataclass(frozen=True)
class World:
    """What the simulated world does; a home holds one."""

    scenario: str = "price_rise"
    seed: int = settings.SEED
    start_month: int = customers.START_MONTH
    slots: int = customers.SLOTS

    def __post_init__(self) -> None:
        """Refuse a world that cannot be simulated; nothing is simulated yet."""
        customers.iterate_month(0, self.seed, self.scenario, self.start_month, self.slots)

    @property
    def description(self) -> str:
        """What the scenario changes."""
        return customers.SCENARIOS[self.scenario]

    def simulate(self, month: int) -> pd.DataFrame:
        """Customers of a month as they truly are (``simulator.simulate_month``)."""
        return customers.simulate_month(
            month, self.seed, self.scenario, self.start_month, self.slots
        )

    def deliver(self, as_of_month: int) -> dict[int, pd.DataFrame]:
        """Snapshots that arrive at an as-of month, by the month that they describe (``simulator.deliver_at``)."""
        return customers.deliver_at(
            as_of_month, self.seed, self.scenario, self.start_month, self.slots
        )


def hold_world(world: World) -> World:
    """Note which world this home holds, and refuse another one.

    Raises:
        UsageError: the home holds another world; the message names both and the remedy.
    """
    path = settings.home() / "world.json"
    wanted = asdict(world)
    if not path.exists():
        write_atomically(path, json.dumps(wanted))
    held = json.loads(path.read_text())
    if held != wanted:
        raise UsageError(
            f"{settings.home()} holds the world {held}, not {wanted}. Set SCENARIO and SEED to it, or take another "
            "home (CHURN_HOME, run_all.py --home DIR, run_all.py --fresh)."
        )
    return world
