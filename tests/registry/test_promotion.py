import json
import threading
from concurrent.futures import ThreadPoolExecutor

import factories
import pandas as pd
import pytest
from filelock import FileLock

from churn_utils import settings
from churn_utils.data import home_ledger, table_writes, tables
from churn_utils.errors import DataError, DeploymentError, ModelError
from churn_utils.inference import batch
from churn_utils.registry import (
    aliases,
    approvals,
    artifacts,
    deployments,
    gate_evidence,
    promotion,
    versions,
)
from churn_utils.registry.connection import connect_mlflow


@pytest.fixture(scope="module")
def undeployed_home(built_home, tmp_path_factory):
    """A home with four versions of one model, the first of them approved; and their numbers."""
    path, contents = built_home
    with factories.at_copy(path, tmp_path_factory.mktemp("undeployed")) as copy:
        four = [
            factories.register_model(contents["training_set"], contents["model"]) for _ in range(4)
        ]
        approve_next(four, factories.AS_OF)
    return copy, four


@pytest.fixture(scope="module")
def deployed_home(undeployed_home, tmp_path_factory):
    """A copy of that home with the first three versions promoted in months 7, 8 and 9."""
    path, four = undeployed_home
    with factories.at_copy(path, tmp_path_factory.mktemp("deployed")) as copy:
        for version, month in zip(four, (7, 8, 9), strict=False):
            approve_again(version, settings.month_start(month))
            promotion.promote(version, settings.month_start(month))
    return copy, four


@pytest.fixture
def four_versions(undeployed_home, tmp_path):
    """Four versions in a home of this test, the first of them approved, none promoted."""
    path, four = undeployed_home
    with factories.at_copy(path, tmp_path):
        yield four


@pytest.fixture
def approved(four_versions):
    """A version that passed the gate and was approved."""
    return four_versions[0]


@pytest.fixture
def three(deployed_home, tmp_path):
    """Three versions promoted in months 7, 8 and 9, in order, in a home of this test."""
    path, four = deployed_home
    with factories.at_copy(path, tmp_path):
        yield four[:3]


@pytest.fixture
def approve_another(undeployed_home):
    """Function that has the next version approved, on evidence that says pass; returns it."""
    _, four = undeployed_home

    def approve(as_of=factories.AS_OF):
        return approve_next(four, as_of)

    return approve


def approve_next(numbers, as_of):
    """Make the first version that the gate has not judged the challenger; have it approved."""
    version = next(number for number in numbers if "gate" not in versions.read_version(number).tags)
    aliases.set_challenger(version)
    approve_again(version, as_of)
    return version


def approve_again(version, as_of):
    """Gate and approval of a version on the word of the tests."""
    factories.pass_gate(version, as_of)
    approvals.approve(version, "Ada Lovelace", "tested", as_of)


def name_approval(version):
    """Tag of the approval for promotion on the newest evidence."""
    return f"approval.champion.{versions.read_version(version).tags['gate_evidence_sha256']}"


def change_approval(version, **changes):
    """Change facts of the approval as if it had been given so: the ledger knows of it."""
    tag = name_approval(version)
    facts = json.loads(versions.read_version(version).tags[tag]) | changes
    home_ledger.record("version", version, tag, facts)
    versions.set_tags(version, {tag: json.dumps(facts)})


def test_promotion_moves_the_alias_and_writes_the_deployment(approved):
    table = promotion.promote(approved, factories.AS_OF)
    assert aliases.version_with_alias(aliases.CHAMPION) == approved
    assert aliases.version_with_alias(aliases.CHALLENGER) is None
    last = table.iloc[-1]
    assert (last["version"], last["approved_by"], last["effective_from"]) == (
        approved,
        "Ada Lovelace",
        factories.AS_OF,
    )
    assert pd.isna(last["effective_to"])


