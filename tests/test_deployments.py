import json

import pandas as pd
import pytest
import worlds

from churn_utils import deployments, lakehouse, registry, settings, validation
from churn_utils.deployments import PromotionError


@pytest.fixture(scope="module")
def registered_home(tmp_path_factory):
    """A home of its own: the promotions of this module would change what other modules compare with."""
    with worlds.at_home(tmp_path_factory.mktemp("deployments")):
        yield worlds.build_registered_home()


@pytest.fixture
def approve_another(registered_home):
    """Register one more version, have it pass and be approved; returns it."""

    def approve():
        version = worlds.register_model(registered_home["training_set"], registered_home["model"])
        validation.run_gate(version, worlds.AS_OF, draws=200)
        # there may be a champion by now, against which an equal model cannot win: that is not what is tested here
        evidence, _ = registry.read_evidence(version)
        digest = registry.write_evidence(version, {**evidence, "verdict": "pass"})
        registry.set_tags(version, {"gate": "pass", "gate_evidence_sha256": digest})
        validation.approve(version, "Ada Lovelace", "tested", worlds.AS_OF)
        return version

    return approve


@pytest.fixture
def approved(approve_another):
    """A fresh version that passed the gate and was approved."""
    return approve_another()


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


def test_the_champion_of_a_date_is_the_one_in_effect_then(approved, approve_another):
    march, june = settings.month_start(2), settings.month_start(5)
    deployments.promote(approved, worlds.AS_OF)
    second = approve_another()
    deployments.promote(second, march)
    table = deployments.read_deployments().set_index("version")
    assert table.loc[approved, "effective_to"] == table.loc[second, "effective_from"] == march
    assert deployments.champion_at(worlds.SNAPSHOT) is None
    assert deployments.champion_at(worlds.AS_OF) == approved
    assert deployments.champion_at(june) == second


def test_a_standing_approval_is_not_replaced_by_a_later_caller(approved):
    deployments.promote(approved, settings.month_start(2))
    again = validation.approve(approved, "policy:all-checks-passed", "every check passed", settings.month_start(2))
    assert again["approver"] == "Ada Lovelace"


def test_promoting_twice_changes_nothing(approved):
    first = deployments.promote(approved, settings.month_start(2))
    registry.register_version(registry.read_version(approved)["run_id"], worlds.DESCRIPTION, {})  # notebook 03 again
    again = deployments.promote(approved, settings.month_start(2))
    pd.testing.assert_frame_equal(first, again)
    assert registry.version_with_alias(registry.CHALLENGER) is None


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


@pytest.mark.parametrize("text", ["{}", "yes", "[]", "null", '{"approver": "Ada"}'])
def test_an_approval_that_is_no_approval_is_void(approved, text):
    registry.set_tags(approved, {"approval": text})
    with pytest.raises(PromotionError, match="lacks .*evidence_sha256"):
        deployments.promote(approved, worlds.AS_OF)


def test_a_rollback_to_tampered_evidence_or_without_a_name_is_refused(approved, approve_another):
    second = approve_another()
    deployments.promote(approved, settings.month_start(2))
    deployments.promote(second, settings.month_start(2))
    with pytest.raises(PromotionError, match="needs the name"):
        deployments.roll_back(worlds.AS_OF, " ", "why")
    evidence, _ = registry.read_evidence(approved)
    registry.write_evidence(approved, {**evidence, "seed": 99})
    with pytest.raises(PromotionError, match="is not what Ada Lovelace approved"):
        deployments.roll_back(settings.month_start(5), "Grace Hopper", "complaints")


def test_a_rollback_brings_the_earlier_version_back_and_says_who_and_why(approved, approve_another):
    second = approve_another()
    deployments.promote(approved, settings.month_start(2))
    deployments.promote(second, settings.month_start(2))
    table = deployments.roll_back(settings.month_start(5), "Grace Hopper", "complaints")  # approvals have run out
    last = table[table["effective_to"].isna()].iloc[0]
    assert (last["version"], last["action"], last["approved_by"]) == (approved, "rolled back", "Grace Hopper")
    assert deployments.version_in_effect() == registry.version_with_alias(registry.CHAMPION) == approved
    assert deployments.champion_at(settings.month_start(4)) == second
    assert deployments.check_deployed(approved)["approver"] == "Ada Lovelace"


def test_a_version_that_never_took_effect_is_not_deployed(approved):
    with pytest.raises(PromotionError, match="was never promoted"):
        deployments.check_deployed(approved)


def test_nothing_to_roll_back_to_is_said(home):
    assert deployments.version_in_effect() is None
    with pytest.raises(PromotionError, match="nothing to roll back to"):
        deployments.roll_back(worlds.AS_OF, "Grace Hopper", "complaints")


def test_two_promotions_of_one_day_are_both_on_record_and_the_later_holds(approved, approve_another):
    july = settings.month_start(6)
    change_approval(approved, expires="2026-01-01")
    second = approve_another()
    change_approval(second, expires="2026-01-01")
    deployments.promote(approved, july)
    table = deployments.promote(second, july)
    assert {approved, second} <= set(table.loc[table["effective_from"] == july, "version"])
    assert deployments.champion_at(july) == second


def test_a_promotion_cannot_take_effect_before_a_later_one(approved, approve_another):
    assert len(deployments.read_deployments().query("effective_from > @worlds.AS_OF"))
    second = approve_another()
    before = deployments.read_deployments()
    with pytest.raises(PromotionError, match=rf"cannot take effect before that, on {worlds.AS_OF:%Y-%m-%d}"):
        deployments.promote(second, worlds.AS_OF)
    pd.testing.assert_frame_equal(deployments.read_deployments(), before)


def test_a_promotion_that_is_on_record_is_no_new_one_whatever_came_after_it():
    table = deployments.read_deployments()
    first = table.iloc[0]
    assert table["effective_from"].max() > first["effective_from"]
    again = deployments.promote(first["version"], first["effective_from"])
    pd.testing.assert_frame_equal(again, table)
    assert registry.version_with_alias(registry.CHAMPION) == deployments.version_in_effect()


def test_the_predecessor_is_the_champion_that_was_replaced(approved):
    assert deployments.predecessor_at(worlds.SNAPSHOT) is None
    table = deployments.read_deployments()
    last = table.iloc[-1]
    replaced = table.loc[table["effective_to"] == last["effective_from"], "version"].iloc[-1]
    assert deployments.predecessor_at(last["effective_from"]) == replaced != last["version"]


def test_the_champion_alias_follows_a_table_that_was_taken_back(approved):
    first = deployments.read_deployments()["version"].iloc[0]
    lakehouse.rewind("deployments", 0)
    deployments.realign_champion()
    assert registry.version_with_alias(registry.CHAMPION) == first == deployments.champion_at(worlds.AS_OF)
    lakehouse.rewind("deployments", None)
    deployments.realign_champion()
    assert registry.version_with_alias(registry.CHAMPION) is None and deployments.champion_at(worlds.AS_OF) is None
