import os

import factories
import pytest

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.errors import ChurnError
from churn_utils.features import definitions
from churn_utils.inference import scoring
from churn_utils.registry import artifacts, deployments, lineage, versions
from churn_utils.serving import sandbox


def test_the_copy_has_a_champion_and_a_challenger_that_beat_it(serving_home):
    assert deployments.version_in_effect() == serving_home.predecessor
    assert versions.version_with_alias(versions.CHALLENGER) == serving_home.challenger
    checks = {
        check["check"]: check
        for check in versions.read_evidence(serving_home.challenger)[0]["checks"]
    }
    assert checks["champion"]["verdict"] == "pass" and checks["champion"]["lower"] > 0


def test_the_challenger_is_the_homes_own_model(serving_home, registered_home):
    rows = definitions.add_on_demand(tables.read("customer_features"))
    own = scoring.predict_probability(registered_home["model"], rows)
    assert (
        scoring.score_rows(versions.read_version(serving_home.challenger), rows)[
            "churn_probability"
        ]
        == own
    ).all()


def test_the_predecessor_asks_customers_one_question(serving_home):
    rows = definitions.add_on_demand(tables.read("customer_features"))
    found = scoring.score_rows(versions.read_version(serving_home.predecessor), rows)[
        "churn_probability"
    ]
    assert (
        found.nunique() == 2
        and found.groupby(rows["contract"] == "Month-to-month").nunique().max() == 1
    )


def test_both_are_what_their_records_say(serving_home, registered_home):
    rows = definitions.add_on_demand(tables.read("customer_features")).astype(
        dict.fromkeys(definitions.INTEGER, "int64")
    )
    for version in (serving_home.predecessor, serving_home.challenger):
        registered = scoring.predict_probability(artifacts.load_model(version), rows)
        assert lineage.compare_refit(version, rows, registered).differing == 0
    record = lineage.describe_version(serving_home.challenger)
    assert record.hyperparameters == factories.PARAMS and record.seed == 0


def test_the_home_that_was_copied_is_left_alone(registered_home, tmp_path):
    before = versions.list_versions()
    original = os.environ["CHURN_HOME"]
    sandbox.build_sandbox(tmp_path / "copy", factories.AS_OF, registered_home["version"])
    assert settings.home() == tmp_path / "copy" and len(versions.list_versions()) == 2
    os.environ["CHURN_HOME"] = original
    assert versions.list_versions().equals(before)


def test_without_a_champion_there_is_nothing_to_rehearse(home, tmp_path):
    with pytest.raises(ChurnError, match="no champion is in effect on 2025-02-01"):
        sandbox.build_sandbox(tmp_path / "copy", factories.AS_OF)
