import numpy as np
import pandas as pd
import pytest
from figure_parts import bounds, pairs, texts, trace

from churn_utils.reports.figures import customers as customer_figures


def wilson_bound(successes, rows, sign):
    """Return a bound of Wilson's 95 % interval by its formula."""
    z, rate = 1.959964, successes / rows
    half_width = z * np.sqrt(rate * (1 - rate) / rows + z**2 / (4 * rows**2))
    return (rate + z**2 / (2 * rows) + sign * half_width) / (1 + z**2 / rows)


def test_churn_rates_have_wilson_intervals(customers):
    figure = customer_figures.plot_churn_rate(customers, "contract", "Churn by contract")
    bar = figure.data[0]
    assert pairs(bar) == pytest.approx({"One year": 0.5, "Two year": 0.1})
    assert list(bar.customdata) == [10, 40]
    low, high = bounds(bar.y, bar.error_y)
    assert low == pytest.approx([wilson_bound(5, 10, -1), wilson_bound(4, 40, -1)])
    assert high == pytest.approx([wilson_bound(5, 10, 1), wilson_bound(4, 40, 1)])
    assert figure.layout.title.text == "Churn by contract" and "all: 18.0%" in texts(figure)


def test_distribution_shows_shares_of_each_group(customers):
    figure = customer_figures.plot_distribution(customers, "tenure", "Tenure", "months")
    for name in ("stayed", "churned"):
        assert sum(trace(figure, name).y) == pytest.approx(1)
    churned = trace(figure, "churned")
    assert (np.array(churned.x) * np.array(churned.y)).sum() == pytest.approx(
        customers.query("churned")["tenure"].mean(), abs=1
    )
    assert figure.layout.xaxis.title.text == "tenure (months)"


def test_splits_are_counted_by_outcome():
    labels = pd.DataFrame(
        {
            "split": ["train"] * 3 + ["test"] * 2 + ["validate"] * 2,
            "churned": [True, False, False] + [True, False] * 2,
        }
    )
    figure = customer_figures.plot_splits(labels)
    assert pairs(trace(figure, "stayed")) == {"train": 2, "validate": 1, "test": 1}
    assert pairs(trace(figure, "churned")) == {"train": 1, "validate": 1, "test": 1}
    assert list(trace(figure, "stayed").x) == ["train", "validate", "test"]


@pytest.mark.parametrize("churned, in_test", [([False, False], 0), ([False, True], 1)])
def test_splits_without_churners_are_drawn_as_zero(churned, in_test):
    figure = customer_figures.plot_splits(
        pd.DataFrame({"split": ["train", "test"], "churned": churned})
    )
    assert pairs(trace(figure, "stayed")) == {"train": 1, "validate": 0, "test": 1 - in_test}
    assert pairs(trace(figure, "churned")) == {"train": 0, "validate": 0, "test": in_test}
