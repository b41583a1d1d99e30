"""What one call of the pipeline is to do, and the command that asks for the same again."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import pandas as pd
from pydantic import BaseModel, ConfigDict

from churn_utils import settings
from churn_utils.errors import UsageError

Value = str | int | float | bool  # of a notebook's parameter
Values = dict[str, Value]  # by the parameter's name
Report = Callable[[str], None]  # takes a line of text

# Notebook parameters that a profile sets.
PROFILES: dict[str, Values] = {
    "full": {},
    "fast": {"N_TRIALS": 6, "DRAWS": 400, "LIST_SIZE": 50},
}
MOST_MONTHS = 120
DONE, FAILED, WRONG_USAGE, WAITING = 0, 1, 2, 3  # exit codes of run_all.py


class RunIdentity(BaseModel):
    """What a home holds one of: a scenario with its seed and profile."""

    model_config = ConfigDict(frozen=True)

    scenario: str
    seed: int
    profile: str

    @property
    def run(self) -> str:
        """Name of the run and of its reports folder, such as ``price_rise-seed42-full``."""
        return f"{self.scenario}-seed{self.seed}-{self.profile}"


@dataclass(frozen=True)
class Acceptance:
    """A month that a person lets pass although its delivery does not look like one."""

    month: str
    by: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """What one call of the pipeline is to do; the fields are the options of ``run_all.py``.

    Raises:
        UsageError: the last month or the seed is out of range.
    """

    scenario: str = "price_rise"
    months: int = 6
    seed: int = settings.SEED
    profile: str = "full"
    only: tuple[str, ...] = ()
    start: str | None = None
    overrides: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    approver: str | None = None
    manual_approval: bool = False
    fresh: bool = False
    acceptance: Acceptance | None = None  # of a delivery that was held back

    def __post_init__(self) -> None:
        """Refuse a run that ends before its first month is labelled."""
        if not 2 <= self.months <= MOST_MONTHS:
            raise UsageError(
                f"--months is {self.months}; valid are whole numbers from 2 to {MOST_MONTHS}."
            )
        if self.seed < 0:
            raise UsageError(f"--seed is {self.seed}; valid are whole numbers from 0 on.")

    @property
    def identity(self) -> RunIdentity:
        """The scenario, seed and profile that the home must hold."""
        return RunIdentity(scenario=self.scenario, seed=self.seed, profile=self.profile)

    @property
    def end(self) -> pd.Timestamp:
        """Last as-of month."""
        return settings.month_start(self.months)

    @property
    def person(self) -> str | None:
        """Name of the person who approves in this call, or None."""
        return self.approver or self.overrides.get("APPROVER")


def describe_call(plan: Plan, *more: str) -> str:
    """Return the command that repeats a plan in this home, with more words such as ``--from 04a``.

    Which stages it asked for and who approves are left out.
    """
    usual = Plan()
    words = ["run_all.py"]
    for option in ("scenario", "months", "seed", "profile"):
        value = getattr(plan, option)
        if value != getattr(usual, option):
            words += [f"--{option}", str(value)]
    if plan.overrides:
        words.append("-p")
    for name, text in plan.overrides.items():
        words.append(f"{name}={text}")
    folders = [
        ("--home", settings.home(), settings.PROJECT / "data"),
        ("--reports", settings.reports(), settings.PROJECT / "reports"),
    ]
    for option, folder, default in folders:
        if folder != default:
            words += [option, str(folder)]
    return shlex.join([*words, *more])
