import numpy as np
import pandas as pd

from churn_utils.reports.figures import governance_figures


def test_the_band_encloses_the_curve_and_names_the_threshold():
    curve = pd.DataFrame(
        {
            "threshold": [0, 0.5, 1],
            "value_usd": [1.0, 3, 0],
            "lower": [0.0, 2, 0],
            "upper": [2.0, 4, 0],
        }
    )
    figure = governance_figures.plot_value_band(curve, 0.25, "Value")
    upper, lower, value = figure.data
    assert list(upper.y) == [2, 4, 0] and list(lower.y) == [0, 2, 0] and list(value.y) == [1, 3, 0]
    assert lower.fill == "tonexty" and "0.25" in figure.layout.annotations[0].text


def test_the_sensitivity_grid_has_costs_down_and_worth_across():
    table = pd.DataFrame(
        {
            "offer_cost_usd": [250.0, 250, 500],
            "churner_value_usd": [1000.0, 2000, 2000],
            "lost_usd": [1.0, 2, 3],
        }
    )
    heat = governance_figures.plot_cost_sensitivity(table, "Costs").data[0]
    assert list(heat.y) == ["250", "500"] and list(heat.x) == ["1,000", "2,000"]
    assert heat.z[0][1] == 2 and heat.z[1][1] == 3 and np.isnan(heat.z[1][0])


def test_gains_are_drawn_over_each_reference_but_not_over_itself():
    gains = pd.DataFrame(
        {
            "model": ["chosen by the search", "default lightgbm"],
            "auc_gain": [0, 0.01],
            "auc_gain_lower": [0, -0.01],
            "auc_gain_upper": [0, 0.03],
            "usd_gain": [0, 5.0],
            "usd_gain_lower": [0, -5.0],
            "usd_gain_upper": [0, 15.0],
        }
    )
    auc, usd = governance_figures.plot_gains(gains, "Gain").data
    assert (
        list(auc.y) == ["over default lightgbm"] and list(auc.x) == [0.01] and list(usd.x) == [5.0]
    )
    assert np.isclose(auc.error_x.array[0], 0.02) and np.isclose(usd.error_x.arrayminus[0], 10)


def test_hyperparameters_are_ranked_from_the_top():
    ranked = pd.DataFrame(
        {
            "family": "lightgbm",
            "hyperparameter": ["num_leaves", "reg_lambda"],
            "importance": [0.8, 0.2],
        }
    )
    bars = governance_figures.plot_hyperparameters(ranked, "Importance").data[0]
    assert list(bars.y) == ["lightgbm: reg_lambda", "lightgbm: num_leaves"] and list(bars.x) == [
        0.2,
        0.8,
    ]


def test_slices_show_one_family_and_wide_ranges_on_a_log_scale():
    sliced = pd.DataFrame(
        {
            "family": ["lightgbm"] * 4 + ["random_forest"],
            "hyperparameter": ["a", "a", "b", "b", "c"],
            "value": [0.01, 10, 2, 3, 1],
            "behind": [0.0, 0.02, 0.0, 0.02, 0.5],
        }
    )
    figure = governance_figures.plot_slices(sliced, "lightgbm", "Slices")
    assert len(figure.data) == 2 and list(figure.data[1].x) == [2, 3]
    assert figure.layout.xaxis.type == "log" and figure.layout.xaxis2.type == "linear"


def test_a_family_without_trials_leaves_an_empty_figure():
    empty = pd.DataFrame(columns=["family", "hyperparameter", "value", "behind"])
    assert len(governance_figures.plot_slices(empty, "lightgbm", "Slices").data[0].x) == 0
    ranked = pd.DataFrame(columns=["family", "hyperparameter", "importance"])
    assert len(governance_figures.plot_hyperparameters(ranked, "Importance").data[0].x) == 0
