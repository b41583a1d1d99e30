"""Deliveries whose rows are sound but that do not look like a month of the same customers."""

import numpy as np
import pandas as pd
import pytest

from churn_utils.data import contract
from churn_utils.data.columns import CUSTOMER_COLUMNS
from churn_utils.data.delivery_checks import check_delivery, find_identical_month
from churn_utils.simulation import deliveries
from churn_utils.simulation.customers import simulate_month
from churn_utils.simulation.scenarios import Simulation


def accepted_month(month, scenario="none"):
    customers = simulate_month(month, Simulation(scenario, seed=5))
    return contract.check_rows(deliveries.deliver_month(customers))[0]


@pytest.fixture(scope="module")
def january():
    return accepted_month(0)


@pytest.fixture(scope="module")
def february():
    return accepted_month(1)


def names_of(faults):
    return {fault.check for fault in faults}


@pytest.mark.parametrize("scenario", ["none", "price_rise", "competitor", "mix_shift"])
def test_sound_months_of_every_scenario_pass(scenario):
    before = accepted_month(2, scenario)
    for month in (3, 4):
        now = accepted_month(month, scenario)
        assert check_delivery(now, before) == []
        before = now


def test_month_after_a_missing_one_passes(january):
    march = accepted_month(2)
    assert check_delivery(march, january, months_between=2) == []
    assert "tenure" in names_of(check_delivery(march, january, months_between=1))


@pytest.mark.parametrize("rows", [3500, 300, 1])
def test_delivery_that_is_cut_short_is_a_fault(january, february, rows):
    faults = check_delivery(february.head(rows), january)
    volume = next(fault for fault in faults if fault.check == "volume")
    assert volume.reason.startswith(f"{rows:,} rows, 7,043 the month before")
    assert volume.value == rows / 7043 and volume.limit == 0.8


def test_delivery_of_twice_the_rows_is_a_fault(january, february):
    others = february.assign(customer_id="B" + february["customer_id"])
    assert "volume" in names_of(check_delivery(pd.concat([february, others]), january))


def test_file_of_the_month_before_is_a_fault(january):
    faults = check_delivery(january, january)
    assert names_of(faults) == {"tenure", "total_charges"}
    assert "0.0% have a tenure that grew by 1 month" in faults[0].reason


def test_shuffled_ids_are_a_fault(january, february):
    ids = np.random.default_rng(0).permutation(february["customer_id"])
    names = names_of(check_delivery(february.assign(customer_id=ids), january))
    assert {"tenure", "gender", "total_charges"} <= names


@pytest.mark.parametrize("change", [str.lower, lambda name: "N" + name])
def test_ids_that_are_all_new_are_a_fault(january, february, change):
    renamed = february.assign(customer_id=february["customer_id"].map(change))
    # An id of digits alone has no lower case: a few may be known.
    assert names_of(check_delivery(renamed, january)) == {"returned"}


@pytest.mark.parametrize(
    "first, second", [("partner", "dependents"), ("streaming_tv", "streaming_movies")]
)
def test_exchanged_columns_are_a_fault(january, february, first, second):
    exchanged = february.assign(**{first: february[second], second: february[first]})
    faults = check_delivery(exchanged, january)
    assert names_of(faults) == {"exchanged"}
    assert f"{first} and {second} seem to be exchanged" in faults[0].reason


def test_category_that_takes_all_is_a_fault(january, february):
    faults = check_delivery(february.assign(gender="Male"), january)
    assert {"segment", "dominance", "gender"} <= names_of(faults)
    assert any("gender 'Female' has 0 rows" in fault.reason for fault in faults)


@pytest.mark.parametrize(
    "column, value",
    [("internet_service", "No"), ("contract", "Two year"), ("payment_method", "Mailed check")],
)
def test_missing_segment_is_a_fault(january, february, column, value):
    faults = check_delivery(february[february[column] != value], january)
    assert any(f"{column} {value!r} has 0 rows" in fault.reason for fault in faults)


def test_missing_new_customers_are_a_fault(january, february):
    faults = check_delivery(february[february["tenure"] > 6], january)
    assert any("tenure in months" in fault.reason for fault in faults)


def test_segment_of_few_customers_may_vanish(january, february):
    few = january.head(40).assign(payment_method="Mailed check")
    others = january[january["payment_method"] != "Mailed check"]
    before = pd.concat([others, few])
    now = february[february["payment_method"] != "Mailed check"]
    assert "segment" not in names_of(check_delivery(now, before))


def test_identical_month_is_found_in_any_order_of_rows(january, february):
    months = {"2025-01": january, "2025-02": february}
    shuffled = january.sample(frac=1, random_state=0)
    assert find_identical_month(shuffled, months) == "2025-01"
    changed = shuffled.assign(tenure=shuffled["tenure"] + 1)
    assert find_identical_month(changed, months) is None
    assert find_identical_month(january.iloc[1:], months) is None


def test_columns_of_a_delivery_are_all_that_is_read(january, february):
    assert check_delivery(february[list(CUSTOMER_COLUMNS)], january[list(CUSTOMER_COLUMNS)]) == []
