import numpy as np
import pandas as pd
import pytest
from factories import draw_answers
from sklearn import metrics

from churn_utils.errors import DataError
from churn_utils.evaluation import metrics as model_metrics
from churn_utils.evaluation.economics import Economics

ECONOMICS = Economics()
ORACLES = {
    "roc_auc": lambda y, p, w: metrics.roc_auc_score(y, p, sample_weight=w),
    "pr_auc": lambda y, p, w: metrics.average_precision_score(y, p, sample_weight=w),
    "log_loss": lambda y, p, w: metrics.log_loss(y, p, sample_weight=w),
    "brier": lambda y, p, w: metrics.brier_score_loss(y, p, sample_weight=w),
    "precision": lambda y, p, w: metrics.precision_score(y, p >= 0.25, sample_weight=w),
    "recall": lambda y, p, w: metrics.recall_score(y, p >= 0.25, sample_weight=w),
    "value_usd": lambda y, p, w: (w * np.where(p >= 0.25, 2000 * y - 500, 0)).sum() / w.sum(),
}


@pytest.mark.parametrize("decimals", [1, 2, 9])
@pytest.mark.parametrize("name", ORACLES)
def test_a_metric_equals_its_definition_with_weights_and_ties(name, decimals):
    churned, probability = draw_answers(decimals=decimals)
    weights = np.random.default_rng(1).integers(0, 4, (5, len(churned)))
    weights[0] = 1
    found = model_metrics.score_metrics(churned, probability, ECONOMICS, weights)[name]
    y = churned.to_numpy(dtype=float)
    assert found.tolist() == pytest.approx(
        [ORACLES[name](y, probability, w) for w in weights], rel=1e-10
    )


def test_without_weights_every_row_counts_once():
    churned, probability = draw_answers()
    alone = model_metrics.score_metrics(churned, probability, ECONOMICS)
    ones = model_metrics.score_metrics(churned, probability, ECONOMICS, np.ones((1, len(churned))))
    assert alone.columns.tolist() == model_metrics.METRICS and len(alone) == 1
    pd.testing.assert_frame_equal(alone, ones)


def test_calibration_error_is_the_mean_gap_over_ten_bins():
    churned, probability = draw_answers(rows=500, decimals=9)
    bins = np.array_split(np.argsort(-probability), 10)
    gaps = [abs(churned[rows].mean() - probability[rows].mean()) for rows in bins]
    found = model_metrics.score_metrics(churned, probability, ECONOMICS)["calibration_error"].item()
    assert found == pytest.approx(np.mean(gaps)) and found > 0.01


def test_metrics_know_good_from_bad():
    churned = pd.Series([True] * 5 + [False] * 15)
    perfect, inverted = np.where(churned, 0.9, 0.1), np.where(churned, 0.1, 0.9)
    good, bad = (
        model_metrics.score_metrics(churned, p, ECONOMICS).iloc[0] for p in (perfect, inverted)
    )
    assert good[["roc_auc", "pr_auc", "precision", "recall", "value_usd"]].tolist() == [
        1,
        1,
        1,
        1,
        375,
    ]
    assert bad[["roc_auc", "precision", "recall", "value_usd"]].tolist() == [0, 0, 0, -375]
    assert good["log_loss"] < bad["log_loss"] and good["brier"] < bad["brier"]


def test_the_order_of_rows_makes_no_difference():
    churned, probability = draw_answers(decimals=9)
    shuffled = np.random.default_rng(2).permutation(len(churned))
    first = model_metrics.score_metrics(churned, probability, ECONOMICS)
    second = model_metrics.score_metrics(
        churned.to_numpy()[shuffled], probability[shuffled], ECONOMICS
    )
    pd.testing.assert_frame_equal(first, second)


def test_a_probability_on_the_threshold_gets_the_offer():
    found = model_metrics.score_metrics([1, 0], [0.25, 0.2499999], ECONOMICS).iloc[0]
    assert (found["recall"], found["precision"], found["value_usd"]) == (1, 1, 750)


def test_economics_decide_threshold_and_value():
    churned, probability = draw_answers()
    found = model_metrics.score_metrics(churned, probability, Economics(10, 20)).iloc[0]
    treated = probability >= 0.5
    assert found["recall"] == pytest.approx(churned[treated].sum() / churned.sum())
    assert found["value_usd"] == pytest.approx(np.where(treated, 20 * churned - 10, 0).mean())


def test_certain_and_wrong_is_costly_but_finite():
    assert 30 < model_metrics.score_metrics([0, 1], [1.0, 0.0], ECONOMICS)["log_loss"].item() < 40


@pytest.mark.parametrize(
    "churned, probability, message",
    [
        ([], [], "no rows to evaluate on"),
        ([1, 1, 1], [0.1, 0.2, 0.3], "all 3 rows have the same label"),
        ([0, 0], [0.1, 0.2], "all 2 rows have the same label"),
        ([0, 1, 1], [0.1, np.nan, np.nan], "2 of 3 probabilities are not numbers from 0 to 1"),
        ([0, 1], [0.1, 1.0001], "1 of 2 probabilities"),
        ([0, 1], [-0.0001, 0.3], "1 of 2 probabilities"),
        ([0, 1], [np.inf, 0.3], "1 of 2 probabilities"),
        ([0, 1], [0.1, 0.2, 0.3], "2 labels but 3 probabilities"),
    ],
)
def test_rows_without_a_meaning_are_refused(churned, probability, message):
    with pytest.raises(DataError, match=message):
        model_metrics.score_metrics(churned, probability, ECONOMICS)


@pytest.mark.parametrize("label", [np.nan, 2.0])
def test_labels_that_are_neither_0_nor_1_are_refused(label):
    with pytest.raises(DataError):
        model_metrics.score_metrics([0, 1, label], [0.1, 0.2, 0.3], ECONOMICS)


@pytest.mark.parametrize("decimals", [1, 9])
def test_reliability_bins_hold_every_row_once_in_rising_order(decimals):
    churned, probability = draw_answers(rows=503, decimals=decimals)
    churned.index = range(1000, 1503)
    bins = model_metrics.reliability(churned, probability)
    assert bins["rows"].sum() == 503 and bins["rows"].between(50, 51).all() and len(bins) == 10
    assert bins["predicted"].is_monotonic_increasing
    assert np.average(bins["observed"], weights=bins["rows"]) == pytest.approx(churned.mean())
    assert np.average(bins["predicted"], weights=bins["rows"]) == pytest.approx(probability.mean())


def test_reliability_shows_a_distortion():
    churned, probability = draw_answers(rows=5000, decimals=9)
    honest, doubled = (
        model_metrics.reliability(churned, p) for p in (probability, np.clip(2 * probability, 0, 1))
    )
    assert (honest["predicted"] - honest["observed"]).abs().max() < 0.06
    assert (doubled["predicted"] - doubled["observed"]).max() > 0.3