def test_one_operation_reads_a_version_once(four_versions, monkeypatch):
    second = four_versions[1]
    factories.pass_gate(second)
    read_version, numbers = versions.read_version, []
    monkeypatch.setattr(versions, "read_version", lambda n: numbers.append(n) or read_version(n))
    for operation in (
        lambda: approvals.approve(second, "Ada Lovelace", "tested", factories.AS_OF),
        lambda: promotion.promote(second, factories.AS_OF),
        lambda: promotion.check_deployed(second),
    ):
        operation()
        assert numbers == [second]
        numbers.clear()


def test_the_champion_of_a_date_is_the_one_in_effect_then(approved, approve_another):
    march, june = settings.month_start(2), settings.month_start(5)
    promotion.promote(approved, factories.AS_OF)
    second = approve_another(march)
    promotion.promote(second, march)
    table = deployments.read_deployments().set_index("version")
    assert table.loc[approved, "effective_to"] == table.loc[second, "effective_from"] == march
    assert deployments.champion_at(factories.SNAPSHOT) is None
    assert deployments.champion_at(factories.AS_OF) == approved
    assert deployments.champion_at(june) == second


def test_a_standing_approval_is_not_replaced_by_a_later_caller(approved):
    promotion.promote(approved, settings.month_start(2))
    again = approvals.approve(
        approved, "policy:all-checks-passed", "every check passed", settings.month_start(2)
    )
    assert again.approver == "Ada Lovelace"


def test_promoting_twice_changes_nothing(approved):
    first = promotion.promote(approved, settings.month_start(2))
    versions.register_version(
        versions.read_version(approved).run_id, factories.DESCRIPTION, {}
    )  # notebook 03 again
    again = promotion.promote(approved, settings.month_start(2))
    pd.testing.assert_frame_equal(first, again)
    assert aliases.version_with_alias(aliases.CHALLENGER) is None


def test_without_approval_nothing_is_promoted(four_versions):
    version = four_versions[-1]
    with pytest.raises(DeploymentError, match="gate: never run"):
        promotion.promote(version, factories.AS_OF)
    versions.set_tags(version, {"gate": "pass"})
    with pytest.raises(DeploymentError, match="no approval"):
        promotion.promote(version, factories.AS_OF)


def test_edited_evidence_voids_the_approval(approved):
    factories.change_evidence(
        approved, gate_evidence.read_evidence(approved)[1], checks=[{"detail": "all is well"}]
    )
    with pytest.raises(DeploymentError, match="is not what Ada Lovelace approved"):
        promotion.promote(approved, factories.AS_OF)


@pytest.fixture
def cheap_offer(approved):
    """A deployed version whose cost of an offer was changed in MLflow's database."""
    promotion.promote(approved, factories.AS_OF)
    factories.change_param(approved, "offer_cost_usd", 5.0)
    return approved


def test_costs_that_were_changed_are_refused(cheap_offer):
    for use in (
        lambda: promotion.check_deployed(cheap_offer),
        lambda: batch.score_snapshot(factories.SNAPSHOT, factories.AS_OF, "backfill"),
    ):
        with pytest.raises(ModelError, match="offer_cost_usd: '500.0', now '5.0'"):
            use()


def test_an_old_home_has_its_costs_from_the_evidence(cheap_offer, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "ledger", lambda: tmp_path / "none")
    with pytest.raises(DeploymentError, match="5 USD an offer.*judged 500 USD an offer"):
        batch.score_snapshot(factories.SNAPSHOT, factories.AS_OF, "backfill")


def test_an_expired_approval_is_void(approved):
    with pytest.raises(DeploymentError, match="expired on 2025-03-04"):
        promotion.promote(approved, settings.month_start(3))


def test_an_approval_for_a_trial_is_none_for_promotion(approved):
    change_approval(approved, scope="trial")
    with pytest.raises(DeploymentError, match="approved for 'trial'"):
        promotion.promote(approved, factories.AS_OF)


def test_a_trainers_approval_is_void(approved):
    change_approval(approved, approver=versions.read_version(approved).trained_by)
    with pytest.raises(DeploymentError, match="by its trainer"):
        promotion.promote(approved, factories.AS_OF)


