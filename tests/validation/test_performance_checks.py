from types import SimpleNamespace

import factories
import numpy as np
import pandas as pd
import pytest

from churn_utils.evaluation import bootstrap
from churn_utils.validation import behaviour_checks, performance_checks, slice_check


def predicting(challenger, probability):
    return challenger.with_parts(probability=probability)


def test_always_no_fails_on_value_auc_and_prediction(sound_challenger):
    never = predicting(sound_challenger, np.zeros(len(sound_challenger.rows)))
    for check in (
        behaviour_checks.check_prediction,
        performance_checks.check_value_floor,
        performance_checks.check_auc_floor,
    ):
        assert check(never).verdict == "fail"


def test_offers_to_all_are_no_gain(sound_challenger):
    always = predicting(sound_challenger, 0.9 + 0.05 * sound_challenger.probability)
    assert performance_checks.check_value_floor(always).verdict == "fail"


@pytest.mark.parametrize(
    ("churners", "verdict"),
    [
        (25, "fail"),  # of 100 offers: they earn what they cost, give or take chance
        (60, "pass"),
    ],
)
def test_offers_have_to_earn_clearly_more_than_they_cost(churners, verdict):
    rows = pd.DataFrame({"churned": np.arange(200) < churners})
    challenger = SimpleNamespace(
        economics=factories.ECONOMICS,
        rows=rows,
        treated=np.arange(200) < 100,
        weights=bootstrap.resample(pd.Series(range(200)), 400, 0),
        row_weights=None,
    )
    found = performance_checks.check_value_floor(challenger)
    assert found.verdict == verdict and found.upper > 0
    assert (found.lower > 0) == (verdict == "pass")


def test_guessing_fails_the_auc_floor(sound_challenger):
    guess = np.random.default_rng(0).uniform(size=len(sound_challenger.rows))
    found = performance_checks.check_auc_floor(predicting(sound_challenger, guess))
    assert found.verdict == "fail"


@pytest.mark.parametrize(
    "distort",
    [lambda p: np.clip(2 * p, 0, 1), lambda p: p / 2, lambda p: 0.5 + 0.2 * (p - 0.5)],
    ids=["doubled", "halved", "squeezed"],
)
def test_distorted_probabilities_fail_calibration_alone(sound_challenger, distort):
    distorted = predicting(sound_challenger, distort(sound_challenger.probability))
    assert performance_checks.check_calibration(distorted).verdict == "fail"
    assert performance_checks.check_auc_floor(distorted).verdict == "pass"


@pytest.mark.parametrize("bad", [np.nan, 1.5, -0.1])
def test_a_number_that_is_no_probability_fails(sound_challenger, bad):
    probability = sound_challenger.probability.copy()
    probability[7] = bad
    found = behaviour_checks.check_prediction(predicting(sound_challenger, probability))
    assert found.verdict == "fail"


def test_rows_learned_by_heart_fail(sound_challenger):
    noise = np.random.default_rng(0).uniform(size=len(sound_challenger.rows))
    overfitted = sound_challenger.with_parts(
        probability=0.7 * sound_challenger.probability + 0.3 * noise,
        learned_probability=0.1 + 0.8 * sound_challenger.learned["churned"].to_numpy(),
    )
    found = performance_checks.check_overfitting(overfitted)
    assert found.verdict == "fail"
    assert "ROC AUC 1.000 on the rows that it learned from" in found.detail


@pytest.mark.parametrize(
    ("name", "limit", "figure", "verdict"),
    [
        ("auc_floor", "AUC_FLOOR", "lower", "fail"),  # an interval has to lie above its floor
        ("calibration", "CALIBRATION_LOSS", "value", "pass"),
        ("overfitting", "OVERFITTING_GAP", "value", "pass"),
    ],
)
def test_a_figure_at_its_limit(sound_challenger, monkeypatch, name, limit, figure, verdict):
    check = getattr(performance_checks, f"check_{name}")
    found = check(sound_challenger)
    monkeypatch.setattr(performance_checks, limit, getattr(found, figure))
    assert check(sound_challenger).verdict == verdict


