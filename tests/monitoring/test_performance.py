import numpy as np
import pandas as pd
import pytest

from churn_utils import settings
from churn_utils.errors import DataError
from churn_utils.evaluation import bootstrap
from churn_utils.evaluation.economics import Economics
from churn_utils.features import definitions
from churn_utils.monitoring import performance

ECONOMICS = Economics()
AS_OF = settings.month_start(3)
MONTH = settings.month_start(2)


def make_scored(rows=4000, seed=0):
    """Predictions of a calibrated model with their labels."""
    generator = np.random.default_rng(seed)
    probability = generator.beta(1, 3, rows)
    return pd.DataFrame(
        {
            "customer_id": [f"c{i}" for i in range(rows)],
            "snapshot_date": MONTH,
            "model_version": 1,
            "churn_probability": probability,
            "contract": generator.choice(["One year", "Two year"], rows),
            "churned": (generator.random(rows) < probability).astype(float),
        }
    )


def labels_of(scored, label_date=AS_OF):
    return scored[["customer_id", "snapshot_date", "churned"]].assign(label_date=label_date)


def value_of(table, metric, column="value", **where):
    rows = table[(table["metric"] == metric) & (table["slice"] == where.get("slice", "all"))]
    return rows[column].item()


def measure(scored, **options):
    return performance.measure_performance(
        scored, AS_OF, "2025-03", ECONOMICS, draws=100, **options
    )


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
    table, only = measure(half), measure(scored.head(2000))
    assert list(table.columns) == performance.COLUMNS
    assert set(table["slice"]) == {"all", "contract=One year", "contract=Two year"}
    total = table[table["slice"] == "all"].set_index("metric")
    assert (total["rows"] == 4000).all() and (total["rows_labelled"] == 2000).all()
    assert (
        total["value"].to_dict()
        == only[only["slice"] == "all"].set_index("metric")["value"].to_dict()
    )
    assert set(total.index) == set(performance.METRICS)
    assert (total["lower"] <= total["value"]).drop("calibration_error").all()


def test_a_window_without_labels_has_missing_values_and_its_counts():
    table = measure(make_scored(300).assign(churned=np.nan))
    assert table[["value", "lower", "upper"]].isna().all(axis=None)
    assert (table["rows_labelled"] == 0).all() and value_of(table, "roc_auc", "rows") == 300


def test_versions_are_measured_apart():
    scored = make_scored(600)
    table = measure(pd.concat([scored, scored.assign(model_version=2, churn_probability=0.5)]))
    total = table[(table["slice"] == "all") & (table["metric"] == "roc_auc")].set_index(
        "model_version"
    )["value"]
    assert total[2] == 0.5 and total[1] > 0.6


def test_the_loss_is_what_decisions_cost_against_knowing_every_churner():
    scored = make_scored()
    offer = scored["churn_probability"] >= ECONOMICS.threshold
    wrong, missed = (
        (offer & (scored["churned"] == 0)).mean(),
        (~offer & (scored["churned"] == 1)).mean(),
    )
    assert value_of(measure(scored), "loss_usd") == pytest.approx(500 * wrong + 1500 * missed)


# --- estimate before labels


def test_the_estimate_agrees_with_labels_while_the_model_is_calibrated():
    scored = make_scored()
    estimate = performance.estimate_performance(
        scored.drop(columns="churned"), AS_OF, "2025-03", ECONOMICS
    )
    assert list(estimate.columns) == performance.COLUMNS and (estimate["rows_labelled"] == 0).all()
    both = performance.compare_estimate(pd.concat([estimate, measure(scored)])).set_index("metric")
    assert both.loc[["roc_auc", "value_usd", "brier", "recall"], "inside"].all()
    p = scored["churn_probability"]
    expected = ((p >= ECONOMICS.threshold) * ECONOMICS.expected_value_usd(p)).mean()
    assert value_of(estimate, "estimated_value_usd") == pytest.approx(expected)


def test_labels_show_what_the_estimate_cannot_see():
    scored = make_scored()
    changed = scored.assign(
        churned=np.where(np.arange(len(scored)) % 3 == 0, 1.0, scored["churned"])
    )
    estimate = performance.estimate_performance(scored, AS_OF, "2025-03", ECONOMICS)
    both = performance.compare_estimate(pd.concat([estimate, measure(changed)])).set_index("metric")
    assert not both.loc[["roc_auc", "value_usd", "log_loss"], "inside"].any()


# --- shifts


@pytest.mark.parametrize("rows", [100, 2000, 100_000])
def test_rows_alone_raise_no_shift(rows):
    generator = np.random.default_rng(rows)
    then = pd.DataFrame(
        {"tenure": generator.integers(0, 72, 4000), "gender": generator.choice(["F", "M"], 4000)}
    )
    now = pd.DataFrame(
        {"tenure": generator.integers(0, 72, rows), "gender": generator.choice(["F", "M"], rows)}
    )
    shift = performance.measure_shift(now, then)
    assert (shift["psi_beyond_chance"] < 0.03).all()
    moved = performance.measure_shift(now.assign(tenure=now["tenure"] + 20, gender="F"), then)
    assert (moved["psi_beyond_chance"] > 0.25).all()
    assert moved.loc["tenure", "effect_size"] == pytest.approx(20 / 20.8, abs=0.25)
    assert moved.loc["gender", "effect_size"] == pytest.approx(0.5, abs=0.03)


def test_a_shift_of_nothing_is_refused():
    with pytest.raises(DataError, match="0 now, 3 in the reference"):
        performance.measure_shift(pd.DataFrame({"tenure": []}), pd.DataFrame({"tenure": [1, 2, 3]}))


class ByTenure:
    """Looks at nothing but tenure."""

    def predict_proba(self, inputs):
        p = 1 / (1 + np.exp(inputs["tenure"].to_numpy() / 10 - 2))
        return np.c_[1 - p, p]


def test_use_asks_the_model(first_month):
    rows = first_month.astype(dict.fromkeys(definitions.INTEGER, "int64"))
    use = performance.measure_use(ByTenure(), rows)
    assert use["tenure"] == 1.0 and use.drop("tenure").max() == 0.0


def test_shifts_and_label_shift_fit_the_table():
    then = pd.DataFrame({"tenure": np.arange(500)})
    labels = performance.measure_label_shift(
        pd.Series([1.0, 0.0] * 100 + [np.nan] * 50), pd.Series([True, False] * 100)
    )
    table = performance.report_shift(
        performance.measure_shift(then, then), AS_OF, "2025-03", 1, 250, labels
    )
    assert list(table.columns) == performance.COLUMNS
    assert value_of(table, "churn_rate") == 0.5 and value_of(
        table, "effect_size.churned"
    ) == pytest.approx(0.0)
    assert (
        value_of(table, "churn_rate", "rows_labelled") == 200
        and value_of(table, "psi.tenure") == 0.0
    )
    unknown = performance.measure_label_shift(pd.Series([np.nan]), pd.Series([True, False]))
    assert unknown["value"].isna().all() and (unknown["rows_labelled"] == 0).all()


def test_the_interval_is_that_of_a_bootstrap_over_customers():
    generator = np.random.default_rng(0)
    customers = pd.Series(np.arange(3000) // 3)
    gain = np.repeat(generator.normal(5, 100, 1000), 3) + generator.normal(0, 10, 3000)
    weights = bootstrap.resample(customers, 4000, seed=0)
    sampled = np.quantile((weights @ gain) / weights.sum(axis=1), [0.01, 0.99])
    assert performance.interval_by_customer(gain, customers, 0.98) == pytest.approx(
        sampled, abs=0.6
    )
