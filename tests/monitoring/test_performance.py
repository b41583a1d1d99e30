import numpy as np
import pandas as pd
import pytest
from factories import make_scored
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from churn_utils import settings
from churn_utils.errors import DataError
from churn_utils.evaluation.economics import Economics
from churn_utils.monitoring import performance

ECONOMICS = Economics()
AS_OF = settings.month_start(3)


def labels_of(scored, label_date=AS_OF):
    return scored[["customer_id", "snapshot_date", "churned"]].assign(label_date=label_date)


def measure(scored):
    return performance.measure_performance(scored, AS_OF, "2025-03", ECONOMICS, draws=100)


def total_of(table):
    """Figures over all customers by metric."""
    return table[table["slice"] == performance.ALL].set_index("metric")


# --- labels


def test_labels_that_have_not_arrived_are_not_joined():
    scored = make_scored(100)
    late = labels_of(scored, settings.month_start(4))
    assert performance.join_labels(scored, late, AS_OF)["churned"].isna().all()
    known = performance.join_labels(scored, labels_of(scored), AS_OF)
    pd.testing.assert_frame_equal(known[scored.columns], scored)


def test_two_labels_for_one_customer_are_refused():
    scored = make_scored(10)
    with pytest.raises(DataError, match="10 label.*drop the doubles"):
        performance.join_labels(scored, pd.concat([labels_of(scored)] * 2), AS_OF)


# --- performance


def test_unlabelled_rows_are_counted_and_enter_no_metric():
    scored = make_scored()
    half = scored.assign(churned=scored["churned"].where(np.arange(len(scored)) < 2000))
    table = measure(half)
    assert list(table.columns) == performance.COLUMNS
    assert set(table["slice"]) == {"all", "contract=One year", "contract=Two year"}
    total = total_of(table)
    assert (total["rows"] == 4000).all() and (total["rows_labelled"] == 2000).all()
    only = total_of(measure(scored.head(2000)))
    assert total["value"].to_dict() == only["value"].to_dict()
    assert set(total.index) == set(performance.METRICS)
    assert (total["lower"] <= total["value"]).drop("calibration_error").all()


def test_a_window_without_labels_has_its_counts_and_no_value():
    table = measure(make_scored(300).assign(churned=np.nan))
    assert table[["value", "lower", "upper"]].isna().all(axis=None)
    assert (table["rows_labelled"] == 0).all()
    assert total_of(table).loc["roc_auc", "rows"] == 300


@pytest.mark.parametrize(("rows", "is_measured"), [(49, False), (50, True)])
def test_fewer_than_fifty_labels_give_no_value(rows, is_measured):
    assert total_of(measure(make_scored(rows)))["value"].notna().all() == is_measured


def test_nothing_scored_gives_no_row():
    assert measure(make_scored(1).head(0)).empty


def test_versions_are_measured_apart():
    scored = make_scored(600)
    table = measure(pd.concat([scored, scored.assign(model_version=2, churn_probability=0.5)]))
    roc_auc = table[(table["slice"] == "all") & (table["metric"] == "roc_auc")]
    value = roc_auc.set_index("model_version")["value"]
    assert value[2] == 0.5 and value[1] > 0.6


def test_the_loss_is_what_decisions_cost_against_hindsight():
    scored = make_scored()
    offer = scored["churn_probability"] >= ECONOMICS.threshold
    wrong = (offer & (scored["churned"] == 0)).mean()
    missed = (~offer & (scored["churned"] == 1)).mean()
    loss = total_of(measure(scored)).loc["loss_usd", "value"]
    assert loss == pytest.approx(500 * wrong + 1500 * missed)


# --- estimates before labels


def estimate(scored, as_of=AS_OF):
    return performance.estimate_performance(scored, as_of, "2025-03", ECONOMICS)


def compare(*tables):
    return performance.compare_estimate(pd.concat(tables)).set_index("metric")


def test_the_estimate_agrees_with_labels_of_a_calibrated_model():
    scored = make_scored()
    estimated = estimate(scored.drop(columns="churned"))
    assert list(estimated.columns) == performance.COLUMNS
    assert (estimated["rows_labelled"] == 0).all() and (estimated["rows"] == 4000).all()
    both = compare(estimated, measure(scored))
    assert both.loc[["roc_auc", "value_usd", "brier", "recall"], "inside"].all()
    probability = scored["churn_probability"]
    treated = probability >= ECONOMICS.threshold
    expected = (treated * ECONOMICS.expected_value_usd(probability)).mean()
    value = estimated.set_index("metric").loc["estimated_value_usd", "value"]
    assert value == pytest.approx(expected)


