import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from churn_utils import settings
from churn_utils.evaluation import bootstrap
from churn_utils.evaluation.economics import Economics, decision_value_usd
from churn_utils.features import definitions
from churn_utils.monitoring import retraining_value
from churn_utils.monitoring.performance import MIN_LABELLED
from churn_utils.monitoring.retraining_value import REFIT_PARAMS
from churn_utils.training import models

ECONOMICS = Economics()


@pytest.fixture(autouse=True)
def one_thread():
    """As ``drift.decide`` sets it: on so few rows two threads of BLAS wait for each other."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def train_months(simulated):
    """Train rows of months 1 to 4."""
    return [rows[rows["split"] == "train"] for rows in simulated[1:5]]


def measure(rows, champion):
    return retraining_value.measure_gains(rows, champion, confidence=0.98)


def with_churners(rows, number):
    """The rows with the first of them as the only churners."""
    return rows.assign(churned=np.arange(len(rows)) < number)


# --- windows


@pytest.mark.parametrize(
    ("months", "spans"),
    [
        (0, []),
        (1, [(1, 1)]),
        (2, [(2, 2)]),
        (3, [(3, 3), (1, 3)]),
        (4, [(4, 4), (2, 4)]),
    ],
)
def test_windows_are_the_newest_month_and_three(train_months, simulated_champion, months, spans):
    news = pd.concat([train_months[0].head(0), *train_months[:months]])
    gains = measure(news, simulated_champion)
    found = [(gain.labels_from, gain.labels_to) for gain in gains]
    assert found == [tuple(f"{settings.month_start(m):%Y-%m-%d}" for m in span) for span in spans]


@pytest.mark.parametrize("of_whom", ["leave", "stay"])
def test_a_window_needs_enough_customers_of_both_classes(train_months, simulated_champion, of_whom):
    def measured(number):
        rows = train_months[0]
        churners = number if of_whom == "leave" else len(rows) - number
        return len(measure(with_churners(rows, churners), simulated_champion))

    assert measured(MIN_LABELLED) == 1 and measured(MIN_LABELLED - 1) == 0


def test_a_month_without_churners_leaves_the_longer_window(train_months, simulated_champion):
    news = pd.concat([*train_months[:2], with_churners(train_months[2], 0)])
    gains = measure(news, simulated_champion)
    assert [gain.rows for gain in gains] == [len(news)]


# --- the refit


def test_the_quick_refit_sees_inputs_as_a_training_does(simulated, simulated_champion):
    window = retraining_value.encode_window(simulated[1], simulated_champion)
    codes = {
        name: pd.Categorical(simulated[1][name], values).codes
        for name, values in definitions.CATEGORICAL.items()
    }
    columns = models.build_estimator(REFIT_PARAMS, seed=0)[:-1]
    assert np.array_equal(window.design, columns.fit_transform(simulated[1].assign(**codes)))


def test_a_fold_keeps_no_trace_of_the_fold_before(train_months, simulated_champion):
    rows = train_months[0]
    window = retraining_value.encode_window(rows, simulated_champion)
    found, _ = retraining_value.simulate_refit(window, ECONOMICS, seed=0)
    fit, held_out = models.make_folds(rows, seed=0)[-1]
    churned = rows["churned"].to_numpy()
    alone = models.build_estimator(REFIT_PARAMS, seed=0)[-1].set_params(tol=1e-9)
    alone.fit(window.design[fit], churned[fit])
    refit = alone.predict_proba(window.design[held_out])[:, 1]

    def value_usd(probability):
        treated = probability >= ECONOMICS.threshold
        return decision_value_usd(churned[held_out], treated, ECONOMICS)

    own = window.champion_probability[held_out]
    assert np.array_equal(found[held_out], value_usd(refit) - value_usd(own))


def test_the_moved_intercept_meets_the_churn_rate():
    generator = np.random.default_rng(0)
    known = generator.beta(1, 3, 500)
    churned = generator.random(500) < 0.6
    moved = retraining_value.move_intercept(known, churned, known)
    assert moved.mean() == pytest.approx(churned.mean())
    shift = np.log(moved / (1 - moved)) - np.log(known / (1 - known))
    assert shift == pytest.approx(np.full(500, shift[0]))


# --- the interval


def test_the_interval_is_that_of_a_bootstrap_over_customers():
    generator = np.random.default_rng(0)
    customers = pd.Series(np.arange(3000) // 3)
    gain = np.repeat(generator.normal(5, 100, 1000), 3) + generator.normal(0, 10, 3000)
    weights = bootstrap.resample(customers, 4000, seed=0)
    sampled = np.quantile((weights @ gain) / weights.sum(axis=1), [0.01, 0.99])
    found = retraining_value.interval_by_customer(gain, customers, 0.98)
    assert found == pytest.approx(sampled, abs=0.6)