@pytest.mark.parametrize("text", ["{}", "yes", "[]", "null", '{"approver": "Ada"}'])
def test_an_approval_that_is_no_approval_is_void(approved, text):
    versions.set_tags(approved, {name_approval(approved): text})
    with pytest.raises(DeploymentError, match="lacks .*evidence_sha256"):
        promotion.promote(approved, factories.AS_OF)


def test_a_version_that_never_took_effect_is_not_deployed(approved):
    with pytest.raises(DeploymentError, match="was never promoted"):
        promotion.check_deployed(approved)


def test_of_two_promotions_of_one_day_the_later_holds(approved, approve_another):
    march = settings.month_start(2)
    promotion.promote(approved, march)
    second = approve_another(march)
    table = promotion.promote(second, march)
    assert {approved, second} <= set(table.loc[table["effective_from"] == march, "version"])
    assert deployments.champion_at(march) == second


def test_a_promotion_cannot_take_effect_before_a_later_one(three, approve_another):
    fourth = approve_another()
    before = deployments.read_deployments()
    with pytest.raises(
        DeploymentError,
        match=rf"nothing can take effect before that, on {factories.AS_OF:%Y-%m-%d}",
    ):
        promotion.promote(fourth, factories.AS_OF)
    pd.testing.assert_frame_equal(deployments.read_deployments(), before)


@pytest.mark.long
def test_a_recorded_promotion_is_not_repeated_after_later_ones(three):
    table, audit = deployments.read_deployments(), deployments.read_audit()
    again = promotion.promote(three[0], settings.month_start(7))
    pd.testing.assert_frame_equal(again, table)
    pd.testing.assert_frame_equal(deployments.read_audit(), audit)
    assert (
        aliases.version_with_alias(aliases.CHAMPION) == deployments.version_in_effect() == three[-1]
    )


@pytest.mark.long
def test_the_predecessor_is_the_champion_that_was_replaced(three):
    assert deployments.predecessor_at(factories.SNAPSHOT) is None
    assert deployments.predecessor_at(settings.month_start(7)) is None
    assert deployments.predecessor_at(settings.month_start(8)) == three[0]
    assert deployments.predecessor_at(settings.month_start(12)) == three[1]


def test_the_champion_alias_follows_a_rewound_table(approved, approve_another):
    promotion.promote(approved, settings.month_start(2))
    version = tables.version_of("deployments")
    promotion.promote(approve_another(), settings.month_start(2))
    table_writes.rewind("deployments", version)
    promotion.realign_champion()
    assert (
        aliases.version_with_alias(aliases.CHAMPION) == approved == deployments.version_in_effect()
    )
    table_writes.rewind("deployments", None)
    promotion.realign_champion()
    assert (
        aliases.version_with_alias(aliases.CHAMPION) is None
        and deployments.version_in_effect() is None
    )


def test_a_rollback_restores_the_predecessor_and_compares(three):
    first, second, third = three
    november = settings.month_start(10)
    entries = len(deployments.read_audit())
    changed = promotion.rollback(november, "Grace Hopper", "complaints from the call centre")
    assert changed.loc["version"].tolist() == [third, second]
    assert deployments.champion_at(settings.month_start(9)) == third  # the past is not rewritten
    assert (
        deployments.champion_at(november) == aliases.version_with_alias(aliases.CHAMPION) == second
    )
    row = deployments.read_deployments().iloc[-1]
    assert row[["action", "approved_by", "reason"]].tolist() == [
        "rolled back",
        "Grace Hopper",
        "complaints from the call centre",
    ]
    audit = deployments.read_audit()
    assert len(audit) == entries + 1
    last = audit.iloc[-1]
    assert (last["action"], last["version"], last["replaced"], last["by"]) == (
        "rolled back",
        second,
        third,
        "Grace Hopper",
    )
    assert "complaints" in versions.read_version(third).tags["status"]


def test_scoring_after_a_rollback_uses_the_restored_version(three):
    _, second, third = three
    promotion.rollback(settings.month_start(9), "Grace Hopper", "wrong")
    scored = batch.score_snapshot(factories.SNAPSHOT, settings.month_start(10), "champion")
    assert set(scored["model_version"]) == {second}


