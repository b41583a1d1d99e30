import factories
import numpy as np
import pandas as pd
import pytest

from churn_utils import settings
from churn_utils.errors import DeploymentError, UsageError
from churn_utils.registry import aliases, approvals, promotion, versions
from churn_utils.serving import ab_test
from churn_utils.serving.ab_test import AbTest

CUSTOMER_IDS = [f"{i:04}-AAAAA" for i in range(20_000)]


def make_split(version=2, share=0.1):
    return AbTest(version, 1, ab_test.SPLIT, share, "2025-02-01", "")


def test_split_keeps_its_customers_and_its_share():
    split = make_split(share=0.1)
    included = [split.includes(name) for name in CUSTOMER_IDS]
    assert included == [split.includes(name) for name in CUSTOMER_IDS]
    assert np.mean(included) == pytest.approx(0.1, abs=0.01)


def test_larger_share_keeps_customers_another_test_mixes_them():
    small, large, other = make_split(share=0.1), make_split(share=0.3), make_split(version=3)
    inside = {name for name in CUSTOMER_IDS if small.includes(name)}
    assert inside < {name for name in CUSTOMER_IDS if large.includes(name)}
    shared = inside & {name for name in CUSTOMER_IDS if other.includes(name)}
    assert len(shared) / len(inside) == pytest.approx(0.1, abs=0.03)


def test_ab_test_is_found_until_it_is_stopped(serving_home):
    started = ab_test.start(serving_home.challenger, factories.AS_OF, 0.2)
    assert ab_test.read_running() == started
    ab_test.stop(serving_home.challenger, "enough")
    assert ab_test.read_running() is None
    assert ab_test.read_last(serving_home.challenger).reason == "enough"
    assert aliases.version_with_alias(aliases.CHALLENGER) is None


def test_ab_test_against_a_former_champion_does_not_run(serving_home):
    ab_test.start(serving_home.challenger, factories.AS_OF)
    approvals.approve(serving_home.challenger, "Ada", "good", factories.AS_OF)
    promotion.promote(serving_home.challenger, factories.AS_OF)
    aliases.set_challenger(serving_home.challenger)
    assert ab_test.read_running() is None


def test_split_needs_gate_and_approval_shadow_neither(serving_home):
    challenger = serving_home.challenger
    tags = versions.read_version(challenger).tags
    name = f"approval.trial.{tags['gate_evidence_sha256']}"
    approval = tags[name]
    for changed, message in (
        ({"gate": "fail"}, "has not passed the gate"),
        ({name: "{}"}, "lacks approved, approver"),
    ):
        versions.set_tags(challenger, changed)
        with pytest.raises(DeploymentError, match=message):
            ab_test.start(challenger, factories.AS_OF)
        versions.set_tags(challenger, {"gate": "pass", name: approval})
    with pytest.raises(DeploymentError, match="expired"):
        ab_test.start(challenger, settings.month_start(9))
    versions.set_tags(challenger, {"gate": "fail"})
    shadow = ab_test.start(challenger, factories.AS_OF, mode=ab_test.SHADOW)
    assert shadow.mode == "shadow"


def test_split_needs_evidence_that_allows_a_promotion(serving_home):
    """A version that was rolled back, or was never compared with the champion, serves no share."""
    challenger = serving_home.challenger
    later = factories.AS_OF + pd.Timedelta(days=20)
    approvals.approve(challenger, "Ada", "good", factories.AS_OF)
    promotion.promote(challenger, factories.AS_OF)
    promotion.rollback(later, "Grace", "complaints")
    with pytest.raises(
        DeploymentError, match="was rolled back, having been promoted on evidence of"
    ):
        ab_test.start(challenger, later, 0.5)
    factories.pass_gate(challenger, later, champion=99)
    approvals.approve(challenger, "Ada", "good", later, versions.TRIAL)
    with pytest.raises(DeploymentError, match="against version 99, while"):
        ab_test.start(challenger, later)


def test_approval_for_an_ab_test_does_not_promote(serving_home):
    with pytest.raises(DeploymentError, match="approved for 'trial'"):
        promotion.promote(serving_home.challenger, factories.AS_OF)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 0}, "share is 0"),
        ({"share": 0.6}, "at most 0.5"),
        ({"mode": "both"}, "no mode 'both'"),
    ],
)
def test_wrong_options_are_refused(shared_serving_home, changes, message):
    with pytest.raises(UsageError, match=message):
        ab_test.start(shared_serving_home.challenger, factories.AS_OF, **changes)


def test_champion_cannot_be_tested_or_stopped(shared_serving_home):
    with pytest.raises(UsageError, match="no other champion"):
        ab_test.start(shared_serving_home.predecessor, factories.AS_OF)
    with pytest.raises(UsageError, match="no A/B test to stop"):
        ab_test.stop(shared_serving_home.predecessor, "why")