# --- against the champion


THRESHOLD = 0.25


@pytest.fixture
def compare(sound_challenger):
    """Return a function that judges a challenger's probabilities against a champion's."""

    def compare(challenger, champion, threshold=THRESHOLD):
        rival = sound_challenger.with_parts(
            probability=challenger,
            champion=99,
            champion_probability=champion,
            champion_threshold=threshold,
        )
        return performance_checks.check_champion(rival), slice_check.check_slices(rival)

    return compare


@pytest.fixture
def noisy(sound_challenger):
    """Probabilities that are clearly worse than those of the sound challenger."""
    noise = np.random.default_rng(1).normal(0, 0.3, len(sound_challenger.rows))
    return np.clip(sound_challenger.probability + noise, 0.01, 0.99)


def draws_around(roc_auc, value_usd):
    """Return 20,001 draws whose lowest 2.5 % of each measure lie below its bound."""
    steps = np.linspace(-1, 1, 20_001)
    return pd.DataFrame({"roc_auc": roc_auc + steps, "value_usd": value_usd + steps})


def test_the_same_model_is_refused(compare, sound_challenger):
    found, _ = compare(sound_challenger.probability, sound_challenger.probability)
    assert found.verdict == "fail" and found.value == 0


def test_a_champion_decides_by_its_own_threshold(compare, sound_challenger):
    """The same probabilities, but the champion makes the offer from 0.02, as it once paid."""
    same = sound_challenger.probability
    found, slices = compare(same, same, threshold=0.02)
    assert found.verdict == slices.verdict == "pass"
    assert found.lower > 0
    assert "wins on value_usd" in found.detail and "ROC AUC +0.0000" in found.detail


def test_a_clearly_better_one_passes(compare, sound_challenger, noisy):
    found, slices = compare(sound_challenger.probability, noisy)
    assert found.verdict == slices.verdict == "pass"
    assert found.lower > 0


def test_a_clearly_worse_one_fails(compare, sound_challenger, noisy):
    found, slices = compare(noisy, sound_challenger.probability)
    assert found.verdict == slices.verdict == "fail"
    assert found.upper < 0


def test_a_better_ranking_that_costs_money_fails(compare, sound_challenger):
    truth = sound_challenger.rows["churned"].to_numpy()
    ranked = np.clip(sound_challenger.probability + 0.2 * truth, 0, 1)
    found, _ = compare(0.3 + 0.6 * ranked, sound_challenger.probability)
    assert "wins on roc_auc" in found.detail and found.verdict == "fail"


@pytest.mark.parametrize(
    ("value_usd", "wins"),
    [
        (0.96, []),  # 95 % interval above 0, but not 97.5 %: too little for one of two routes
        (0.98, ["value_usd"]),
        (0.94, []),
    ],
)
def test_each_of_two_routes_is_won_at_half_the_error_rate(value_usd, wins):
    found = performance_checks.compare_paired(draws_around(roc_auc=0.0, value_usd=value_usd))
    assert found.wins == wins
    assert (found.intervals.loc["value_usd", "lower"] > 0) == (value_usd > 0.95)


@pytest.mark.parametrize(
    ("roc_auc", "value_usd", "beats"),
    [
        (0.945, 2.0, True),  # the lower bound of ROC AUC is -0.005, within the margin of 0.01
        (0.93, 2.0, False),
        (2.0, -14.0, True),  # the lower bound of USD is -14.95, within the margin of 15
        (2.0, -14.1, False),
    ],
)
def test_a_win_must_not_cost_more_than_the_margin(roc_auc, value_usd, beats):
    found = performance_checks.compare_paired(draws_around(roc_auc, value_usd))
    assert found.wins and found.beats_champion == beats


def test_a_loss_of_the_whole_margin_is_harm(monkeypatch):
    draws = draws_around(roc_auc=2.0, value_usd=-14.0)
    lower = performance_checks.compare_paired(draws).intervals.loc["value_usd", "lower"]
    monkeypatch.setitem(performance_checks.MARGINS, "value_usd", -lower)
    assert not performance_checks.compare_paired(draws).is_harmless
