import factories
import numpy as np
import pandas as pd
import pytest

from churn_utils.errors import DeploymentError, UsageError
from churn_utils.features import offline
from churn_utils.registry import approvals, artifacts, gate_evidence, versions
from churn_utils.validation import gate


@pytest.fixture(scope="module")
def judged(sound_challenger):
    """Version and findings of a gate that it has passed, on the probes that tests share."""
    _ = sound_challenger.probe_future
    challenger = sound_challenger.with_parts(draws=gate.MIN_DRAWS)
    return challenger.version, gate.evaluate_gate(challenger)


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


def test_the_gate_keeps_evidence_and_tags_the_version(judged, registered_home):
    version, findings = judged
    evidence, digest = gate_evidence.read_evidence(version)
    tags = versions.read_version(version).tags
    assert evidence.verdict == tags["gate"] == "pass"
    assert tags["gate_evidence_sha256"] == digest and 1 <= evidence.run <= int(tags["gate_runs"])
    assert evidence.model_sha256 == artifacts.hash_model(version) and evidence.since is None
    assert evidence.tables == offline.current_versions()
    test_rows = offline.training_rows(registered_home["training_set"], "test")
    assert evidence.rows == len(test_rows)
    assert [check.check for check in evidence.checks] == findings["check"].tolist()


def test_evidence_has_the_keys_that_old_homes_verify(judged):
    evidence, _ = gate_evidence.read_evidence(judged[0])
    facts = evidence.model_dump()
    assert set(facts) == {
        *("version", "run_id", "as_of", "since", "champion", "verdict", "draws", "seed", "rows"),
        *("checks", "run", "model_sha256", "description_sha256", "artifacts_sha256"),
        *("tables", "trained_by", "offer_cost_usd", "churner_value_usd", "save_rate"),
    }
    for check in facts["checks"]:
        assert set(check) == {
            *("check", "verdict", "value", "lower", "upper", "requirement", "detail")
        }


def test_the_gate_gives_the_same_evidence_twice(judged):
    version, _ = judged
    before = gate_evidence.read_evidence(version)[1]
    factories.run_gate(version)
    assert gate_evidence.read_evidence(version)[1] == before


def test_a_gate_without_enough_draws_gives_no_verdict(registered_home):
    before = versions.read_version(registered_home["version"]).tags
    with pytest.raises(UsageError, match="DRAWS is 399; below 400 an interval is luck"):
        factories.run_gate(registered_home["version"], draws=399)
    assert versions.read_version(registered_home["version"]).tags == before


def test_a_failed_gate_cannot_be_approved(registered_home):
    version = factories.register_model(
        registered_home["training_set"], registered_home["model"], description="A model."
    )
    findings = factories.run_gate(version).set_index("check")
    assert findings.loc["documentation", "verdict"] == "fail"
    with pytest.raises(DeploymentError, match="has not passed the gate"):
        approvals.approve(version, "Ada", "good", factories.AS_OF)


def test_a_sound_model_passes_every_check(sound_challenger):
    findings = gate.evaluate_checks(sound_challenger)
    assert set(findings["verdict"]) == {"pass"}
    assert findings["check"].tolist() == [name for name in gate.CHECKS if name != "champion"]


def test_without_test_rows_no_figure_is_evaluated(sound_challenger):
    empty = pd.Timestamp("2030-01-01")
    challenger = gate.Challenger(sound_challenger.version, factories.AS_OF, empty, 300, 0)
    found = gate.evaluate_checks(challenger).set_index("check")
    names = ["prediction", "auc_floor", "value_floor", "calibration", "slices"]
    assert (found.loc[names, "verdict"] == "not_evaluated").all()
    assert "no label had arrived" in found.loc["auc_floor", "detail"]


def test_a_check_that_raises_is_not_passed(sound_challenger, monkeypatch):
    def explode(challenger):
        """Explode."""
        raise ZeroDivisionError("boom")

    monkeypatch.setitem(gate.CHECKS, "calibration", explode)
    findings = gate.evaluate_checks(sound_challenger)
    found = findings.set_index("check").loc["calibration"]
    assert found["verdict"] == gate.overall_verdict(findings) == "not_evaluated"
    assert found["detail"] == "ZeroDivisionError: boom"
    assert found["requirement"] == "Explode."


def test_every_check_says_what_it_protects_from():
    for check in gate.CHECKS.values():
        assert "Protects from" in check.__doc__


def test_verdicts_of_impostors_stand_side_by_side(sound_challenger):
    fakes = {"no": 0 * sound_challenger.probability, "half": sound_challenger.probability / 2}
    refusals = {
        name: gate.evaluate_predictions(sound_challenger, fake) for name, fake in fakes.items()
    }
    table = gate.tabulate_verdicts(refusals)
    assert list(table) == ["no", "half"] and list(table.index) == refusals["no"]["check"].tolist()
    assert table.loc["value_floor", "no"] == table.loc["calibration", "half"] == "fail"
    assert np.isnan(sound_challenger.probability).sum() == 0
