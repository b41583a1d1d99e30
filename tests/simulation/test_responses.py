"""How simulated customers respond to offers, and what that does to later months."""

import numpy as np
import pytest

from churn_utils.errors import DataError
from churn_utils.simulation import customers
from churn_utils.simulation.scenarios import Simulation

HIDDEN = Simulation("none", seed=3)


@pytest.fixture(scope="module")
def month():
    return customers.simulate_month(2, HIDDEN)


def test_an_offer_keeps_about_half_of_the_churners(month):
    churners = month[month["churns_without_offer"]]
    kept = 1 - churners["churns_with_offer"].mean()
    assert 0.4 < kept < 0.6


def test_contact_drives_a_few_away(month):
    stayers = month[~month["churns_without_offer"]]
    assert 0.005 < stayers["churns_with_offer"].mean() < 0.03


def test_some_are_never_kept(month):
    never = month["probability_with_offer"] >= month["churn_probability"]
    assert 0.1 < never.mean() < 0.2


def test_without_offers_the_label_is_the_outcome_without_offer(month):
    assert month["churned"].equals(month["churns_without_offer"].rename("churned"))


def test_who_got_an_offer_has_the_outcome_after_it(month):
    half = set(month["customer_id"].iloc[::2])
    treated = customers.simulate_month(2, HIDDEN, {2: half})
    got_one = treated["customer_id"].isin(half)
    assert treated.loc[got_one, "churned"].equals(
        treated.loc[got_one, "churns_with_offer"].rename("churned")
    )
    assert treated.loc[~got_one, "churned"].equals(
        treated.loc[~got_one, "churns_without_offer"].rename("churned")
    )


def test_a_kept_customer_is_still_there_a_month_later(month):
    everyone = set(month["customer_id"])
    kept = month["churns_without_offer"] & ~month["churns_with_offer"]
    later = customers.simulate_month(3, HIDDEN, {2: everyone})
    untouched = customers.simulate_month(3, HIDDEN)
    is_back = np.isin(month.loc[kept, "customer_id"], later["customer_id"])
    assert 0.75 < is_back.mean() < 0.85, "all but those who rotate out"
    assert not np.isin(month.loc[kept, "customer_id"], untouched["customer_id"]).any()


def test_offers_of_later_months_change_nothing(month):
    assert customers.simulate_month(2, HIDDEN, {5: set(month["customer_id"])}).equals(month)


def test_a_customer_responds_alike_in_every_month(month):
    later = customers.simulate_month(3, HIDDEN)
    both = month.merge(later, on="customer_id", suffixes=("", "_later"))
    ratio = both["probability_with_offer"] / both["churn_probability"]
    ratio_later = both["probability_with_offer_later"] / both["churn_probability_later"]
    never = np.isclose(ratio, 1)
    assert np.isclose(ratio_later[never], 1).all()


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_a_fixed_rate_holds_for_all(rate):
    rows = customers.simulate_month(2, Simulation("none", 3, save_rate=rate))
    expected = rows["churn_probability"] * (1 - rate)
    assert np.allclose(rows["probability_with_offer"], expected)


@pytest.mark.parametrize("rate", [-0.1, 1.1])
def test_a_rate_out_of_range_is_refused(rate):
    with pytest.raises(DataError, match="save_rate"):
        Simulation(save_rate=rate)
