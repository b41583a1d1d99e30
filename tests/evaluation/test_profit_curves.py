import dataclasses

import numpy as np
import pandas as pd
import pytest

from churn_utils.errors import ChurnError
from churn_utils.evaluation import economics, metrics, profit_curves
from churn_utils.evaluation.bootstrap import ScoredRows
from churn_utils.evaluation.economics import Economics


@pytest.fixture(scope="module")
def customers():
    draw = np.random.default_rng(0)
    probability = draw.beta(1, 3, 2000)
    churned = pd.Series(draw.uniform(size=2000) < probability)
    return ScoredRows(churned, probability, pd.Series(np.arange(2000)))


def test_value_curve_is_that_of_single_decisions(customers):
    churned, probability = customers.churned, customers.probability
    curve = profit_curves.value_curve(customers, Economics(), draws=200)
    by_threshold = curve.set_index("threshold")["value_usd"]
    value = metrics.score_metrics(churned, probability, Economics())["value_usd"].item()
    assert by_threshold.loc[0.25] == pytest.approx(value)
    assert by_threshold.loc[0.0] == pytest.approx(2000 * churned.mean() - 500)
    inside = curve["value_usd"].between(curve["lower"] - 1e-9, curve["upper"] + 1e-9)
    assert len(curve) == 101 and inside.all() and (curve["upper"] > curve["lower"])[:80].all()
    no_offers = curve[curve["threshold"] > probability.max()]
    assert len(no_offers) and (no_offers[["value_usd", "lower", "upper"]] == 0).all(axis=None)


def test_value_of_a_calibrated_model_peaks_at_cost_over_value():
    probability = np.random.default_rng(1).beta(1, 3, 50_000)
    churned = pd.Series(np.random.default_rng(2).uniform(size=50_000) < probability)
    scored = ScoredRows(churned, probability, pd.Series(np.arange(50_000)))
    curve = profit_curves.value_curve(scored, Economics(), draws=2)
    assert abs(curve.set_index("threshold")["value_usd"].idxmax() - 0.25) <= 0.05


def test_rows_of_one_customer_are_drawn_together(customers):
    fewer = dataclasses.replace(customers, customers=customers.customers // 40)
    copied = ScoredRows(
        pd.concat([customers.churned] * 4, ignore_index=True),
        np.tile(customers.probability, 4),
        pd.concat([customers.customers] * 4, ignore_index=True),
    )
    alone, fours, copies = (
        profit_curves.value_curve(scored, Economics(), draws=400).loc[25]
        for scored in (customers, fewer, copied)
    )
    width = alone["upper"] - alone["lower"]
    assert copies["upper"] - copies["lower"] == pytest.approx(
        width, rel=0.2
    )  # copies are no new evidence
    assert fours["value_usd"] == alone["value_usd"]


def test_wrong_costs_lose_more_the_more_wrong_they_are(customers):
    table = profit_curves.cost_sensitivity(customers, Economics(), draws=200)
    table = table.set_index(["offer_cost_usd", "churner_value_usd"])
    assert table.loc[(500, 2000), ["lost_usd", "lost_lower", "lost_upper"]].tolist() == [0, 0, 0]
    assert table.loc[(250, 1000), "lost_usd"] == 0  # the same ratio gives the same threshold
    assert table.loc[(750, 1000), "lost_usd"] > table.loc[(625, 1500), "lost_usd"] > 5
    assert table.loc[(750, 1000), "lost_lower"] > 0
    assert len(table) == 25 and (table["right_threshold"] < 1).all()


def test_costs_under_which_no_offer_pays_are_left_out(customers):
    table = profit_curves.cost_sensitivity(customers, Economics(1000, 1500), draws=20)
    assert 0 < len(table) < 25 and (table["offer_cost_usd"] < table["churner_value_usd"]).all()


# --- on the threshold


def test_a_probability_on_the_threshold_gets_the_offer():
    probability = np.array([0.25, 0.2499])
    assert [economics.decide(p, Economics())[0] for p in probability] == ["offer", "no_offer"]
    assert economics.decide(probability, Economics())[0].tolist() == ["offer", "no_offer"]
    value = economics.value_of_deciding_usd(np.ones(2), probability, Economics())
    assert value.tolist() == [1500, 0]


def test_curves_make_the_offer_on_the_threshold():
    scored = ScoredRows(pd.Series([True, True]), np.array([0.5, 0.5]), pd.Series([0, 1]))
    curve = profit_curves.value_curve(scored, Economics(), draws=2)
    assert curve.set_index("threshold").loc[[0.5, 0.51], "value_usd"].tolist() == [1500, 0]
    table = profit_curves.cost_sensitivity(scored, Economics(), draws=2)
    on_threshold = table[table["right_threshold"] == 0.5]
    assert len(on_threshold) and (on_threshold["lost_usd"] == 0).all()


@pytest.mark.parametrize("costs", [(0.0, 10.0), (10.0, 10.0), (10.0, np.inf)])
def test_costs_under_which_no_decision_could_pay_are_refused(costs):
    with pytest.raises(ChurnError, match="must cost more than 0"):
        Economics(*costs)
