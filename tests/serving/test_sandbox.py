import factories
import pytest

from churn_utils.data import tables
from churn_utils.errors import ChurnError
from churn_utils.features import definitions
from churn_utils.inference import scoring
from churn_utils.registry import aliases, artifacts, deployments, gate_evidence, lineage, versions
from churn_utils.serving import sandbox


def test_sandbox_has_a_champion_and_a_challenger_that_beat_it(serving_home):
    assert deployments.version_in_effect() == serving_home.predecessor
    assert aliases.version_with_alias(aliases.CHALLENGER) == serving_home.challenger
    checks = {
        check.check: check
        for check in gate_evidence.read_evidence(serving_home.challenger)[0].checks
    }
    assert checks["champion"].verdict == "pass" and checks["champion"].lower > 0


def test_challenger_is_the_model_of_the_home(serving_home, registered_home):
    rows = definitions.add_on_demand(tables.read("customer_features"))
    own = scoring.predict_probability(registered_home["model"], rows)
    challenger = versions.read_version(serving_home.challenger)
    assert (scoring.score_rows(challenger, rows)["churn_probability"] == own).all()


def test_predecessor_has_one_split(serving_home):
    rows = definitions.add_on_demand(tables.read("customer_features"))
    predecessor = versions.read_version(serving_home.predecessor)
    found = scoring.score_rows(predecessor, rows)["churn_probability"]
    by_contract = found.groupby(rows["contract"] == "Month-to-month")
    assert found.nunique() == 2 and by_contract.nunique().max() == 1


def test_both_versions_refit_from_their_records(serving_home, registered_home):
    rows = definitions.add_on_demand(tables.read("customer_features")).astype(
        dict.fromkeys(definitions.INTEGER, "int64")
    )
    for version in (serving_home.predecessor, serving_home.challenger):
        registered = scoring.predict_probability(artifacts.load_model(version), rows)
        assert lineage.compare_refit(version, rows, registered).differing == 0
    record = lineage.describe_version(serving_home.challenger)
    assert record.hyperparameters == factories.PARAMS and record.seed == 0


def test_home_that_was_copied_stays_as_it_is(sandbox_build, serving_home):
    assert sandbox_build.named == sandbox_build.sandbox.home and len(versions.list_versions()) == 2
    assert sandbox_build.after.equals(sandbox_build.before) and len(sandbox_build.before)


def test_home_without_a_champion_has_no_sandbox(home, tmp_path):
    with pytest.raises(ChurnError, match="no champion is in effect on 2025-02-01"):
        sandbox.build_sandbox(tmp_path / "copy", factories.AS_OF)
