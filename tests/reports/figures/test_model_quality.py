import numpy as np
import pandas as pd
import pytest
from figure_parts import trace
from sklearn.metrics import roc_auc_score

from churn_utils.evaluation import metrics
from churn_utils.reports.figures import model_quality


@pytest.fixture
def scored():
    generator = np.random.default_rng(0)
    probability = generator.uniform(size=1000).round(3)
    return pd.Series(generator.uniform(size=1000) < probability), probability


def test_importance_has_the_most_important_on_top():
    table = pd.DataFrame(
        {"feature": ["tenure", "gender"], "importance": [0.1, 0.0], "spread": [0.01, 0.002]}
    )
    bar = model_quality.plot_importance(table).data[0]
    assert (list(bar.y), list(bar.x), list(bar.error_x.array)) == (
        ["gender", "tenure"],
        [0.0, 0.1],
        [0.002, 0.01],
    )


def test_roc_curve_covers_the_area_that_it_names(scored):
    curve = model_quality.plot_roc(*scored, "ROC").data[0]
    area = roc_auc_score(*scored)
    assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)
    assert len(curve.x) <= 300
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(area, abs=0.005)
    assert curve.name == f"model, area {area:.3f}"


def test_precision_recall_keeps_ends_and_base_rate(scored):
    figure = model_quality.plot_precision_recall(*scored, "PR")
    curve, coin = figure.data
    assert (curve.x[0], curve.x[-1], curve.y[-1]) == (1, 0, 1)
    assert list(coin.y) == [scored[0].mean()] * 2


def test_reliability_shows_the_bins_it_is_given(scored):
    bins = metrics.reliability(*scored)
    model = trace(model_quality.plot_reliability(bins, "Reliability"), "model")
    assert (
        list(model.x) == bins["predicted"].tolist() and list(model.y) == bins["observed"].tolist()
    )
    assert model.error_y.array[4] == pytest.approx(
        1.96 * np.sqrt(bins["observed"][4] * (1 - bins["observed"][4]) / 100)
    )
