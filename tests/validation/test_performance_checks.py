import dataclasses

import factories
import numpy as np
import pandas as pd
import pytest

from churn_utils.registry import artifacts, versions
from churn_utils.validation import gate, performance_checks, record_checks


@pytest.fixture(scope="module")
def candidate(registered_home):
    return performance_checks.Candidate(
        registered_home["version"], factories.AS_OF, None, draws=300, seed=0
    )


def verdicts(candidate, probability):
    return gate.check_impostor(candidate, probability).set_index("check")["verdict"]


def test_a_sound_model_passes_every_check(candidate):
    assert set(gate.evaluate_checks(candidate)["verdict"]) == {"pass"}


def test_always_no_fails_on_value_and_prediction(candidate):
    found = verdicts(candidate, np.zeros(len(candidate.rows)))
    assert found["prediction"] == found["value_floor"] == found["auc_floor"] == "fail"


def test_offers_to_everybody_are_no_gain(candidate):
    p = 0.9 + 0.05 * candidate.probability
    assert verdicts(candidate, p)["value_floor"] == "fail"


def test_guessing_fails_the_auc_floor(candidate):
    p = np.random.default_rng(0).uniform(size=len(candidate.rows))
    assert verdicts(candidate, p)["auc_floor"] == "fail"


@pytest.mark.parametrize(
    "distort", [lambda p: np.clip(2 * p, 0, 1), lambda p: p / 2, lambda p: 0.5 + 0.2 * (p - 0.5)]
)
def test_distorted_probabilities_fail_calibration_alone_of_the_rankings(candidate, distort):
    found = verdicts(candidate, distort(candidate.probability))
    assert found["calibration"] == "fail"
    assert found["auc_floor"] == "pass"


@pytest.mark.parametrize("bad", [np.nan, 1.5, -0.1])
def test_a_number_that_is_no_probability_fails(candidate, bad):
    p = candidate.probability.copy()
    p[7] = bad
    assert verdicts(candidate, p)["prediction"] == "fail"


def test_a_group_that_loses_money_fails_the_slices(candidate):
    fibre = (candidate.rows["internet_service"] == "No").to_numpy()
    found = gate.check_impostor(candidate, np.where(fibre, 0.9, candidate.probability)).set_index(
        "check"
    )
    assert found.loc["slices", "verdict"] == "fail"
    assert "internet_service = No" in found.loc["slices", "detail"]


def test_an_empty_evaluation_split_is_not_evaluated(candidate):
    empty = dataclasses.replace(candidate, since=pd.Timestamp("2030-01-01"))
    found = gate.evaluate_checks(empty).set_index("check")
    assert (
        found.loc[["prediction", "auc_floor", "value_floor", "calibration", "slices"], "verdict"]
        == "not_evaluated"
    ).all()
    assert "no label had arrived" in found.loc["auc_floor", "detail"]


def test_a_check_that_raises_is_not_evaluated_and_the_gate_not_passed(candidate, monkeypatch):
    def explode(candidate):
        """Explode."""
        raise ZeroDivisionError("boom")

    monkeypatch.setitem(performance_checks.CHECKS, "calibration", explode)
    found = gate.evaluate_checks(candidate)
    assert found.set_index("check").loc["calibration", ["verdict", "detail"]].tolist() == [
        "not_evaluated",
        "ZeroDivisionError: boom",
    ]
    assert gate.overall_verdict(found) == "not_evaluated"


def test_a_description_that_says_nothing_fails(registered_home, candidate):
    bare = factories.register_model(
        registered_home["training_set"],
        factories.fit_model(registered_home["training_set"]),
        "A model.",
    )
    found = record_checks.check_documentation(dataclasses.replace(candidate, version=bare))
    assert found["verdict"] == "fail" and "data, purpose, threshold" in found["detail"]


def test_a_missing_artifact_fails(candidate, monkeypatch):
    monkeypatch.setattr(
        versions, "list_artifacts", lambda version: ["feature_contract.json", "importance.json"]
    )
    found = record_checks.check_artifacts(candidate)
    assert found["verdict"] == "fail" and "figures.html" in found["detail"]


def test_other_inputs_than_the_contract_fail_the_signature(candidate, monkeypatch):
    real = artifacts.read_schema(candidate.version)
    monkeypatch.setattr(artifacts, "read_schema", lambda version: {**real, "shoe_size": "double"})
    found = record_checks.check_signature(candidate)
    assert found["verdict"] == "fail" and "shoe_size" in found["detail"]


