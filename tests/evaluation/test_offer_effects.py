"""What offers achieved: figures, intervals and how often these hold the truth."""

import numpy as np
import pandas as pd
import pytest

from churn_utils.errors import DataError
from churn_utils.evaluation.economics import Economics
from churn_utils.evaluation.offer_effects import measure_offers


def make_rows(treated, treated_churned, control, control_churned):
    groups = ["treated"] * treated + ["control"] * control + ["not_selected"] * 10
    churned = np.zeros(len(groups))
    churned[:treated_churned] = 1
    churned[treated : treated + control_churned] = 1
    ids = [f"c{number}" for number in range(len(groups))]
    return pd.DataFrame({"customer_id": ids, "group": groups, "churned": churned})


def test_figures_follow_from_the_two_rates():
    effects = measure_offers(make_rows(900, 180, 100, 40), Economics())
    assert (effects.treated, effects.control) == (900, 100)
    assert effects.save_rate.value == pytest.approx(1 - 0.2 / 0.4)
    assert effects.caused_usd.value == pytest.approx(900 * (2000 * 0.2 - 500))
    assert effects.forgone_usd.value == pytest.approx(100 * (2000 * 0.2 - 500))
    assert effects.save_rate.lower < 0.5 < effects.save_rate.upper


def test_offers_that_drive_customers_away_show_below_zero():
    assert measure_offers(make_rows(900, 540, 100, 30), Economics()).save_rate.value == -1


def test_offers_that_keep_everyone_have_an_interval():
    rate = measure_offers(make_rows(900, 0, 100, 40), Economics()).save_rate
    assert rate.value == rate.upper == 1
    assert 0.98 < rate.lower < 1


@pytest.mark.parametrize("rows", [make_rows(0, 0, 100, 40), make_rows(900, 90, 0, 0)])
def test_without_one_of_the_groups_nothing_is_measured(rows):
    assert measure_offers(rows, Economics()) is None


def test_rows_without_label_are_refused():
    rows = make_rows(9, 3, 9, 6).assign(churned=np.nan)
    with pytest.raises(DataError, match="28 of 28 rows have no label"):
        measure_offers(rows, Economics())


def test_months_of_one_customer_are_not_independent():
    once = make_rows(900, 180, 100, 40)
    often = pd.concat([once] * 4)
    one, four = (measure_offers(rows, Economics()).save_rate for rows in (once, often))
    assert four.upper - four.lower == pytest.approx(one.upper - one.lower, rel=1e-9)


def test_intervals_hold_the_truth_in_95_of_100_cases():
    draws = np.random.default_rng(7)
    covered = {"rate": 0, "usd": 0}
    repeats = 400
    for _ in range(repeats):
        risk = draws.beta(4, 4, 2500)
        churns = draws.random(2500) < risk
        is_kept = draws.random(2500) < 0.5
        is_control = draws.random(2500) < 0.1
        churned = churns & (is_control | ~is_kept)
        rows = pd.DataFrame(
            {
                "customer_id": np.arange(2500),
                "group": np.where(is_control, "control", "treated"),
                "churned": churned,
            }
        )
        effects = measure_offers(rows, Economics())
        avoided = (churns & is_kept & ~is_control).sum()
        caused = 2000 * avoided - 500 * (~is_control).sum()
        covered["rate"] += effects.save_rate.covers(0.5)
        covered["usd"] += effects.caused_usd.covers(caused)
    for name, count in covered.items():
        assert 0.92 <= count / repeats <= 0.98, (name, count)
