import numpy as np
import pandas as pd
import pytest
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


def world(rows=400, seed=0, decimals=2):
    """Labels drawn from skewed probabilities, rounded so that many are equal and some lie on the threshold."""
    generator = np.random.default_rng(seed)
    probability = generator.beta(1, 2.5, rows).round(decimals)
    churned = generator.uniform(size=rows) < np.clip(probability, 0.02, 0.98)
    return pd.Series(churned), np.clip(probability, 0.001, 0.999)


@pytest.mark.parametrize("decimals", [1, 2, 9])
@pytest.mark.parametrize("name", ORACLES)
def test_a_metric_equals_its_definition_with_weights_and_ties(name, decimals):
    churned, probability = world(decimals=decimals)
    weights = np.random.default_rng(1).integers(0, 4, (5, len(churned)))
    weights[0] = 1
    found = model_metrics.score_metrics(churned, probability, ECONOMICS, weights)[name]
    y = churned.to_numpy(dtype=float)
    assert found.tolist() == pytest.approx(
        [ORACLES[name](y, probability, w) for w in weights], rel=1e-10
    )


def test_without_weights_every_row_counts_once():
    churned, probability = world()
    alone = model_metrics.score_metrics(churned, probability, ECONOMICS)
    ones = model_metrics.score_metrics(churned, probability, ECONOMICS, np.ones((1, len(churned))))
    assert alone.columns.tolist() == model_metrics.METRICS and len(alone) == 1
    pd.testing.assert_frame_equal(alone, ones)


def test_calibration_error_is_the_mean_gap_over_ten_equally_filled_bins():
    churned, probability = world(rows=500, decimals=9)
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
    churned, probability = world(decimals=9)
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
    churned, probability = world()
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


def test_a_customers_rows_are_drawn_together_and_as_many_customers_as_there_are():
    groups = pd.Series(list("abcabcdd"), index=range(10, 18))
    weights = model_metrics.resample(groups, draws=200, seed=0)
    assert weights.shape == (200, 8)
    by_customer = pd.DataFrame(weights.T).groupby(groups.to_numpy())
    assert (by_customer.min() == by_customer.max()).all(axis=None)
    assert (by_customer.first().sum() == 4).all()
    assert by_customer.first().mean(axis=1).tolist() == pytest.approx([1] * 4, abs=0.2)
    assert len(np.unique(weights, axis=0)) > 20


def test_draws_are_a_function_of_the_seed():
    groups = pd.Series(range(50))
    assert (model_metrics.resample(groups, 10, 3) == model_metrics.resample(groups, 10, 3)).all()
    assert (model_metrics.resample(groups, 10, 3) != model_metrics.resample(groups, 10, 4)).any()


def test_the_same_model_twice_differs_by_nothing_in_any_draw():
    churned, probability = world()
    draws = model_metrics.bootstrap_metrics(
        churned,
        {"one": probability, "two": probability.copy()},
        pd.Series(range(400)),
        ECONOMICS,
        50,
    )
    pd.testing.assert_frame_equal(draws["one"], draws["two"])
    assert draws["one"]["roc_auc"].nunique() == 50


def test_pairing_sees_a_small_difference_that_single_intervals_hide():
    churned, probability = world(rows=2000, decimals=9)
    worse = np.clip(probability + np.random.default_rng(1).normal(0, 0.05, 2000), 0.001, 0.999)
    draws = model_metrics.bootstrap_metrics(
        churned, {"a": probability, "b": worse}, pd.Series(range(2000)), ECONOMICS, 300
    )
    alone = {name: model_metrics.interval(frame).loc["roc_auc"] for name, frame in draws.items()}
    paired = model_metrics.interval(draws["a"] - draws["b"]).loc["roc_auc"]
    assert alone["a"]["lower"] < alone["b"]["upper"]
    assert paired["lower"] > 0