def test_rows_learned_by_heart_fail(candidate):
    perfect = 0.1 + 0.8 * candidate.learned["churned"].to_numpy()
    noise = np.random.default_rng(0).uniform(size=len(candidate.rows))
    other = candidate.with_probability(0.7 * candidate.probability + 0.3 * noise)
    other.__dict__["learned_probability"] = perfect
    found = performance_checks.check_overfitting(other)
    assert (
        found["verdict"] == "fail"
        and "ROC AUC 1.000 on the rows that it learned from" in found["detail"]
    )


def test_a_few_unlucky_offers_are_no_harm():
    none, offers = np.zeros(300, dtype=bool), np.arange(300) < 7
    assert performance_checks.p_value_of_harm(none, offers, none, 0.25) == pytest.approx(
        0.75**7
    )  # 13 %: no churner among seven
    many = np.arange(300) < 60
    assert performance_checks.p_value_of_harm(none, many, none, 0.25) == pytest.approx(0.75**60)
    churned = np.arange(300) % 4 == 0
    assert (
        performance_checks.p_value_of_harm(churned, many, none, 0.25) > 0.5
    )  # as many as pay for themselves
    assert performance_checks.p_value_of_harm(churned, many, many, 0.25) == 1  # nothing has changed


def test_offers_that_are_left_out_count_as_well():
    churned, none = np.ones(20, dtype=bool), np.zeros(20, dtype=bool)
    assert performance_checks.p_value_of_harm(churned, none, ~none, 0.25) == pytest.approx(0.25**20)
    assert performance_checks.p_value_of_harm(~churned, none, ~none, 0.25) == pytest.approx(1)


def test_equal_opportunity_is_the_gap_in_churners_reached(candidate):
    rows = pd.DataFrame(
        {
            "gender": ["Male", "Male", "Female", "Female", "Female"],
            "senior_citizen": [0, 0, 0, 1, 1],
            "churned": [True, True, True, True, False],
        }
    )
    found = performance_checks.equal_opportunity_difference(
        rows, np.array([True, False, True, True, True])
    )
    assert found == {"gender": 0.5, "senior_citizen": pytest.approx(1 / 3)}
    assert "equal opportunity gap gender" in performance_checks.check_slices(candidate)["detail"]


class TestAgainstAChampion:
    @pytest.fixture
    def challenge(self, candidate):
        """Judge a challenger's probabilities against a champion's."""

        def judge(challenger, champion, threshold=0.25):
            rival = candidate.with_probability(challenger)
            rival.__dict__.update(
                champion=99, champion_probability=champion, champion_threshold=threshold
            )
            return performance_checks.check_champion(rival), performance_checks.check_slices(rival)

        return judge

    def test_the_same_model_again_is_refused(self, challenge, candidate):
        found, _ = challenge(candidate.probability, candidate.probability)
        assert found["verdict"] == "fail" and found["value"] == 0

    def test_a_champion_of_other_costs_is_weighed_by_the_decisions_that_it_takes(
        self, challenge, candidate
    ):
        """The same probabilities, but it makes the offer to whoever reaches 0.02, as its costs were once."""
        found, slices = challenge(candidate.probability, candidate.probability, threshold=0.02)
        assert found["verdict"] == slices["verdict"] == "pass"
        assert (
            found["lower"] > 0
            and "wins on value_usd" in found["detail"]
            and "ROC AUC +0.0000" in found["detail"]
        )

    def test_a_clearly_better_one_passes(self, challenge, candidate):
        noise = np.random.default_rng(1).normal(0, 0.3, len(candidate.rows))
        found, slices = challenge(
            candidate.probability, np.clip(candidate.probability + noise, 0.01, 0.99)
        )
        assert found["verdict"] == slices["verdict"] == "pass"
        assert found["lower"] > 0

    def test_a_clearly_worse_one_fails(self, challenge, candidate):
        noise = np.random.default_rng(1).normal(0, 0.3, len(candidate.rows))
        found, slices = challenge(
            np.clip(candidate.probability + noise, 0.01, 0.99), candidate.probability
        )
        assert found["verdict"] == slices["verdict"] == "fail"
        assert found["upper"] < 0

    def test_a_better_ranking_that_costs_money_fails(self, challenge, candidate):
        truth = candidate.rows["churned"].to_numpy()
        ranks_well_offers_to_all = 0.3 + 0.6 * np.clip(candidate.probability + 0.2 * truth, 0, 1)
        found, _ = challenge(ranks_well_offers_to_all, candidate.probability)
        assert "wins on roc_auc" in found["detail"] and found["verdict"] == "fail"
