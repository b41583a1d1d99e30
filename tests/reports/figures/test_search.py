import numpy as np
import pandas as pd
from figure_parts import pairs, trace

from churn_utils.reports.figures import search


def test_trials_are_drawn_once_with_the_best_so_far():
    trials = pd.DataFrame(
        {
            "trial": [1, 2, 3, 4],
            "family": ["lightgbm", "random_forest", "lightgbm", "lightgbm"],
            "state": ["complete", "complete", "pruned", "complete"],
            "log_loss": [0.45, 0.47, np.nan, 0.44],
            "best_so_far": [0.45, 0.45, 0.45, 0.44],
        }
    )
    figure = search.plot_trials(trials)
    assert pairs(trace(figure, "lightgbm")) == {1: 0.45, 4: 0.44}
    assert pairs(trace(figure, "random_forest")) == {2: 0.47}
    assert list(trace(figure, "pruned").x) == [3] and trace(figure, "pruned").y[0] > 0.47
    assert list(trace(figure, "best so far").y) == [0.45, 0.45, 0.45, 0.44]


def test_hyperparameters_are_ranked_from_the_top():
    ranked = pd.DataFrame(
        {
            "family": "lightgbm",
            "hyperparameter": ["num_leaves", "reg_lambda"],
            "importance": [0.8, 0.2],
        }
    )
    bars = search.plot_hyperparameters(ranked, "Importance").data[0]
    assert list(bars.y) == ["lightgbm: reg_lambda", "lightgbm: num_leaves"] and list(bars.x) == [
        0.2,
        0.8,
    ]


def test_slices_show_one_family_wide_ranges_on_log_scale():
    sliced = pd.DataFrame(
        {
            "family": ["lightgbm"] * 4 + ["random_forest"],
            "hyperparameter": ["a", "a", "b", "b", "c"],
            "value": [0.01, 10, 2, 3, 1],
            "behind": [0.0, 0.02, 0.0, 0.02, 0.5],
        }
    )
    figure = search.plot_hyperparameter_slices(sliced, "lightgbm", "Slices")
    assert len(figure.data) == 2 and list(figure.data[1].x) == [2, 3]
    assert figure.layout.xaxis.type == "log" and figure.layout.xaxis2.type == "linear"


def test_family_without_trials_leaves_empty_figures():
    empty = pd.DataFrame(columns=["family", "hyperparameter", "value", "behind"])
    assert len(search.plot_hyperparameter_slices(empty, "lightgbm", "Slices").data[0].x) == 0
    ranked = pd.DataFrame(columns=["family", "hyperparameter", "importance"])
    assert len(search.plot_hyperparameters(ranked, "Importance").data[0].x) == 0


def test_gains_are_drawn_over_references_only():
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
    auc, usd = search.plot_search_gains(gains, "Gain").data
    assert (
        list(auc.y) == ["over default lightgbm"] and list(auc.x) == [0.01] and list(usd.x) == [5.0]
    )
    assert np.isclose(auc.error_x.array[0], 0.02) and np.isclose(usd.error_x.arrayminus[0], 10)
