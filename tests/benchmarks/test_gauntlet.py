"""The gate refuses bad challengers; benchmarks/gauntlet.py measures this over twenty seeds."""

import factories
import papermill
import pytest
from bad_models import AS_OF, BAD, STUMPS, Gauntlet, challenge, register

from churn_utils import settings
from churn_utils.pipeline import kernels
from churn_utils.registry import aliases, deployments, gate_evidence, versions
from churn_utils.validation import gate


@pytest.fixture(scope="module")
def gauntlet(tmp_path_factory):
    with factories.at_home(tmp_path_factory.mktemp("gauntlet")):
        yield Gauntlet(seed=1)


def test_a_sound_challenger_passes(gauntlet):
    assert set(gauntlet.submit("sound")["verdict"]) == {"pass"}


# Each of these fails the same check in the same way as another one; "hangs" waits for its limit;
# "wrong_signature" goes through the whole gate below.
IN_LONG = {"offers_to_all", "random", "empty_split", "hangs", "wrong_signature"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.long) if name in IN_LONG else name for name in BAD],
)
def test_a_bad_challenger_fails_its_own_check(gauntlet, name):
    _, verdict = BAD[name]
    assert gauntlet.judge_alone(name) == verdict


@pytest.mark.long
@pytest.mark.parametrize("name", BAD)
def test_the_whole_gate_refuses_a_bad_challenger(gauntlet, name):
    check, verdict = BAD[name]
    findings = gauntlet.submit(name)
    assert findings.loc[check, "verdict"] == verdict, findings.loc[check, "detail"]
    assert gate.overall_verdict(findings) != "pass"


# What is wrong with these is wrong in one place, so no other check may speak up.
@pytest.mark.parametrize(
    "name",
    [
        "wrong_signature",
        pytest.param("overfitted", marks=pytest.mark.long),
        pytest.param("no_description", marks=pytest.mark.long),
        pytest.param("missing_artifact", marks=pytest.mark.long),
        pytest.param("stale_labels", marks=pytest.mark.long),
    ],
)
def test_no_other_check_is_needed(gauntlet, name):
    findings = gauntlet.submit(name)
    assert set(findings.index[findings["verdict"] != "pass"]) == {BAD[name][0]}


def test_answers_written_back_into_features_are_found(gauntlet, tmp_path):
    findings = gauntlet.settled_bills(tmp_path)
    assert findings.loc["auc_floor", "lower"] > 0.95
    assert findings.loc["leakage", "verdict"] == "fail"
    assert "avg_price_increase alone ranks" in findings.loc["leakage", "detail"]
    assert set(findings.index[findings["verdict"] != "pass"]) == {"leakage"}


def test_edited_evidence_is_not_promoted(gauntlet):
    assert "is not what Ada Lovelace approved" in gauntlet.edit_after_approval()
    assert deployments.champion_at(AS_OF) is None


@pytest.mark.long
def test_notebooks_refuse_a_challenger_that_raises(gauntlet, tmp_path):
    version = gauntlet.raises().version
    aliases.set_challenger(version)
    folder, parameters = settings.PROJECT / "notebooks", {"AS_OF": f"{AS_OF:%Y-%m-%d}"}
    for name in ("04a_challenger_validation.ipynb", "04b_challenger_approval.ipynb"):
        with kernels.open_channels() as config:
            papermill.execute_notebook(
                folder / name,
                tmp_path / name,
                parameters,
                progress_bar=False,
                cwd=folder,
                config=config,
            )
    assert versions.read_version(version).tags["gate"] == "not_evaluated"
    assert (
        deployments.champion_at(AS_OF) is None
        and aliases.version_with_alias(aliases.CHALLENGER) is None
    )


def test_only_a_better_challenger_is_promoted(gauntlet):
    """Through gate, approval and promotion; last here, since it leaves a champion."""
    worse, better = register(gauntlet.rows, STUMPS), gauntlet.sound.version
    assert gauntlet.promote(worse) and gauntlet.promote(better)
    assert aliases.version_with_alias(aliases.CHAMPION) == better
    evidence, before = gate_evidence.read_evidence(better)
    assert evidence.champion == worse and "champion" in {check.check for check in evidence.checks}
    assert set(factories.run_gate(better, AS_OF)["verdict"]) == {
        "pass"
    }  # against the same rival as before
    assert gate_evidence.read_evidence(better)[1] == before
    again = challenge(register(gauntlet.rows, STUMPS))
    assert gate.run_check(gate.CHECKS["champion"], again).verdict == "fail"
