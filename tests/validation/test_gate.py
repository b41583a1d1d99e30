import factories
import pandas as pd
import pytest

from churn_utils.errors import DeploymentError, UsageError
from churn_utils.features import offline
from churn_utils.registry import approvals, artifacts, versions
from churn_utils.validation import gate


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
    assert gate.overall_verdict(pd.DataFrame({"verdict": verdicts})) == expected


def test_the_gate_keeps_its_evidence_and_tags_the_version(registered_home):
    version = registered_home["version"]
    findings = gate.run_gate(version, factories.AS_OF, draws=400)
    evidence, digest = versions.read_evidence(version)
    tags = versions.read_version(version).tags
    assert evidence["verdict"] == tags["gate"] == "pass"
    assert tags["gate_evidence_sha256"] == digest and 1 <= evidence["run"] <= int(tags["gate_runs"])
    assert evidence["model_sha256"] == artifacts.hash_model(version) and evidence["since"] is None
    assert evidence["tables"] == offline.current_versions()
    test_rows = offline.training_rows(registered_home["training_set"], "test")
    assert evidence["rows"] == len(test_rows)
    assert [check["check"] for check in evidence["checks"]] == findings["check"].tolist()


def test_the_gate_gives_the_same_evidence_twice(registered_home):
    version = registered_home["version"]
    digests = []
    for _ in range(2):
        gate.run_gate(version, factories.AS_OF, draws=400)
        digests.append(versions.read_evidence(version)[1])
    assert digests[0] == digests[1]


def test_a_gate_without_enough_draws_gives_no_verdict(registered_home):
    before = versions.read_version(registered_home["version"]).tags
    with pytest.raises(UsageError, match="DRAWS is 399; below 400 an interval is luck"):
        gate.run_gate(registered_home["version"], factories.AS_OF, draws=399)
    assert versions.read_version(registered_home["version"]).tags == before


def test_a_failed_gate_cannot_be_approved(registered_home):
    training_set = registered_home["training_set"]
    version = factories.register_model(
        training_set, factories.fit_model(training_set), description="A model."
    )
    assert "fail" in set(gate.run_gate(version, factories.AS_OF, draws=400)["verdict"])
    with pytest.raises(DeploymentError, match="has not passed the gate"):
        approvals.approve(version, "Ada", "good", factories.AS_OF)
