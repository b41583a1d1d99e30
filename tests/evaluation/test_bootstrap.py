import numpy as np
import pandas as pd
import pytest
from factories import draw_answers

from churn_utils.evaluation import bootstrap
from churn_utils.evaluation import metrics as model_metrics
from churn_utils.evaluation.bootstrap import ScoredRows
from churn_utils.evaluation.economics import Economics

ECONOMICS = Economics()


def test_rows_of_a_customer_are_drawn_together():
    groups = pd.Series(list("abcabcdd"), index=range(10, 18))
    weights = bootstrap.resample(groups, draws=200, seed=0)
    assert weights.shape == (200, 8)
    by_customer = pd.DataFrame(weights.T).groupby(groups.to_numpy())
    assert (by_customer.min() == by_customer.max()).all(axis=None)
    assert (by_customer.first().sum() == 4).all()
    assert by_customer.first().mean(axis=1).tolist() == pytest.approx([1] * 4, abs=0.2)
    assert len(np.unique(weights, axis=0)) > 20


def test_draws_are_a_function_of_the_seed():
    groups = pd.Series(range(50))
    assert (bootstrap.resample(groups, 10, 3) == bootstrap.resample(groups, 10, 3)).all()
    assert (bootstrap.resample(groups, 10, 3) != bootstrap.resample(groups, 10, 4)).any()


def test_the_same_model_twice_differs_by_nothing_in_any_draw():
    churned, probability = draw_answers()
    draws = bootstrap.bootstrap_metrics(
        churned,
        {"one": probability, "two": probability.copy()},
        pd.Series(range(400)),
        ECONOMICS,
        50,
    )
    pd.testing.assert_frame_equal(draws["one"], draws["two"])
    assert draws["one"]["roc_auc"].nunique() == 50


def test_pairing_sees_what_single_intervals_hide():
    churned, probability = draw_answers(rows=2000, decimals=9)
    worse = np.clip(probability + np.random.default_rng(1).normal(0, 0.05, 2000), 0.001, 0.999)
    draws = bootstrap.bootstrap_metrics(
        churned, {"a": probability, "b": worse}, pd.Series(range(2000)), ECONOMICS, 300
    )
    alone = {name: bootstrap.interval(frame).loc["roc_auc"] for name, frame in draws.items()}
    paired = bootstrap.interval(draws["a"] - draws["b"]).loc["roc_auc"]
    assert alone["a"]["lower"] < alone["b"]["upper"]
    assert paired["lower"] > 0


def test_copies_of_a_customers_rows_add_no_certainty():
    churned, probability = draw_answers(rows=150)
    scored = ScoredRows(churned, probability, pd.Series(range(150)))
    four_times = ScoredRows(
        pd.concat([churned] * 4), np.tile(probability, 4), pd.Series(np.tile(range(150), 4))
    )
    once = bootstrap.metrics_with_intervals(scored, ECONOMICS, 100)
    copied = bootstrap.metrics_with_intervals(four_times, ECONOMICS, 100)
    pd.testing.assert_frame_equal(once.drop("calibration_error"), copied.drop("calibration_error"))


def test_draws_are_made_in_parts_that_fit_into_memory(monkeypatch):
    churned, probability = draw_answers()
    made, resample = [], bootstrap.resample
    monkeypatch.setattr(bootstrap, "ROWS_AT_ONCE", 1300)
    monkeypatch.setattr(
        bootstrap, "resample", lambda *args: made.append(args[1]) or resample(*args)
    )
    draws = bootstrap.bootstrap_metrics(
        churned, {"model": probability}, pd.Series(range(400)), ECONOMICS, 10
    )
    assert made == [3, 3, 3, 1]
    assert draws["model"].index.tolist() == list(range(10))
    assert draws["model"]["log_loss"].nunique() == 10


def test_interval_is_made_of_percentiles():
    draws = pd.DataFrame({"roc_auc": np.arange(101) / 100, "brier": 0.5})
    assert bootstrap.interval(draws).loc["roc_auc"].tolist() == pytest.approx([0.025, 0.975])
    assert bootstrap.interval(draws, level=0.8).loc["roc_auc"].tolist() == pytest.approx([0.1, 0.9])
    assert bootstrap.interval(draws).loc["brier"].tolist() == [0.5, 0.5]


def test_metrics_come_with_the_interval_round_their_value():
    churned, probability = draw_answers()
    scored = ScoredRows(churned, probability, pd.Series(range(400)))
    found = bootstrap.metrics_with_intervals(scored, ECONOMICS, 200)
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
    churned, probability = draw_answers(rows=200_000, seed=99)
    truth = model_metrics.score_metrics(churned, probability, ECONOMICS).iloc[0]
    names = ["roc_auc", "log_loss", "brier", "recall", "value_usd"]
    covered = []
    for seed in range(150):
        rows = np.random.default_rng(seed).integers(0, len(churned), 300)
        scored = ScoredRows(churned[rows], probability[rows], pd.Series(range(300)))
        found = bootstrap.metrics_with_intervals(scored, ECONOMICS, draws=200).loc[names]
        covered.append((found["lower"] <= truth[names]) & (truth[names] <= found["upper"]))
    shares = pd.DataFrame(covered).mean()
    assert shares.between(0.90, 0.99).all(), shares.to_dict()
