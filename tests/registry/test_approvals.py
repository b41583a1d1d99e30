import statistics
import time

import factories
import pytest

from churn_utils import settings
from churn_utils.errors import DeploymentError, ModelError
from churn_utils.registry import (
    aliases,
    approval_checks,
    approvals,
    artifacts,
    gate_evidence,
    versions,
)
from churn_utils.registry.connection import connect_mlflow


@pytest.fixture(scope="module")
def judged_home(built_home, tmp_path_factory):
    """A home whose version passed the gate and is not approved."""
    path, contents = built_home
    with factories.at_copy(path, tmp_path_factory.mktemp("approvals")) as copy:
        factories.pass_gate(contents["version"])
    return copy


@pytest.fixture
def registered_home(built_home, tmp_path):
    """A home of its own with a version that the gate has not judged."""
    path, contents = built_home
    with factories.at_copy(path, tmp_path):
        yield contents


@pytest.fixture
def version(judged_home, built_home, tmp_path):
    """The version that passed, in a home of its own."""
    with factories.at_copy(judged_home, tmp_path):
        yield built_home[1]["version"]


def approve(version, scope=aliases.CHAMPION):
    return approvals.approve(version, "Ada Lovelace", "tested", factories.AS_OF, scope)


def check(version, *scopes):
    return approval_checks.check_newest(
        versions.read_version(version), factories.AS_OF, scopes or (aliases.CHAMPION,)
    )


def keep_approval(version, approver):
    """What somebody with write access to the registry could do."""
    approval = approval_checks.Approval(
        approver=approver,
        reason="good",
        scope="champion",
        evidence_sha256=gate_evidence.read_evidence(version)[1],
        approved="2025-02-01",
        expires="2025-03-04",
    )
    approval_checks.keep_approval(version, approval)


def test_an_approval_comes_with_the_evidence_that_it_is_for(version):
    given = approve(version)
    approval, evidence = check(version)
    assert approval == given and evidence == gate_evidence.read_evidence(version)[0]


def test_approvals_of_two_scopes_stand_side_by_side(version):
    approve(version)
    approve(version, versions.TRIAL)
    assert check(version)[0].scope == "champion"
    assert check(version, versions.TRIAL, aliases.CHAMPION)[0].scope == "trial"


def test_another_scope_is_not_enough(version):
    approve(version, versions.TRIAL)
    with pytest.raises(DeploymentError, match="approved for 'trial', not for 'champion'"):
        check(version)


def test_an_approval_counts_for_its_own_evidence_alone(version):
    approve(version)
    digest = gate_evidence.read_evidence(version)[1]
    factories.pass_gate(version, draws=99)
    with pytest.raises(DeploymentError, match="is not what Ada Lovelace approved"):
        check(version)
    approval, _ = approval_checks.check_approval(
        versions.read_version(version), digest, factories.AS_OF
    )
    assert approval.approver == "Ada Lovelace"


def test_an_approval_under_the_tag_of_another_scope_is_void(version):
    digest = approve(version, versions.TRIAL).evidence_sha256
    text = versions.read_version(version).tags[f"approval.trial.{digest}"]
    versions.set_tags(version, {f"approval.champion.{digest}": text})
    with pytest.raises(DeploymentError, match="approved for 'trial', not for 'champion'"):
        check(version)


@pytest.mark.parametrize("change", ["replaced", "added"])
def test_a_changed_model_is_neither_approved_nor_let_through(version, change):
    model = factories.find_model_file(version)
    path = model if change == "replaced" else model.with_name("more.py")
    before = model.read_bytes()
    approve(version)
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    with pytest.raises(
        DeploymentError, match="are not those that the gate judged and Ada Lovelace approved"
    ):
        check(version)
    with pytest.raises(DeploymentError, match="are not those that the gate judged"):
        approve(version)
    path.write_bytes(before) if change == "replaced" else path.unlink()
    assert check(version)


def test_loading_a_model_does_not_make_it_another(version):
    before = artifacts.hash_model(version)
    artifacts.load_model(version)
    assert artifacts.hash_model(version) == before


def widen(name):
    """The same letters as they stand in East Asian text."""
    return "".join(chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter for letter in name)


