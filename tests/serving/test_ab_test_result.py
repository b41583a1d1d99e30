import factories
import numpy as np
import pandas as pd
import pytest

from churn_utils.data import table_writes, tables
from churn_utils.inference import log_rows
from churn_utils.registry import aliases
from churn_utils.serving import ab_test, ab_test_result
from churn_utils.serving.ab_test import AbTest
from churn_utils.serving.ab_test_result import AbTestResult, Evaluation

SPLIT = AbTest(2, 1, ab_test.SPLIT, 0.5, "2025-02-01", "2025-02-01T00:00:00+00:00")
SHADOW = AbTest(2, 1, ab_test.SHADOW, 0.5, "2025-02-01", "2025-02-01T00:00:00+00:00")


@pytest.fixture
def log_predictions(serving_home):
    """Run an A/B test in which each arm decides correctly in some share of the cases."""
    split = ab_test.start(serving_home.challenger, factories.AS_OF, 0.5)

    def write(champion_correct, challenger_correct, customers=4000, **changes):
        share_correct = {"champion": champion_correct, "challenger": challenger_correct}
        version = {"champion": split.champion, "challenger": split.version}
        labels = tables.read("churn_labels").head(customers)
        generator = np.random.default_rng(0)
        rows = []
        for at, label in enumerate(labels.itertuples()):
            arm = "challenger" if split.includes(label.customer_id) else "champion"
            correct = generator.random() < share_correct[arm]
            decision = "offer" if label.churned == correct else "no_offer"
            facts = {
                "prediction_id": f"{at:06}",
                "answered_at": pd.Timestamp.now("UTC"),
                "as_of_date": "2025-02-01",
                "request_id": "r",
                "caller": "",
                "route": "predictions",
                "customer_id": label.customer_id,
                "features_as_of": "2025-01-01",
                "model_version": version[arm],
                "arm": arm,
                "churn_probability": 0.5,
                "threshold": 0.25,
                "decision": decision,
                "expected_value_usd": 0.0,
                "offer_group": None,
            }
            entry = {**facts, **changes}
            assert list(entry) == list(log_rows.FACTS)
            rows.append((*entry.values(), *[None] * len(log_rows.INPUTS)))
        table_writes.append("inference_log", log_rows.to_arrow(rows))
        return split

    return write


def test_clearly_worse_arm_is_stopped_with_its_figures(log_predictions):
    split = log_predictions(champion_correct=0.9, challenger_correct=0.6)
    result = ab_test_result.stop_if_worse(split, factories.AS_OF)
    assert result.verdict == ab_test_result.WORSE and result.upper < 0
    stopped = ab_test.read_last(split.version)
    assert stopped.status == ab_test.STOPPED
    assert "USD a customer less than version" in stopped.reason
    assert aliases.version_with_alias(aliases.CHALLENGER) is None


def test_better_arm_goes_on(log_predictions):
    split = log_predictions(champion_correct=0.6, challenger_correct=0.9)
    result = ab_test_result.stop_if_worse(split, factories.AS_OF)
    assert result.verdict == ab_test_result.BETTER
    assert ab_test.read_running() == split


def test_equal_arms_are_undecided(log_predictions):
    split = log_predictions(champion_correct=0.7, challenger_correct=0.7)
    result = ab_test_result.evaluate(split, factories.AS_OF)
    assert result.verdict == ab_test_result.UNDECIDED and result.lower < 0 < result.upper


def share_that_is_ever_excluded(bound, true_difference=0.0, runs=400, looks=40, per_look=100):
    """Share of runs in which the difference lies outside the bounds at one of the looks."""
    generator = np.random.default_rng(1)
    excluded = 0
    for _ in range(runs):
        champion = draw_values(generator, looks * per_look)
        challenger = draw_values(generator, looks * per_look) + true_difference
        for look in range(ab_test_result.MIN_LABELLED, looks * per_look + 1, per_look):
            lower, upper = bound(champion[:look], challenger[:look])
            if not lower <= true_difference <= upper:
                excluded += 1
                break
    return excluded / runs


def draw_values(generator, count):
    """Values of decisions: most customers get no offer, some are kept, some offers are lost."""
    return generator.choice([0.0, 1500.0, -500.0], size=count, p=[0.6, 0.25, 0.15])


