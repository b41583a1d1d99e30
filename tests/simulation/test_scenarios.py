import json
import re
import subprocess
import sys
from dataclasses import asdict, replace

import pandas as pd
import pytest

from churn_utils import settings
from churn_utils.errors import DataError, UsageError
from churn_utils.settings import month_of, month_start
from churn_utils.simulation import scenarios
from churn_utils.simulation.scenarios import Simulation

BUG = Simulation("data_bug", seed=3, start_month=2, slots=40)


def test_month_is_found_from_the_date_it_starts_on():
    assert [month_of(month_start(month)) for month in range(30)] == list(range(30))
    dates = [pd.Timestamp(text) for text in ("2025-01-01", "2025-12-01", "2027-02-01")]
    assert [month_of(date) for date in dates] == [0, 11, 25]


@pytest.mark.parametrize("scenario", scenarios.SCENARIOS)
def test_scenario_says_what_changes(scenario):
    assert Simulation(scenario).description == scenarios.SCENARIOS[scenario]


def test_scenario_is_in_force_from_its_start_month_on():
    assert [BUG.scenario_in(month) for month in (0, 1, 2, 3)] == ["none", "none"] + ["data_bug"] * 2


def test_listing_the_scenarios_loads_no_simulator():
    code = (
        "import sys; from churn_utils.simulation import scenarios;"
        "print({'sklearn', 'churn_utils.simulation.customers'} & set(sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "set()"


def test_home_keeps_its_scenario_and_accepts_it_again(home):
    assert scenarios.bind_home_to_scenario(BUG) == BUG
    assert json.loads((home / "world.json").read_text()) == asdict(BUG)
    assert scenarios.bind_home_to_scenario(Simulation("data_bug", 3, 2, 40)) == BUG


def test_unknown_scenario_binds_no_home(home):
    with pytest.raises(DataError, match="'price_fall'"):
        scenarios.bind_home_to_scenario(Simulation("price_fall"))
    rise = Simulation("price_rise")
    assert scenarios.bind_home_to_scenario(rise) == rise


@pytest.mark.parametrize(
    "change", [{"scenario": "none"}, {"seed": 4}, {"start_month": 3}, {"slots": 41}]
)
def test_other_scenario_is_refused_and_the_first_stays(change, home):
    scenarios.bind_home_to_scenario(BUG)
    other = replace(BUG, **change)
    both = f"{settings.home()} follows the scenario {asdict(BUG)}, not {asdict(other)}."
    with pytest.raises(UsageError, match=re.escape(both)) as refused:
        scenarios.bind_home_to_scenario(other)
    remedies = ("SCENARIO and SEED", "--home", "--fresh")
    assert all(remedy in str(refused.value) for remedy in remedies)
    assert scenarios.bind_home_to_scenario(BUG) == BUG