@pytest.mark.long
def test_a_second_rollback_goes_further_and_a_third_is_refused(three):
    first, second, third = three
    november = settings.month_start(10)
    promotion.rollback(november, "Grace Hopper", "wrong")
    assert deployments.predecessor_at(november) == first
    changed = promotion.rollback(settings.month_start(11), "Grace Hopper", "wrong too")
    assert (
        changed.loc["version", "after"]
        == first
        == deployments.champion_at(settings.month_start(11))
    )
    with pytest.raises(DeploymentError, match=f"version {first} is in effect and no other stands"):
        promotion.rollback(settings.month_start(11), "Grace Hopper", "and again")


@pytest.mark.long
def test_a_rollback_on_the_day_of_the_promotion_holds(three):
    _, second, third = three
    october = settings.month_start(9)
    promotion.rollback(october, "Grace Hopper", "wrong")
    assert deployments.champion_at(october) == second
    assert deployments.predecessor_at(october) == three[0]


@pytest.mark.long
def test_what_was_rolled_back_needs_new_evidence(three):
    third = three[-1]
    december = settings.month_start(11)
    promotion.rollback(settings.month_start(10), "Grace Hopper", "wrong")
    change_approval(third, expires="2026-01-01")
    with pytest.raises(
        DeploymentError, match="was rolled back, having been promoted on evidence of 2025-10-01"
    ):
        promotion.promote(third, december)
    approve_again(third, december)
    promotion.promote(third, december)
    assert deployments.champion_at(december) == third


@pytest.mark.parametrize(("by", "reason"), [("", "wrong"), ("Grace Hopper", " ")])
def test_a_rollback_needs_a_name_and_a_reason(three, by, reason):
    with pytest.raises(DeploymentError, match="needs the name of who decides it and a reason"):
        promotion.rollback(settings.month_start(10), by, reason)


def test_a_first_champion_cannot_be_rolled_back(approved):
    with pytest.raises(DeploymentError, match="nothing to roll back to .* no version is in effect"):
        promotion.rollback(factories.AS_OF, "Grace Hopper", "wrong")
    promotion.promote(approved, factories.AS_OF)
    with pytest.raises(DeploymentError, match="no other stands"):
        promotion.rollback(factories.AS_OF, "Grace Hopper", "wrong")


def test_a_version_that_no_longer_loads_is_not_restored(three, monkeypatch):
    def lost(version):
        raise ModelError(f"version {version} is gone")

    monkeypatch.setattr(artifacts, "load_model", lost)
    with pytest.raises(ModelError, match="is gone"):
        promotion.rollback(settings.month_start(10), "Grace Hopper", "wrong")
    assert deployments.champion_at(settings.month_start(10)) == three[-1]


def test_the_past_cannot_be_rolled_back(three):
    with pytest.raises(DeploymentError, match="nothing can take effect before that"):
        promotion.rollback(settings.month_start(8), "Grace Hopper", "wrong")


@pytest.mark.parametrize("what", ["description", "artifacts"])
def test_a_record_that_changed_after_the_gate_is_not_promoted(approved, what):
    run_id = versions.read_version(approved).run_id
    if what == "description":
        versions.register_version(run_id, "x", {})
    else:
        connect_mlflow().MlflowClient().log_text(run_id, "{}", "importance.json")
    with pytest.raises(
        DeploymentError,
        match=f"{what} of version {approved} changed after the gate. Run the gate",
    ):
        promotion.promote(approved, factories.AS_OF)
    approve_again(approved, factories.AS_OF)
    promotion.promote(approved, factories.AS_OF)


@pytest.mark.long
def test_the_status_tag_tells_the_last_change(three):
    second, third = three[1:]
    december = settings.month_start(11)
    promotion.rollback(settings.month_start(10), "Grace Hopper", "wrong")
    status = {version: versions.read_version(version).tags["status"] for version in (second, third)}
    assert status == {
        second: "rolled back to on 2025-11-01 by Grace Hopper",
        third: "rolled back on 2025-11-01 by Grace Hopper: wrong",
    }
    approve_again(third, december)
    promotion.promote(third, december)
    assert versions.read_version(third).tags["status"] == "promoted on 2025-12-01 by Ada Lovelace"


