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
from churn_utils.features import offer_policy
from churn_utils.upstream.folder import ONE_MONTH
from churn_utils.upstream.months import MonthSource, open_source

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
    """What a home holds one of: a scenario or folder of deliveries, with its seed and profile."""

    model_config = ConfigDict(frozen=True)

    scenario: str  # "deliveries" where the months come from a folder
    seed: int
    profile: str
    deliveries: str = ""  # the folder
    offers: str = offer_policy.NONE
    control_share: float = offer_policy.DEFAULT_SHARE

    @property
    def run(self) -> str:
        """Name of the run and of its reports folder, such as ``price_rise-seed42-full``."""
        name = f"{self.scenario}-seed{self.seed}-{self.profile}"
        return name if self.offers == offer_policy.NONE else f"{name}-offers"

    @property
    def facts(self) -> dict[str, object]:
        """What there is to say of it, by name."""
        return self.model_dump(exclude_defaults=True)


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
        UsageError: the last month, the seed or the control group's share is out of range.
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
    deliveries: str = ""  # folder that the months come from; the scenario does not count then
    first_month: pd.Timestamp = settings.FIRST_SNAPSHOT
    waiting_for: str = ""  # what the run ends with: the month that is not there yet
    offers: str = offer_policy.NONE
    control_share: float = offer_policy.DEFAULT_SHARE  # of the selected, where offers are made

    def __post_init__(self) -> None:
        """Refuse a run that ends before its first month is labelled."""
        least = 1 if self.deliveries else 2
        if not least <= self.months <= MOST_MONTHS:
            raise UsageError(
                f"--months is {self.months}; valid are whole numbers from 2 to {MOST_MONTHS}."
            )
        if self.seed < 0:
            raise UsageError(f"--seed is {self.seed}; valid are whole numbers from 0 on.")
        policy = offer_policy.make_policy(self.offers, self.control_share, self.seed)
        if policy is None and self.control_share != offer_policy.DEFAULT_SHARE:
            raise UsageError(
                "--control-share belongs to --offers made; without it there is no control group."
            )

    @property
    def identity(self) -> RunIdentity:
        """The source of months, seed and profile that the home must hold."""
        scenario = "deliveries" if self.deliveries else self.scenario
        return RunIdentity(
            scenario=scenario,
            seed=self.seed,
            profile=self.profile,
            deliveries=self.deliveries,
            offers=self.offers,
            control_share=self.control_share,
        )

    @property
    def source(self) -> MonthSource:
        """Where the months come from."""
        return open_source(self.scenario, self.seed, self.deliveries, self.fresh)

    @property
    def second_month(self) -> pd.Timestamp:
        """As-of month at which the first champion is trained; it is the first that is scored."""
        return self.first_month + ONE_MONTH

    @property
    def end(self) -> pd.Timestamp:
        """Last as-of month."""
        return self.first_month + pd.DateOffset(months=self.months)

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
    if plan.deliveries:
        words += ["--deliveries", plan.deliveries]
    options = ["seed", "profile", "offers", "control_share"]
    if not plan.deliveries:
        options = ["scenario", "months", *options]
    for option in options:
        value = getattr(plan, option)
        if value != getattr(usual, option):
            words += [f"--{option.replace('_', '-')}", str(value)]
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
