import json

import pandas as pd
import pytest
import worlds

from churn_utils import deployments, registry, settings, validation
from churn_utils.deployments import PromotionError


@pytest.fixture(scope="module")
def registered_home(tmp_path_factory):
    """A home of its own: the promotions of this module would change what other modules compare with."""
    with worlds.at_home(tmp_path_factory.mktemp("deployments")):
        yield worlds.build_registered_home()


@pytest.fixture
def approved(registered_home):
    """A fresh version that passed the gate and was approved."""
    version = worlds.register_model(registered_home["training_set"], registered_home["model"])
    validation.run_gate(version, worlds.AS_OF, draws=200)
    # there may be a champion by now, against which an equal model cannot win: the checks before it are what matters
    registry.set_tags(version, {"gate": "pass"})
    evidence, _ = registry.read_evidence(version)
    digest = registry.write_evidence(version, {**evidence, "verdict": "pass"})
    registry.set_tags(version, {"gate_evidence_sha256": digest})
    validation.approve(version, "Ada Lovelace", "tested", worlds.AS_OF)
    return version


def change_approval(version, **changes):
    approval = json.loads(registry.read_version(version)["tags"]["approval"])
    registry.set_tags(version, {"approval": json.dumps({**approval, **changes})})


def test_promotion_moves_the_alias_and_writes_the_deployment(approved):
    table = deployments.promote(approved, worlds.AS_OF)
    assert registry.version_with_alias(registry.CHAMPION) == approved
    assert registry.version_with_alias(registry.CHALLENGER) is None
    last = table.iloc[-1]
    assert (last["version"], last["approved_by"], last["effective_from"]) == (approved, "Ada Lovelace", worlds.AS_OF)
    assert pd.isna(last["effective_to"])


def test_the_champion_of_a_date_is_the_one_in_effect_then(approved):
    march, june = settings.month_start(2), settings.month_start(5)
    deployments.promote(approved, worlds.AS_OF)
    validation.approve(approved, "Grace Hopper", "again", march)
    deployments.promote(approved, march)
    table = deployments.read_deployments().set_index("effective_from")
    assert table.loc[worlds.AS_OF, "effective_to"] == march
    assert deployments.champion_at(worlds.SNAPSHOT) is None
    assert deployments.champion_at(worlds.AS_OF) == deployments.champion_at(june) == approved


def test_promoting_twice_changes_nothing(approved):
    first = deployments.promote(approved, settings.month_start(2))
    again = deployments.promote(approved, settings.month_start(2))
    pd.testing.assert_frame_equal(first, again)


def test_without_approval_nothing_is_promoted(registered_home):
    version = worlds.register_model(registered_home["training_set"], registered_home["model"])
    with pytest.raises(PromotionError, match="gate: never run"):
        deployments.promote(version, worlds.AS_OF)
    registry.set_tags(version, {"gate": "pass"})
    with pytest.raises(PromotionError, match="no approval"):
        deployments.promote(version, worlds.AS_OF)


def test_edited_evidence_voids_the_approval(approved):
    evidence, _ = registry.read_evidence(approved)
    evidence["checks"][0]["detail"] = "all is well"
    registry.write_evidence(approved, evidence)
    with pytest.raises(PromotionError, match="is not what Ada Lovelace approved"):
        deployments.promote(approved, worlds.AS_OF)


def test_an_expired_approval_is_void(approved):
    with pytest.raises(PromotionError, match="expired on 2025-03-04"):
        deployments.promote(approved, settings.month_start(3))


def test_an_approval_for_a_trial_is_none_for_promotion(approved):
    change_approval(approved, scope="trial")
    with pytest.raises(PromotionError, match="approved for 'trial'"):
        deployments.promote(approved, worlds.AS_OF)


def test_a_trainers_approval_is_void_however_it_came_there(approved, registered_home):
    change_approval(approved, approver=registered_home["trainer"])
    with pytest.raises(PromotionError, match="by its trainer"):
        deployments.promote(approved, worlds.AS_OF)
