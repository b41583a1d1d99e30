from types import SimpleNamespace

import factories
import numpy as np
import pandas as pd
import pytest

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.errors import DeploymentError, UsageError
from churn_utils.evaluation.economics import Economics
from churn_utils.inference import log_rows
from churn_utils.registry import approvals, deployments, versions
from churn_utils.serving import ab_test
from churn_utils.serving.ab_test import Trial

IDS = [f"{i:04}-AAAAA" for i in range(20_000)]


def test_a_customer_always_gets_the_same_arm_and_the_share_is_kept():
    trial = Trial(2, 1, ab_test.SPLIT, 0.1, "2025-02-01", "")
    picked = [trial.picks(name) for name in IDS]
    assert picked == [trial.picks(name) for name in IDS]
    assert np.mean(picked) == pytest.approx(0.1, abs=0.01)


def test_a_larger_share_keeps_who_is_in_and_another_trial_mixes_anew():
    small, large = (Trial(2, 1, ab_test.SPLIT, share, "2025-02-01", "") for share in (0.1, 0.3))
    other = Trial(3, 1, ab_test.SPLIT, 0.1, "2025-02-01", "")
    inside = {name for name in IDS if small.picks(name)}
    assert inside < {name for name in IDS if large.picks(name)}
    assert len(inside & {name for name in IDS if other.picks(name)}) / len(inside) == pytest.approx(
        0.1, abs=0.03
    )


def test_a_trial_is_found_in_the_registry_until_it_is_stopped(serving_home):
    started = ab_test.start_trial(serving_home.challenger, factories.AS_OF, 0.2)
    assert ab_test.read_trial() == started
    ab_test.stop_trial(serving_home.challenger, "enough")
    assert ab_test.read_trial() is None
    assert ab_test.read_trial_of(serving_home.challenger).reason == "enough"
    assert versions.version_with_alias(versions.CHALLENGER) is None


def test_a_trial_against_a_champion_of_the_past_is_none(serving_home):
    ab_test.start_trial(serving_home.challenger, factories.AS_OF)
    approvals.approve(serving_home.challenger, "Ada", "good", factories.AS_OF)
    deployments.promote(serving_home.challenger, factories.AS_OF)
    versions.set_challenger(serving_home.challenger)
    assert ab_test.read_trial() is None


def test_a_split_needs_gate_and_approval_and_the_shadow_neither(serving_home):
    tags = versions.read_version(serving_home.challenger).tags
    name = f"approval.trial.{tags['gate_evidence_sha256']}"
    approval = tags[name]
    for tags, message in (
        ({"gate": "fail"}, "has not passed the gate"),
        ({name: "{}"}, "lacks approved, approver"),
    ):
        versions.set_tags(serving_home.challenger, tags)
        with pytest.raises(DeploymentError, match=message):
            ab_test.start_trial(serving_home.challenger, factories.AS_OF)
        versions.set_tags(serving_home.challenger, {"gate": "pass", name: approval})
    with pytest.raises(DeploymentError, match="expired"):
        ab_test.start_trial(serving_home.challenger, settings.month_start(9))
    versions.set_tags(serving_home.challenger, {"gate": "fail"})
    assert (
        ab_test.start_trial(serving_home.challenger, factories.AS_OF, mode=ab_test.SHADOW).mode
        == "shadow"
    )


def test_a_split_needs_evidence_that_would_let_it_take_over(serving_home):
    """What was rolled back, or never met the champion in effect, may not answer a share of the customers either."""
    challenger, later = serving_home.challenger, factories.AS_OF + pd.Timedelta(days=20)
    approvals.approve(challenger, "Ada", "good", factories.AS_OF)
    deployments.promote(challenger, factories.AS_OF)
    deployments.rollback(later, "Grace", "complaints")
    with pytest.raises(
        DeploymentError, match="was rolled back, having been promoted on evidence of"
    ):
        ab_test.start_trial(challenger, later, 0.5)
    factories.pass_gate(challenger, later, champion=99)
    approvals.approve(challenger, "Ada", "good", later, versions.TRIAL)
    with pytest.raises(DeploymentError, match="against version 99, while"):
        ab_test.start_trial(challenger, later)


def test_an_approval_for_a_trial_does_not_promote(serving_home):
    with pytest.raises(DeploymentError, match="approved for 'trial'"):
        deployments.promote(serving_home.challenger, factories.AS_OF)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 0}, "share is 0"),
        ({"share": 0.6}, "at most 0.5"),
        ({"mode": "both"}, "no mode 'both'"),
    ],
)
def test_wrong_trials_are_refused(serving_home, changes, message):
    with pytest.raises(UsageError, match=message):
        ab_test.start_trial(serving_home.challenger, factories.AS_OF, **changes)
    with pytest.raises(UsageError, match="no other champion"):
        ab_test.start_trial(serving_home.predecessor, factories.AS_OF)
    with pytest.raises(UsageError, match="no trial to stop"):
        ab_test.stop_trial(serving_home.predecessor, "why")