def test_of_two_simultaneous_promotions_one_is_refused(approved, approve_another):
    competing = [approved, approve_another()]
    before, together = len(deployments.read_audit()), threading.Barrier(2)

    def promote(version):
        together.wait()
        promotion.promote(version, factories.AS_OF)

    with ThreadPoolExecutor(2) as workers:
        errors = [
            future.exception()
            for future in [workers.submit(promote, version) for version in competing]
        ]
    assert sorted(error is None for error in errors) == [False, True]
    (error,) = filter(None, errors)
    winner = competing[errors.index(None)]
    assert f"against no champion, while version {winner} is in effect" in str(error)
    assert deployments.read_deployments()["version"].tolist() == [winner]
    assert len(deployments.read_audit()) == before + 1


def test_a_promotion_does_not_wait_forever(approved, monkeypatch):
    monkeypatch.setattr(table_writes, "WAIT_SECONDS", 0.1)
    other = FileLock(settings.lakehouse() / "deployments.lock")  # as another process would hold it
    with (
        other,
        pytest.raises(DataError, match="another process has been changing deployments in"),
    ):
        promotion.promote(approved, factories.AS_OF)
    promotion.promote(approved, factories.AS_OF)


def test_a_rollback_to_edited_evidence_changes_nothing(three):
    second, third = three[1:]
    factories.change_evidence(second, gate_evidence.read_evidence(second)[1], seed=99)
    table, audit = deployments.read_deployments(), deployments.read_audit()
    with pytest.raises(DeploymentError, match="is not what Ada Lovelace approved"):
        promotion.rollback(settings.month_start(10), "Grace Hopper", "complaints")
    pd.testing.assert_frame_equal(deployments.read_deployments(), table)
    pd.testing.assert_frame_equal(deployments.read_audit(), audit)
    assert aliases.version_with_alias(aliases.CHAMPION) == third


def test_an_expired_approval_does_not_prevent_a_rollback(three):
    november = settings.month_start(10)
    change_approval(
        three[1], expires="2025-09-02"
    )  # it was in force when the version took over, on 2025-09-01
    promotion.rollback(november, "Grace Hopper", "complaints")
    assert (
        deployments.version_in_effect() == aliases.version_with_alias(aliases.CHAMPION) == three[1]
    )
    assert promotion.check_deployed(three[1]).approver == "Ada Lovelace"


@pytest.mark.long
def test_rollbacks_pass_through_repeated_promotions_in_order(three):
    first, second, third = three
    for month, version in ((10, first), (11, second)):
        approve_again(version, settings.month_start(month))
        promotion.promote(version, settings.month_start(month))
    for month, restored in ((12, first), (13, third), (14, second), (15, first)):
        promotion.rollback(settings.month_start(month), "Grace Hopper", "wrong")
        assert deployments.version_in_effect() == restored


def test_the_audit_survives_a_rewind_and_records_it(three):
    before = deployments.read_audit()
    for _ in range(2):  # the second time there is nothing left to be told
        promotion.record_rewind(None)
        table_writes.rewind("deployments", None)
        audit = deployments.read_audit()
        pd.testing.assert_frame_equal(audit.head(len(before)), before)
        assert audit["entry"].tolist() == list(range(1, len(before) + 2))
        last = audit.iloc[-1]
        assert (last["action"], last["replaced"], last["as_of"]) == (
            "taken back",
            three[-1],
            settings.month_start(9),
        )
        assert pd.isna(last["version"])


@pytest.mark.long
def test_a_rewind_that_leaves_the_champion_is_no_event(three):
    before = deployments.read_audit()
    promotion.record_rewind(tables.version_of("deployments"))
    pd.testing.assert_frame_equal(deployments.read_audit(), before)


# --- evidence is of a comparison with the champion that would go, and of these days


