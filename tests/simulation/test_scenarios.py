import subprocess
import sys

import pandas as pd
import pytest

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
