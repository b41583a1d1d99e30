"""The gate is proven by what it refuses; benchmarks/gauntlet.py measures the same over twenty seeds."""

import pytest
import worlds
from challengers import BAD, Gauntlet

from churn_utils import validation


@pytest.fixture(scope="module")
def gauntlet(tmp_path_factory):
    with worlds.at_home(tmp_path_factory.mktemp("gauntlet")):
        yield Gauntlet(seed=1)


def test_the_sound_one_passes(gauntlet):
    assert set(gauntlet.submit("sound")["verdict"]) == {"pass"}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_challenger_is_refused_by_its_own_check(gauntlet, name):
    check, verdict = BAD[name]
    findings = gauntlet.submit(name)
    assert findings.loc[check, "verdict"] == verdict, findings.loc[check, "detail"]
    assert validation.overall_verdict(findings) != "pass"


# What is wrong with these is wrong in one place, so no other check may speak up.
@pytest.mark.parametrize(
    "name", ["wrong_signature", "no_description", "missing_artifact", "overfitted", "stale_labels"]
)
def test_no_other_check_is_needed(gauntlet, name):
    findings = gauntlet.submit(name)
    assert set(findings.index[findings["verdict"] != "pass"]) == {BAD[name][0]}


def test_answers_written_back_into_features_are_found_though_every_figure_shines(gauntlet, tmp_path):
    findings = gauntlet.settled_bills(tmp_path)
    assert findings.loc["auc_floor", "lower"] > 0.95
    assert findings.loc["leakage", "verdict"] == "fail"
    assert "avg_price_increase alone ranks" in findings.loc["leakage", "detail"]
    assert set(findings.index[findings["verdict"] != "pass"]) == {"leakage"}