def test_bounds_hold_at_all_looks_together():
    assert share_that_is_ever_excluded(ab_test_result.bound_difference) <= 0.05


def test_a_fixed_interval_would_stop_equal_arms():
    def bound_once(champion, challenger):
        errors = np.sqrt(champion.var() / len(champion) + challenger.var() / len(challenger))
        difference = challenger.mean() - champion.mean()
        return difference - 1.96 * errors, difference + 1.96 * errors

    assert share_that_is_ever_excluded(bound_once) > 0.1


def test_too_few_customers_give_no_verdict(log_predictions):
    split = log_predictions(champion_correct=1.0, challenger_correct=0.0, customers=900)
    evaluate = ab_test_result.evaluate
    assert evaluate(split, factories.AS_OF).verdict == ab_test_result.TOO_FEW
    stopped = ab_test_result.stop_if_worse(split, factories.AS_OF)
    assert stopped.verdict == ab_test_result.TOO_FEW
    assert evaluate(split, factories.AS_OF, minimum=100).verdict == ab_test_result.WORSE


def test_labels_that_have_not_arrived_do_not_count(log_predictions):
    split = log_predictions(champion_correct=0.9, challenger_correct=0.1)
    result = ab_test_result.evaluate(split, factories.SNAPSHOT)
    assert result.verdict == ab_test_result.TOO_FEW


@pytest.mark.parametrize(
    "changes",
    [
        {"arm": "shadow"},
        {"model_version": 99},
        {"features_as_of": None},
        {"answered_at": pd.Timestamp("2024-01-01", tz="UTC")},
    ],
)
def test_predictions_of_no_arm_do_not_count(log_predictions, changes):
    split = log_predictions(champion_correct=0.9, challenger_correct=0.1, customers=100, **changes)
    assert ab_test_result.read_labelled_predictions(split, factories.AS_OF).empty


def test_each_customer_counts_once_and_only_in_its_own_arm(log_predictions):
    split = log_predictions(0.9, 0.1, customers=100)
    once = ab_test_result.read_labelled_predictions(split, factories.AS_OF)
    log_predictions(0.9, 0.1, customers=100)  # requested again
    before_the_split = {"arm": "champion", "model_version": split.champion}
    log_predictions(0.9, 0.1, customers=100, **before_the_split)
    again = ab_test_result.read_labelled_predictions(split, factories.AS_OF)
    assert len(once) == len(again) == 100
    assert again["arm"].value_counts().equals(once["arm"].value_counts())


def test_without_predictions_there_is_no_verdict(serving_home):
    split = ab_test.start(serving_home.challenger, factories.AS_OF)
    result = ab_test_result.evaluate(split, factories.AS_OF)
    assert result.verdict == ab_test_result.TOO_FEW


def test_only_a_split_with_new_predictions_is_evaluated(monkeypatch):
    monkeypatch.setattr(tables, "read_change_marker", lambda name: 7)
    assert Evaluation().is_due(SPLIT)
    assert not Evaluation().is_due(None) and not Evaluation().is_due(SHADOW)
    assert not Evaluation(log_marker=7).is_due(SPLIT)
    assert Evaluation(log_marker=8).is_due(SPLIT)
    assert not Evaluation(log_marker=8, next_at=float("inf")).is_due(SPLIT)


@pytest.mark.parametrize(("seconds", "pause"), [(0.1, 30), (10, 200)])
def test_slow_evaluations_are_rarer(monkeypatch, seconds, pause):
    result = AbTestResult(ab_test_result.TOO_FEW, 1, 1, 0.0, 0.0)
    clock = iter([100.0, 100.0 + seconds])
    monkeypatch.setattr(tables, "read_change_marker", lambda name: 7)
    monkeypatch.setattr(ab_test_result, "stop_if_worse", lambda *_: result)
    monkeypatch.setattr(ab_test_result.time, "monotonic", lambda: next(clock))
    verdict, evaluation = ab_test_result.evaluate_split(SPLIT, factories.AS_OF)
    assert verdict == ab_test_result.TOO_FEW and evaluation.log_marker == 7
    assert evaluation.next_at == pytest.approx(100 + seconds + pause)