@pytest.fixture
def write_answers(serving_home):
    """Run a trial in which each arm decides rightly in some share of the cases; labels are those of the table."""
    trial = ab_test.start_trial(serving_home.challenger, factories.AS_OF, 0.5)

    def write(champion_right, challenger_right, customers=4000, **changes):
        labels = tables.read("churn_labels").head(customers)
        generator = np.random.default_rng(0)
        rows = []
        for at, label in enumerate(labels.itertuples()):
            arm = "challenger" if trial.picks(label.customer_id) else "champion"
            right = generator.random() < (
                challenger_right if arm == "challenger" else champion_right
            )
            decision = "offer" if label.churned == right else "no_offer"
            facts = (
                dict(
                    prediction_id=f"{at:06}",
                    answered_at=pd.Timestamp.now("UTC"),
                    as_of_date="2025-02-01",
                    request_id="r",
                    route="predictions",
                    customer_id=label.customer_id,
                    features_as_of="2025-01-01",
                    model_version=trial.version if arm == "challenger" else trial.champion,
                    arm=arm,
                    scores=(0.5, 0.25, decision, 0.0),
                )
                | changes
            )
            rows.append(log_rows.build_entry(**facts, inputs=(None,) * 21))
        tables.append("inference_log", log_rows.to_arrow(rows))
        return trial

    return write


def test_a_clearly_worse_arm_is_stopped_and_the_reason_says_by_how_much(write_answers):
    trial = write_answers(champion_right=0.9, challenger_right=0.6)
    verdict = ab_test.stop_if_worse(trial, factories.AS_OF)
    assert verdict["verdict"] == ab_test.WORSE and verdict["upper"] < 0
    stopped = ab_test.read_trial_of(trial.version)
    assert (
        stopped.status == ab_test.STOPPED and "USD a customer less than version" in stopped.reason
    )
    assert versions.version_with_alias(versions.CHALLENGER) is None


def test_a_better_arm_and_an_equal_one_go_on(write_answers):
    trial = write_answers(champion_right=0.6, challenger_right=0.9)
    assert ab_test.stop_if_worse(trial, factories.AS_OF)["verdict"] == ab_test.BETTER
    assert ab_test.read_trial() == trial


def test_equal_arms_are_not_told_apart(write_answers):
    trial = write_answers(champion_right=0.7, challenger_right=0.7)
    verdict = ab_test.judge_trial(trial, factories.AS_OF)
    assert verdict["verdict"] == ab_test.UNDECIDED and verdict["lower"] < 0 < verdict["upper"]


def test_the_interval_holds_the_difference_as_often_as_it_says(write_answers):
    trial = write_answers(champion_right=0.7, challenger_right=0.7, customers=2500)
    rows = ab_test.read_labelled_answers(trial, factories.AS_OF)
    generator, wrong = np.random.default_rng(1), 0
    for _ in range(200):  # arms drawn by lot: the true difference is 0
        mixed = rows.assign(arm=generator.permutation(rows["arm"]))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ab_test, "read_labelled_answers", lambda *_, mixed=mixed: mixed)
            patch.setattr(
                versions, "read_version", lambda _: SimpleNamespace(economics=Economics())
            )
            wrong += ab_test.judge_trial(trial, factories.AS_OF)["verdict"] != ab_test.UNDECIDED
    assert 2 <= wrong <= 20  # 5 % of 200 is 10


def test_too_few_customers_give_no_verdict(write_answers):
    trial = write_answers(champion_right=1.0, challenger_right=0.0, customers=900)
    assert ab_test.judge_trial(trial, factories.AS_OF)["verdict"] == ab_test.TOO_FEW
    assert ab_test.stop_if_worse(trial, factories.AS_OF)["verdict"] == ab_test.TOO_FEW
    assert ab_test.judge_trial(trial, factories.AS_OF, minimum=100)["verdict"] == ab_test.WORSE


def test_labels_that_have_not_arrived_do_not_count(write_answers):
    trial = write_answers(champion_right=0.9, challenger_right=0.1)
    assert ab_test.judge_trial(trial, factories.SNAPSHOT)["verdict"] == ab_test.TOO_FEW


@pytest.mark.parametrize(
    "changes",
    [
        {"arm": "shadow"},
        {"model_version": 99},
        {"features_as_of": None},
        {"answered_at": pd.Timestamp("2024-01-01", tz="UTC")},
    ],
)
def test_answers_that_are_not_of_this_trial_do_not_count(write_answers, changes):
    trial = write_answers(champion_right=0.9, challenger_right=0.1, **changes)
    assert ab_test.read_labelled_answers(trial, factories.AS_OF).empty


def test_customers_answered_by_the_other_arm_do_not_count_and_each_counts_once(write_answers):
    trial = write_answers(0.9, 0.1, customers=100)
    once = ab_test.read_labelled_answers(trial, factories.AS_OF)
    write_answers(0.9, 0.1, customers=100)  # asked again
    write_answers(
        0.9, 0.1, customers=100, arm="champion", model_version=trial.champion
    )  # before the split began
    again = ab_test.read_labelled_answers(trial, factories.AS_OF)
    assert len(once) == len(again) == 100 and again["arm"].value_counts().equals(
        once["arm"].value_counts()
    )


def test_without_any_answer_there_is_no_verdict(serving_home):
    trial = ab_test.start_trial(serving_home.challenger, factories.AS_OF)
    assert ab_test.judge_trial(trial, factories.AS_OF)["verdict"] == ab_test.TOO_FEW