def test_a_version_that_never_met_the_champion_is_not_promoted(approved, approve_another):
    late = approve_another()  # judged while there was no champion
    promotion.promote(approved, factories.AS_OF)
    before = deployments.read_deployments()
    with pytest.raises(
        DeploymentError,
        match=f"against no champion, while version {approved} is in effect. Run the",
    ):
        promotion.promote(late, factories.AS_OF)
    third = approve_another()
    approve_again(late, factories.AS_OF)
    promotion.promote(late, factories.AS_OF)
    with pytest.raises(
        DeploymentError, match=f"against version {approved}, while version {late} is in effect"
    ):
        promotion.promote(third, factories.AS_OF)
    assert deployments.read_deployments()["version"].tolist() == [*before["version"], late]


def test_a_comparison_with_a_former_champion_is_refused(approved):
    factories.pass_gate(approved, champion=99)
    approvals.approve(approved, "Ada Lovelace", "tested", factories.AS_OF)
    with pytest.raises(DeploymentError, match="against version 99, while no champion is in effect"):
        promotion.promote(approved, factories.AS_OF)


@pytest.mark.parametrize("judged", [1, 4])
def test_evidence_of_other_days_allows_no_promotion(approved, judged):
    factories.pass_gate(approved, settings.month_start(judged))
    approvals.approve(approved, "Ada Lovelace", "tested", settings.month_start(4))
    change_approval(
        approved, approved="2025-04-01"
    )  # with a date that no approval of the later evidence is given
    with pytest.raises(
        DeploymentError, match="not within 31 days before 2025-04-01. Run the gate again"
    ):
        promotion.promote(approved, settings.month_start(3))


def test_an_approval_is_of_no_day_before_its_evidence(approved):
    factories.pass_gate(approved, settings.month_start(4))
    with pytest.raises(DeploymentError, match="was judged as of 2025-05-01, after 2025-04-01"):
        approvals.approve(approved, "Ada Lovelace", "tested", settings.month_start(3))


@pytest.mark.long
def test_a_later_approval_does_not_replace_the_one_in_use(three):
    """A rollback, and each look at what is deployed, go back to the first."""
    first, second = three[:2]
    before = versions.read_version(first).tags[name_approval(first)]
    again = approvals.approve(first, "Grace Hopper", "to go back to it", settings.month_start(9))
    assert (
        again.approver == "Ada Lovelace"
        and versions.read_version(first).tags[name_approval(first)] == before
    )
    for restored in (second, first):
        promotion.rollback(settings.month_start(9), "Grace Hopper", "complaints")
        assert deployments.version_in_effect() == restored


def test_an_approval_that_is_void_can_be_given_again(approved):
    promotion.promote(approved, factories.AS_OF)
    for changes in (
        {"expires": "2024-03-03"},
        {"expires": "soon"},
        {"approver": None},
        {"approver": ""},
    ):
        change_approval(approved, **changes)
        with pytest.raises(DeploymentError):
            promotion.check_deployed(approved)
        approvals.approve(approved, "Grace Hopper", "put right", factories.AS_OF)
        assert promotion.check_deployed(approved).approver == "Grace Hopper"


@pytest.mark.long
def test_a_rollback_in_a_year_that_was_mistyped_is_refused(three):
    with pytest.raises(DeploymentError, match="a rollback on 2026-10-01, a year or more ahead"):
        promotion.rollback(settings.month_start(21), "Grace Hopper", "complaints")
    assert deployments.version_in_effect() == three[-1]


@pytest.mark.long
def test_the_champion_is_not_promoted_on_other_evidence(three):
    third = three[-1]
    approve_again(third, settings.month_start(9))
    factories.pass_gate(third, settings.month_start(9), seed=1)
    approvals.approve(third, "Ada Lovelace", "tested", settings.month_start(9))
    with pytest.raises(
        DeploymentError, match=f"version {third} is in effect already, on other evidence"
    ):
        promotion.promote(third, settings.month_start(9))


# --- what is kept of gate and approval does not go when more of it comes


@pytest.mark.long
def test_the_gate_run_again_on_the_champion_leaves_it_in_effect(three):
    third = three[-1]
    recorded = gate_evidence.read_evidence(third)[1]
    factories.pass_gate(third, settings.month_start(10), verdict="fail")
    versions.set_tags(third, {"gate": "fail"})
    assert promotion.check_deployed(third).evidence_sha256 == recorded


