import numpy as np
import pandas as pd
import pytest
from figure_parts import lines_at, texts, trace

from churn_utils.reports.figures import decisions


def test_bars_keep_their_order_from_top_to_bottom():
    bar = decisions.plot_bars(pd.Series({"first": 1234.0, "second": 5.0}), "Values", "USD").data[0]
    assert list(bar.y)[::-1] == ["first", "second"] and list(bar.x)[::-1] == [1234, 5]
    assert list(bar.text)[::-1] == ["1,234", "5"]


def test_value_band_encloses_curve_and_names_threshold():
    curve = pd.DataFrame(
        {
            "threshold": [0, 0.5, 1],
            "value_usd": [1.0, 3, 0],
            "lower": [0.0, 2, 0],
            "upper": [2.0, 4, 0],
        }
    )
    figure = decisions.plot_value_band(curve, 0.25, "Value")
    upper, lower, value = figure.data
    assert list(upper.y) == [2, 4, 0] and list(lower.y) == [0, 2, 0] and list(value.y) == [1, 3, 0]
    assert lower.fill == "tonexty" and "0.25" in figure.layout.annotations[0].text


def test_sensitivity_has_costs_down_and_values_across():
    table = pd.DataFrame(
        {
            "offer_cost_usd": [250.0, 250, 500],
            "churner_value_usd": [1000.0, 2000, 2000],
            "lost_usd": [1.0, 2, 3],
        }
    )
    heat = decisions.plot_cost_sensitivity(table, "Costs").data[0]
    assert list(heat.y) == ["250", "500"] and list(heat.x) == ["1,000", "2,000"]
    assert heat.z[0][1] == 2 and heat.z[1][1] == 3 and np.isnan(heat.z[1][0])


@pytest.mark.parametrize(
    "churned, treated, expected",
    [
        ([1, 1, 1, 0, 0, 0, 0], [1, 1, 0, 1, 0, 0, 0], [[3, 1], [1, 2]]),
        ([0, 0, 1], [0, 0, 0], [[2, 0], [1, 0]]),
    ],
)
def test_confusion_counts_customers_even_if_none(churned, treated, expected):
    heatmap = decisions.plot_confusion(
        pd.Series(churned, dtype=bool), np.array(treated, dtype=bool), "Confusion"
    ).data[0]
    assert (list(heatmap.y), list(heatmap.x)) == (["stayed", "churned"], ["no offer", "offer"])
    assert np.array(heatmap.z).tolist() == np.array(heatmap.text).tolist() == expected


def test_scores_hold_each_customer_once_by_decision(predictions):
    figure = decisions.plot_scores(predictions, "Scores")
    assert list(trace(figure, "no offer").x) == [0.05, 0.2] and list(trace(figure, "offer").x) == [
        0.3,
        0.9,
    ]
    assert lines_at(figure) == [0.25]


def test_expected_value_adds_up_best_customers_first(predictions):
    figure = decisions.plot_expected_value(predictions.sample(frac=1, random_state=0), "Value")
    assert list(figure.data[0].x) == [1, 2, 3, 4]
    assert list(figure.data[0].y) == pytest.approx([1300, 1400, 1300, 900])
    assert lines_at(figure) == [2] and "offers pay up to customer 2" in texts(figure)


def test_expected_value_of_many_keeps_the_last_customer():
    values = pd.DataFrame({"expected_value_usd": np.ones(5000)})
    curve = decisions.plot_expected_value(values, "Value").data[0]
    assert len(curve.x) == 300 and (curve.x[-1], curve.y[-1]) == (5000, 5000)


@pytest.mark.parametrize(
    "plot",
    [decisions.plot_scores, decisions.plot_expected_value],
)
def test_no_predictions_can_be_drawn(plot, predictions):
    assert plot(predictions.head(0), "No customers").layout.title.text == "No customers"