def test_copies_of_a_customers_rows_add_no_certainty():
    churned, probability = world(rows=150)
    once = model_metrics.metrics_with_intervals(
        churned, probability, pd.Series(range(150)), ECONOMICS, 100
    )
    copied = model_metrics.metrics_with_intervals(
        pd.concat([churned] * 4),
        np.tile(probability, 4),
        pd.Series(np.tile(range(150), 4)),
        ECONOMICS,
        100,
    )
    pd.testing.assert_frame_equal(once.drop("calibration_error"), copied.drop("calibration_error"))


def test_draws_that_do_not_fit_into_memory_together_are_made_in_parts_that_differ(monkeypatch):
    churned, probability = world()
    made, resample = [], model_metrics.resample
    monkeypatch.setattr(model_metrics, "ROWS_AT_ONCE", 1300)
    monkeypatch.setattr(
        model_metrics, "resample", lambda *args: made.append(args[1]) or resample(*args)
    )
    draws = model_metrics.bootstrap_metrics(
        churned, {"model": probability}, pd.Series(range(400)), ECONOMICS, 10
    )
    assert made == [3, 3, 3, 1]
    assert draws["model"].index.tolist() == list(range(10))
    assert draws["model"]["log_loss"].nunique() == 10


def test_interval_is_made_of_percentiles():
    draws = pd.DataFrame({"roc_auc": np.arange(101) / 100, "brier": 0.5})
    assert model_metrics.interval(draws).loc["roc_auc"].tolist() == pytest.approx([0.025, 0.975])
    assert model_metrics.interval(draws, level=0.8).loc["roc_auc"].tolist() == pytest.approx(
        [0.1, 0.9]
    )
    assert model_metrics.interval(draws).loc["brier"].tolist() == [0.5, 0.5]


def test_metrics_come_with_the_interval_round_their_value():
    churned, probability = world()
    found = model_metrics.metrics_with_intervals(
        churned, probability, pd.Series(range(400)), ECONOMICS, 200
    )
    assert found.index.tolist() == model_metrics.METRICS and found.columns.tolist() == [
        "value",
        "lower",
        "upper",
    ]
    assert found["value"].equals(
        model_metrics.score_metrics(churned, probability, ECONOMICS).iloc[0].rename("value")
    )
    inside = found.drop("calibration_error")  # a gap grows with every resampling
    assert (inside["lower"] < inside["value"]).all() and (inside["value"] < inside["upper"]).all()


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    churned, probability = world(rows=200_000, seed=99)
    truth = model_metrics.score_metrics(churned, probability, ECONOMICS).iloc[0]
    names = ["roc_auc", "log_loss", "brier", "recall", "value_usd"]
    covered = []
    for seed in range(150):
        rows = np.random.default_rng(seed).integers(0, len(churned), 300)
        found = model_metrics.metrics_with_intervals(
            churned[rows], probability[rows], pd.Series(range(300)), ECONOMICS, draws=200
        ).loc[names]
        covered.append((found["lower"] <= truth[names]) & (truth[names] <= found["upper"]))
    shares = pd.DataFrame(covered).mean()
    assert shares.between(0.90, 0.99).all(), shares.to_dict()


@pytest.mark.parametrize("decimals", [1, 9])
def test_reliability_bins_hold_every_row_once_in_rising_order(decimals):
    churned, probability = world(rows=503, decimals=decimals)
    churned.index = range(1000, 1503)
    bins = model_metrics.reliability(churned, probability)
    assert bins["rows"].sum() == 503 and bins["rows"].between(50, 51).all() and len(bins) == 10
    assert bins["predicted"].is_monotonic_increasing
    assert np.average(bins["observed"], weights=bins["rows"]) == pytest.approx(churned.mean())
    assert np.average(bins["predicted"], weights=bins["rows"]) == pytest.approx(probability.mean())


def test_reliability_shows_a_distortion():
    churned, probability = world(rows=5000, decimals=9)
    honest, doubled = (
        model_metrics.reliability(churned, p) for p in (probability, np.clip(2 * probability, 0, 1))
    )
    assert (honest["predicted"] - honest["observed"]).abs().max() < 0.06
    assert (doubled["predicted"] - doubled["observed"]).max() > 0.3