def test_labels_show_what_the_estimate_cannot_see():
    scored = make_scored()
    changed = np.where(np.arange(len(scored)) % 3 == 0, 1.0, scored["churned"])
    both = compare(estimate(scored), measure(scored.assign(churned=changed)))
    assert not both.loc[["roc_auc", "value_usd", "log_loss"], "inside"].any()


def test_the_first_estimate_is_the_forecast():
    scored = make_scored(600)
    later = estimate(scored.assign(churn_probability=0.5), settings.month_start(4))
    both = compare(later, estimate(scored), measure(scored))
    assert (
        both.loc["value_usd", "estimated"]
        != later.set_index("metric").loc["estimated_value_usd", "value"]
    )
    assert len(both) == len(performance.METRICS) - 1  # the calibration error has no estimate


def test_nothing_scored_gives_no_estimate():
    assert estimate(make_scored(1).head(0)).empty


# --- how uncertain a calibration is


def calibrate(draws, rows):
    """Calibrate a score on labelled rows; return the error of it, and the model's mapping."""
    log_odds = draws.normal(-1.2, 1.5, rows)
    churned = draws.random(rows) < expit(log_odds)
    sigmoid = LogisticRegression(C=np.inf).fit(log_odds[:, None], churned)
    probability = sigmoid.predict_proba(log_odds[:, None])[:, 1]
    return performance.measure_calibration_error(churned, probability), sigmoid


def test_the_calibration_error_shrinks_with_rows():
    draws = np.random.default_rng(0)
    small, large = (np.diag(calibrate(draws, rows)[0]) for rows in (700, 70_000))
    assert small / large == pytest.approx([100, 100], rel=0.4)


def test_an_uncertain_calibration_widens_the_interval():
    draws = np.random.default_rng(3)
    error, _ = calibrate(draws, 1400)
    probability = draws.uniform(0.05, 0.95, 3000)
    scored = pd.DataFrame({"model_version": 1, "churn_probability": probability})
    widths = []
    for errors in ({}, {1: error}):
        table = performance.estimate_performance(scored, AS_OF, "2025-02", ECONOMICS, errors)
        row = table.set_index("metric").loc["estimated_value_usd"]
        widths.append(row["upper"] - row["lower"])
    assert widths[1] > 1.2 * widths[0]


def test_a_row_that_counts_twice_is_no_two_rows():
    draws = np.random.default_rng(1)
    probability = draws.uniform(0.05, 0.95, 2000)
    churned = draws.random(2000) < probability
    once = performance.measure_calibration_error(churned, probability)
    twice = performance.measure_calibration_error(churned, probability, np.full(2000, 2.0))
    assert twice == pytest.approx(once)


@pytest.mark.long
def test_the_estimate_holds_what_comes_in_95_of_100_months():
    draws = np.random.default_rng(2)
    inside = {"with": 0, "without": 0}
    repeats = 120
    for _ in range(repeats):
        error, sigmoid = calibrate(draws, 1400)
        log_odds = draws.normal(-1.2, 1.5, 4000)
        churned = (draws.random(4000) < expit(log_odds)).astype(float)
        probability = sigmoid.predict_proba(log_odds[:, None])[:, 1]
        scored = pd.DataFrame({"model_version": 1, "churn_probability": probability})
        rows = np.ones((1, 4000))
        came = performance.score_with_loss(churned, probability, Economics(), rows)["loss_usd"][0]
        for name, errors in (("with", {1: error}), ("without", {})):
            table = performance.estimate_performance(
                scored, AS_OF, "2025-02", Economics(), errors, draws=100
            ).set_index("metric")
            bounds = table.loc["estimated_loss_usd", ["lower", "upper"]]
            inside[name] += bounds["lower"] <= came <= bounds["upper"]
    assert 0.9 <= inside["with"] / repeats <= 0.99
    assert inside["without"] / repeats < 0.8, "labels' chance alone is too narrow"
