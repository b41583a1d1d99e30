import json

import pandas as pd
import pytest
import worlds

from churn_utils import batch, deployments, lakehouse, registry, settings, validation
from churn_utils.deployments import PromotionError


@pytest.fixture(scope="module")
def registered_home(tmp_path_factory):
    """A home of its own: the promotions of this module would change what other modules compare with."""
    with worlds.at_home(tmp_path_factory.mktemp("deployments")):
        yield worlds.build_registered_home()


@pytest.fixture(scope="module")
def versions(registered_home):
    """Four versions of one model; every test has them approved anew and starts with no deployment."""
    return [worlds.register_model(registered_home["training_set"], registered_home["model"]) for _ in range(4)]


@pytest.fixture(autouse=True)
def nothing_deployed(versions):
    """No deployment stands; what the audit holds stays."""
    lakehouse.rewind("deployments", None)
    deployments.realign_champion()


@pytest.fixture
def approve_another(versions):
    """Have one more version approved on evidence that says pass, and return it; the gate has tests of its own."""
    waiting = iter(versions)

    def approve():
        version = next(waiting)
        registry.register_version(registry.read_version(version)["run_id"], worlds.DESCRIPTION, {})
        digest = registry.write_evidence(version, {"version": version, "verdict": "pass", "checks": [{"detail": ""}]})
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


def test_two_promotions_of_one_day_are_both_on_record_and_the_later_holds(approved, approve_another):
    july = settings.month_start(6)
    change_approval(approved, expires="2026-01-01")
    second = approve_another()
    change_approval(second, expires="2026-01-01")
    deployments.promote(approved, july)
    table = deployments.promote(second, july)
    assert {approved, second} <= set(table.loc[table["effective_from"] == july, "version"])
    assert deployments.champion_at(july) == second


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


@pytest.fixture
def three(registered_home, approve_another):
    """Three versions promoted in months 7, 8 and 9 of this module's home; returns them in order."""
    versions = []
    for month in (7, 8, 9):
        version = approve_another()
        change_approval(version, expires="2026-01-01")
        deployments.promote(version, settings.month_start(month))
        versions.append(version)
    return versions


def test_a_rollback_restores_the_champion_before_and_says_what_changed(three, registered_home):
    first, second, third = three
    november = settings.month_start(10)
    entries = len(deployments.read_audit())
    changed = deployments.rollback(november, "Grace Hopper", "complaints from the call centre")
    assert changed.loc["version"].tolist() == [third, second]
    assert deployments.champion_at(settings.month_start(9)) == third  # the past is not rewritten
    assert deployments.champion_at(november) == registry.version_with_alias(registry.CHAMPION) == second
    row = deployments.read_deployments().iloc[-1]
    assert row[["action", "approved_by", "reason"]].tolist() == [
        "rolled back", "Grace Hopper", "complaints from the call centre",
    ]  # fmt: skip
    audit = deployments.read_audit()
    assert len(audit) == entries + 1
    last = audit.iloc[-1]
    assert (last["action"], last["version"], last["replaced"], last["by"]) == (
        "rolled back", second, third, "Grace Hopper",
    )  # fmt: skip
    assert "complaints" in registry.read_version(third)["tags"]["status"]


def test_scoring_after_a_rollback_uses_the_restored_version(three):
    _, second, third = three
    deployments.rollback(settings.month_start(9), "Grace Hopper", "wrong")
    scored = batch.score_snapshot(worlds.SNAPSHOT, settings.month_start(10), "champion")
    assert set(scored["model_version"]) == {second}


def test_a_second_rollback_goes_one_further_back_and_a_third_is_refused(three):
    first, second, third = three
    november = settings.month_start(10)
    deployments.rollback(november, "Grace Hopper", "wrong")
    assert deployments.find_predecessor(november) == first
    changed = deployments.rollback(settings.month_start(11), "Grace Hopper", "wrong too")
    assert changed.loc["version", "after"] == first == deployments.champion_at(settings.month_start(11))
    with pytest.raises(deployments.RollbackError, match=f"version {first} is in effect and no other stands"):
        deployments.rollback(settings.month_start(11), "Grace Hopper", "and again")


def test_a_rollback_on_the_day_of_the_promotion_holds(three):
    _, second, third = three
    october = settings.month_start(9)
    deployments.rollback(october, "Grace Hopper", "wrong")
    assert deployments.champion_at(october) == second
    assert deployments.find_predecessor(october) == three[0]


def test_what_was_rolled_back_needs_new_evidence(three):
    third = three[-1]
    december = settings.month_start(11)
    deployments.rollback(settings.month_start(10), "Grace Hopper", "wrong")
    with pytest.raises(PromotionError, match="was rolled back, having been promoted on this very evidence"):
        deployments.promote(third, december)
    evidence, _ = registry.read_evidence(third)
    digest = registry.write_evidence(third, {**evidence, "as_of": "2025-12-01"})
    registry.set_tags(third, {"gate_evidence_sha256": digest})
    change_approval(third, evidence_sha256=digest, expires="2026-01-01")
    deployments.promote(third, december)
    assert deployments.champion_at(december) == third


@pytest.mark.parametrize(("by", "reason"), [("", "wrong"), ("Grace Hopper", " ")])
def test_a_rollback_needs_a_name_and_a_reason(three, by, reason):
    with pytest.raises(deployments.RollbackError, match="needs the name of who decides it and a reason"):
        deployments.rollback(settings.month_start(10), by, reason)


def test_there_is_nothing_to_go_back_to_before_the_second_promotion(approved):
    with pytest.raises(deployments.RollbackError, match="no version is in effect"):
        deployments.rollback(worlds.AS_OF, "Grace Hopper", "wrong")
    deployments.promote(approved, worlds.AS_OF)
    with pytest.raises(deployments.RollbackError, match="no other stands"):
        deployments.rollback(worlds.AS_OF, "Grace Hopper", "wrong")


def test_a_version_that_no_longer_loads_is_not_restored(three, monkeypatch):
    def lost(version):
        raise registry.RegistryError(f"version {version} is gone")

    monkeypatch.setattr(registry, "load_model", lost)
    with pytest.raises(registry.RegistryError, match="is gone"):
        deployments.rollback(settings.month_start(10), "Grace Hopper", "wrong")
    assert deployments.champion_at(settings.month_start(10)) == three[-1]


def test_the_past_cannot_be_rolled_back(three):
    with pytest.raises(deployments.RollbackError, match="nothing can take effect before that"):
        deployments.rollback(settings.month_start(8), "Grace Hopper", "wrong")


def test_the_audit_outlives_a_rewind_of_the_deployments(three):
    before = deployments.read_audit()
    lakehouse.rewind("deployments", 0)
    pd.testing.assert_frame_equal(deployments.read_audit(), before)
    assert before["entry"].tolist() == list(range(1, len(before) + 1))