@pytest.mark.long
def test_an_approval_for_a_trial_does_not_prevent_a_rollback(three):
    second = three[1]
    approve_again(second, settings.month_start(9))
    approvals.approve(
        second, "Grace Hopper", "to be tried", settings.month_start(9), versions.TRIAL
    )
    promotion.rollback(settings.month_start(9), "Grace Hopper", "wrong")
    assert deployments.version_in_effect() == second


def test_a_replaced_model_is_not_deployed_and_not_restored(three):
    second, third = three[1:]
    for version in (second, third):
        model = factories.find_model_file(version)
        model.write_bytes(model.read_bytes() + b" ")
        with pytest.raises(DeploymentError, match="are not those that the gate judged"):
            promotion.check_deployed(version)
    with pytest.raises(DeploymentError, match="are not those that the gate judged"):
        promotion.rollback(settings.month_start(10), "Grace Hopper", "wrong")
    assert deployments.version_in_effect() == third


@pytest.mark.long
def test_other_seeds_do_not_bring_back_a_rolled_back_version(three):
    third, october = three[-1], settings.month_start(9)
    promotion.rollback(october, "Grace Hopper", "wrong")
    factories.pass_gate(third, october, seed=7)
    approvals.approve(third, "Ada Lovelace", "tested", october)
    with pytest.raises(
        DeploymentError, match="evidence of 2025-10-01; that of 2025-10-01 is no later"
    ):
        promotion.promote(third, october)
    november = settings.month_start(10)
    approve_again(third, november)
    promotion.promote(third, november)
    assert deployments.version_in_effect() == third


@pytest.mark.long
def test_a_restored_version_answers_on_the_evidence_that_stood(three):
    """It was promoted twice, and the second time undone: what let it answer is the first time's."""
    second, third = three[1:]
    first_time = gate_evidence.read_evidence(second)[1]
    november = settings.month_start(10)
    approve_again(second, november)
    promotion.promote(second, november)
    for _ in range(2):
        promotion.rollback(november, "Grace Hopper", "wrong")
    assert deployments.version_in_effect() == second
    assert deployments.read_deployments()["evidence_sha256"].iloc[-1] == first_time


# --- several changes on one day, and changes that are cut short


@pytest.mark.long
def test_rollbacks_of_one_day_never_restore_what_was_rolled_back(approved, approve_another):
    march = settings.month_start(2)
    promotion.promote(approved, factories.AS_OF)
    for _ in range(2):
        promotion.promote(approve_another(march), march)
    two, three = deployments.read_deployments()["version"].tolist()[1:]
    for restored in (two, approved):
        promotion.rollback(march, "Grace Hopper", "wrong")
        assert deployments.version_in_effect() == deployments.champion_at(march) == restored
    with pytest.raises(DeploymentError, match="no other stands"):
        promotion.rollback(march, "Grace Hopper", "wrong")
    assert deployments.read_deployments()["version"].tolist() == [
        approved,
        two,
        three,
        two,
        approved,
    ]


@pytest.mark.long
def test_entries_are_those_of_the_audit(three):
    promotion.rollback(settings.month_start(9), "Grace Hopper", "wrong")
    table, audit = deployments.read_deployments(), deployments.read_audit().tail(4)
    assert (
        table["entry"].tolist() == audit["entry"].tolist()
        and table["version"].tolist() == audit["version"].tolist()
    )


def test_a_champion_is_in_effect_throughout_a_change(three, approve_another, monkeypatch):
    """The table changes in one commit: whatever is killed before or after it, a version answers."""
    fourth, real, november = (
        approve_another(settings.month_start(10)),
        table_writes.merge,
        settings.month_start(10),
    )
    seen = []

    def merge(table, frame):
        changed = real(table, frame)
        seen.append((table, deployments.version_in_effect()))
        return changed

    monkeypatch.setattr(table_writes, "merge", merge)
    promotion.promote(fourth, november)
    assert seen == [("audit", three[-1]), ("deployments", fourth)]
