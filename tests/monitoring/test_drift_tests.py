import numpy as np
import pandas as pd
import pytest

from churn_utils.errors import DataError
from churn_utils.features import definitions
from churn_utils.monitoring import drift_tests


def draw_customers(generator, rows):
    tenure = generator.integers(0, 72, rows)
    return pd.DataFrame({"tenure": tenure, "gender": generator.choice(["F", "M"], rows)})


# --- shifts


@pytest.mark.parametrize("rows", [100, 2000, 100_000])
def test_rows_alone_raise_no_shift(rows):
    generator = np.random.default_rng(rows)
    then, now = draw_customers(generator, 4000), draw_customers(generator, rows)
    shift = drift_tests.measure_shift(now, then)
    assert (shift["psi_beyond_chance"] < 0.03).all()
    moved = drift_tests.measure_shift(now.assign(tenure=now["tenure"] + 20, gender="F"), then)
    assert (moved["psi_beyond_chance"] > 0.25).all()
    assert moved.loc["tenure", "effect_size"] == pytest.approx(20 / 20.8, abs=0.25)
    assert moved.loc["gender", "effect_size"] == pytest.approx(0.5, abs=0.03)


def test_psi_is_the_sum_over_bins_of_the_formula():
    now, then = np.array([49.5, 149.5]), np.array([99.5, 99.5])
    # with half a row added to each bin the shares are 1/4 and 3/4 against 1/2 and 1/2
    expected = -0.25 * np.log(0.5) + 0.25 * np.log(1.5)
    assert drift_tests.compute_psi(now, then) == pytest.approx(expected)


def test_an_empty_bin_is_not_infinitely_far():
    assert np.isfinite(drift_tests.compute_psi(np.array([0, 100]), np.array([100, 0])))


def test_psi_of_chance_bounds_that_of_one_population():
    generator = np.random.default_rng(0)
    shares = np.full(10, 0.1)
    now, then = generator.multinomial(1000, shares, 500), generator.multinomial(2000, shares, 500)
    below = [
        drift_tests.compute_psi(a, b) < drift_tests.compute_psi_of_chance(a, b)
        for a, b in zip(now, then, strict=True)
    ]
    assert 0.93 < np.mean(below) < 0.99


def test_a_constant_column_has_not_moved():
    ones = pd.DataFrame({"tenure": np.ones(100)})
    assert drift_tests.measure_shift(ones, ones).loc["tenure"].eq(0).all()


def test_a_shift_of_nothing_is_refused():
    nothing, three = pd.DataFrame({"tenure": []}), pd.DataFrame({"tenure": [1, 2, 3]})
    with pytest.raises(DataError, match="0 now, 3 in the reference"):
        drift_tests.measure_shift(nothing, three)


def test_shifts_are_listed_as_metrics():
    rows = pd.DataFrame({"tenure": np.arange(500)})
    table = drift_tests.list_shift_metrics(drift_tests.measure_shift(rows, rows))
    names = ["psi.tenure", "psi_beyond_chance.tenure", "effect_size.tenure"]
    assert table["metric"].tolist() == names and (table["value"] == 0).all()
    assert (table["rows_labelled"] == 0).all() and table[["lower", "upper"]].isna().all(axis=None)


# --- labels


def test_the_churn_rate_has_its_interval_and_effect():
    churned = pd.Series([1.0, 0.0] * 100 + [np.nan] * 50)
    table = drift_tests.measure_label_shift(churned, pd.Series([True, False] * 100))
    figures = table.set_index("metric")
    assert figures.loc["churn_rate", "value"] == 0.5
    half = 1.96 * np.sqrt(0.25 / 200)
    bounds = figures.loc["churn_rate", ["lower", "upper"]].tolist()
    assert bounds == pytest.approx([0.5 - half, 0.5 + half])
    assert figures.loc["effect_size.churned", "value"] == pytest.approx(0.0)
    assert (table["rows_labelled"] == 200).all()


def test_unknown_labels_have_no_shift():
    table = drift_tests.measure_label_shift(pd.Series([np.nan]), pd.Series([True, False]))
    assert table["value"].isna().all() and (table["rows_labelled"] == 0).all()


# --- reliance


class ByTenure:
    """Uses no feature but tenure."""

    def predict_proba(self, inputs):
        p = 1 / (1 + np.exp(inputs["tenure"].to_numpy() / 10 - 2))
        return np.c_[1 - p, p]


class Constant:
    """Uses no feature."""

    def predict_proba(self, inputs):
        return np.full((len(inputs), 2), 0.5)


def test_reliance_is_that_of_the_model(first_month):
    rows = first_month.astype(dict.fromkeys(definitions.INTEGER, "int64"))
    reliance = drift_tests.measure_feature_reliance(ByTenure(), rows)
    assert reliance["tenure"] == 1.0 and reliance.drop("tenure").max() == 0.0
    assert drift_tests.measure_feature_reliance(Constant(), rows).eq(0).all()
