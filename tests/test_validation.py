import pandas as pd
import pytest
import worlds

from churn_utils import feature_store, model_files, registry, validation


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["pass", "pass"], "pass"),
        (["pass", "fail"], "fail"),
        (["pass", "not_evaluated"], "not_evaluated"),
        (["fail", "not_evaluated"], "fail"),
        ([], "not_evaluated"),
    ],
)
def test_only_all_pass_is_a_pass(verdicts, expected):
    assert validation.overall_verdict(pd.DataFrame({"verdict": verdicts})) == expected


def test_the_gate_keeps_its_evidence_and_tags_the_version(registered_home):
    version = registered_home["version"]
    findings = validation.run_gate(version, worlds.AS_OF, draws=400)
    evidence, digest = registry.read_evidence(version)
    tags = registry.read_version(version)["tags"]
    assert evidence["verdict"] == tags["gate"] == "pass"
    assert tags["gate_evidence_sha256"] == digest and 1 <= evidence["run"] <= int(tags["gate_runs"])
    assert evidence["model_sha256"] == model_files.hash_model(version) and evidence["since"] is None
    assert evidence["tables"] == feature_store.current_versions()
    test_rows = feature_store.training_rows(registered_home["training_set"], "test")
    assert evidence["rows"] == len(test_rows)
    assert [check["check"] for check in evidence["checks"]] == findings["check"].tolist()


def test_the_gate_gives_the_same_evidence_twice(registered_home):
    version = registered_home["version"]
    digests = []
    for _ in range(2):
        validation.run_gate(version, worlds.AS_OF, draws=400)
        digests.append(registry.read_evidence(version)[1])
    assert digests[0] == digests[1]


def test_a_gate_without_enough_draws_gives_no_verdict(registered_home):
    before = registry.read_version(registered_home["version"])["tags"]
    with pytest.raises(
        validation.ValidationError, match="DRAWS is 399; below 400 an interval is luck"
    ):
        validation.run_gate(registered_home["version"], worlds.AS_OF, draws=399)
    assert registry.read_version(registered_home["version"])["tags"] == before


def test_the_trainer_may_not_approve(registered_home):
    validation.run_gate(registered_home["version"], worlds.AS_OF, draws=400)
    with pytest.raises(validation.ApprovalError, match="trained version"):
        validation.approve(
            registered_home["version"], registered_home["trainer"], "mine", worlds.AS_OF
        )


@pytest.mark.parametrize(("approver", "reason"), [("", "good"), ("Ada", " ")])
def test_an_approval_needs_a_name_and_a_reason(registered_home, approver, reason):
    with pytest.raises(validation.ApprovalError, match="name and a reason"):
        validation.approve(registered_home["version"], approver, reason, worlds.AS_OF)


def test_a_version_without_gate_cannot_be_approved(registered_home):
    training_set = registered_home["training_set"]
    version = worlds.register_model(training_set, worlds.fit_model(training_set))
    with pytest.raises(registry.RegistryError, match="no gate evidence"):
        validation.approve(version, "Ada", "good", worlds.AS_OF)


def test_a_failed_gate_cannot_be_approved(registered_home):
    training_set = registered_home["training_set"]
    version = worlds.register_model(
        training_set, worlds.fit_model(training_set), description="A model."
    )
    assert "fail" in set(validation.run_gate(version, worlds.AS_OF, draws=400)["verdict"])
    with pytest.raises(validation.ApprovalError, match="has not passed the gate"):
        validation.approve(version, "Ada", "good", worlds.AS_OF)


def test_a_refusal_ends_the_candidacy(registered_home):
    training_set = registered_home["training_set"]
    version = worlds.register_model(training_set, worlds.fit_model(training_set))
    assert registry.version_with_alias(registry.CHALLENGER) == version
    validation.refuse(version)
    assert registry.version_with_alias(registry.CHALLENGER) is None
    assert registry.read_version(version)["tags"]["status"] == "refused"


def test_an_approval_has_a_scope_that_exists(registered_home):
    validation.run_gate(registered_home["version"], worlds.AS_OF, draws=400)
    with pytest.raises(
        validation.ApprovalError, match="no scope 'everything'; .* champion or trial"
    ):
        validation.approve(registered_home["version"], "Ada", "good", worlds.AS_OF, "everything")
