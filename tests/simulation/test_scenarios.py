import json
import re
from dataclasses import asdict, replace

import pandas as pd
import pytest

from churn_utils import settings
from churn_utils.errors import DataError, UsageError
from churn_utils.settings import month_of, month_start
from churn_utils.simulation import customers, scenarios
from churn_utils.simulation.scenarios import World

BUG = World("data_bug", seed=3, start_month=2, slots=40)


def test_a_month_is_found_from_the_date_it_starts_on():
    assert [month_of(month_start(month)) for month in range(30)] == list(range(30))
    assert [
        month_of(pd.Timestamp(text)) for text in ("2025-01-01", "2025-12-01", "2027-02-01")
    ] == [0, 11, 25]


def test_a_world_simulates_with_all_that_makes_it(home):
    for own in (BUG, World("price_rise", seed=4, start_month=1, slots=50)):
        expected = customers.simulate_month(2, own.seed, own.scenario, own.start_month, own.slots)
        pd.testing.assert_frame_equal(own.simulate(2), expected)


def test_a_world_delivers_what_the_simulator_does(home):
    for as_of_month, described in (
        (1, [1]),
        (2, [2]),
        (3, [2, 3]),
    ):  # wrong in month 2, corrected a month later
        delivered = BUG.deliver(as_of_month)
        expected = customers.deliver_at(
            as_of_month, BUG.seed, BUG.scenario, BUG.start_month, BUG.slots
        )
        assert list(delivered) == list(expected) == described
        for month in described:
            pd.testing.assert_frame_equal(delivered[month], expected[month])
    assert len(BUG.deliver(2)[2]) == 40 and (BUG.deliver(2)[2]["payment_method"] == "E-check").any()


@pytest.mark.parametrize("scenario", customers.SCENARIOS)
def test_a_world_says_what_changes(scenario):
    assert World(scenario).description == customers.SCENARIOS[scenario]


def test_a_world_that_there_is_not_delivers_nothing(home):
    with pytest.raises(DataError, match="'price_fall'"):
        World("price_fall").deliver(1)


def test_a_home_notes_its_world_and_takes_it_again(home):
    assert scenarios.hold_world(BUG) == BUG
    assert json.loads((home / "world.json").read_text()) == asdict(BUG)
    assert scenarios.hold_world(World("data_bug", 3, 2, 40)) == BUG


def test_a_world_that_there_is_not_is_not_noted(home):
    with pytest.raises(DataError, match="'price_fall'"):
        scenarios.hold_world(World("price_fall"))
    assert scenarios.hold_world(World("price_rise")) == World("price_rise")


@pytest.mark.parametrize(
    "change", [{"scenario": "none"}, {"seed": 4}, {"start_month": 3}, {"slots": 41}]
)
def test_another_world_is_refused_and_the_first_one_stays(change, home):
    scenarios.hold_world(BUG)
    other = replace(BUG, **change)
    both = f"{settings.home()} holds the world {asdict(BUG)}, not {asdict(other)}."
    with pytest.raises(UsageError, match=re.escape(both)) as refused:
        scenarios.hold_world(other)
    assert all(
        remedy in str(refused.value) for remedy in ("SCENARIO and SEED", "--home", "--fresh")
    )
    assert scenarios.hold_world(BUG) == BUG