SPELLINGS = {
    "upper": str.upper,
    "title": str.title,
    "spaced": "  {} ".format,
    "line": "{}\n".format,
    "invisible": "\u200b{}\u2060".format,
    "wide": widen,
    "joiner": "\u034f{}".format,
    "filler": "{}\u3164".format,
    "selector": "{}\ufe0f".format,
    "braille": "\u2800{}".format,
}


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
def test_the_trainer_is_known_under_any_spelling(version, spell):
    name = spell(versions.read_version(version).trained_by)
    with pytest.raises(DeploymentError, match="may not approve"):
        approvals.approve(version, name, "mine", factories.AS_OF)
    keep_approval(version, name)
    with pytest.raises(DeploymentError, match="by its trainer"):
        check(version)


def test_evidence_with_a_failed_check_is_no_pass(version):
    factories.pass_gate(version, checks=[{"verdict": "pass"}, {"verdict": "fail"}])
    with pytest.raises(DeploymentError, match="has not passed the gate"):
        approve(version)
    keep_approval(version, "Ada Lovelace")
    with pytest.raises(DeploymentError, match="is not what Ada Lovelace approved"):
        check(version)


def test_an_approval_of_a_later_day_is_none_yet(version):
    approvals.approve(version, "Ada Lovelace", "tested", settings.month_start(2))
    with pytest.raises(DeploymentError, match="was approved on 2025-03-01, after 2025-02-01"):
        check(version)


def test_a_renamed_trainer_is_still_the_trainer(version, tmp_path, monkeypatch):
    client, info = connect_mlflow().MlflowClient(), versions.read_version(version)
    evidence = gate_evidence.read_evidence(version)[0]
    approve(version)
    assert gate_evidence.list_changes(info, evidence) == ""
    client.set_tag(info.run_id, "trained_by", "another person")
    with pytest.raises(ModelError, match="not what was recorded.*trained_by"):
        approve(version)
    # a home of before the ledger
    monkeypatch.setattr(settings, "ledger", lambda: tmp_path / "none")
    with pytest.raises(DeploymentError, match="may not approve it"):
        approvals.approve(version, info.trained_by, "mine", factories.AS_OF)
    with pytest.raises(
        DeploymentError, match=f"trained_by of version {version} changed after the gate"
    ):
        approve(version)
    assert gate_evidence.list_changes(versions.read_version(version), evidence) == "trained_by"


def test_a_model_is_hashed_within_milliseconds_of_cpu(version):
    """The API hashes its model at each refresh; 5 ms on the machine that this was written on."""
    seconds = []
    for _ in range(9):
        start = time.process_time()
        artifacts.hash_model(version)
        seconds.append(time.process_time() - start)
    assert statistics.median(seconds) < 0.05


def test_the_user_has_no_space_around(monkeypatch):
    monkeypatch.setenv("CHURN_USER", " Ada ")
    assert settings.user() == "Ada"
    monkeypatch.setenv("CHURN_USER", "  ")
    assert settings.user() == settings.getpass.getuser()


def test_the_trainer_may_not_approve(version):
    trainer = versions.read_version(version).trained_by
    with pytest.raises(DeploymentError, match="trained version"):
        approvals.approve(version, trainer, "mine", factories.AS_OF)


@pytest.mark.parametrize(("approver", "reason"), [("", "good"), ("Ada", " ")])
def test_an_approval_needs_name_and_reason(version, approver, reason):
    with pytest.raises(DeploymentError, match="name and a reason"):
        approvals.approve(version, approver, reason, factories.AS_OF)


def test_an_approval_needs_a_known_scope(version):
    with pytest.raises(DeploymentError, match="no scope 'everything'; .* champion or trial"):
        approvals.approve(version, "Ada", "good", factories.AS_OF, "everything")


def test_a_version_without_gate_is_not_approved(registered_home):
    with pytest.raises(ModelError, match="no gate evidence"):
        approvals.approve(registered_home["version"], "Ada", "good", factories.AS_OF)


def test_a_refusal_clears_the_challenger_alias(registered_home):
    version = registered_home["version"]
    assert aliases.version_with_alias(aliases.CHALLENGER) == version
    approvals.refuse(version)
    assert aliases.version_with_alias(aliases.CHALLENGER) is None
    assert versions.read_version(version).tags["status"] == "refused"
