import numpy as np
import pytest

from churn_utils.validation import behaviour_checks, performance_checks


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
