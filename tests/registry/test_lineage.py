import hashlib
import subprocess
import sys

import factories
import numpy as np
import pandas as pd
import pytest

from churn_utils import settings
from churn_utils.data import delivered_files, source, table_writes
from churn_utils.errors import ModelError
from churn_utils.features import definitions, labelling, model_inputs, offline, publishing
from churn_utils.registry import artifacts, lineage, versions

FIVE = {
    "linear": ({"family": "logistic_regression", "C": 0.7310585786300049, "n_knots": 6}, None),
    "boosted": (
        {
            "family": "lightgbm",
            "n_estimators": 60,
            "learning_rate": 0.0731,
            "num_leaves": 7,
            "min_child_samples": 31,
            "colsample_bytree": 0.37,
            "reg_lambda": 0.013,
        },
        None,
    ),
    "forest": ({"family": "random_forest", "min_samples_leaf": 9, "max_features": 0.23}, None),
    "after a correction": ({"family": "logistic_regression", "C": 3.3, "n_knots": 4}, None),
    "on the second month": (
        {
            "family": "lightgbm",
            "n_estimators": 50,
            "learning_rate": 0.05,
            "num_leaves": 4,
            "min_child_samples": 20,
            "colsample_bytree": 0.5,
            "reg_lambda": 1.0,
        },
        settings.month_start(1),
    ),
}


REFIT = """
import hashlib, sys
from churn_utils.features import definitions, model_inputs
from churn_utils.registry import lineage
version = int(sys.argv[1])
rows = lineage.read_training_set(version).astype(dict.fromkeys(definitions.INTEGER, "int64"))
p = lineage.refit(version).predict_proba(model_inputs.select_model_inputs(rows))
print(hashlib.sha256(p.tobytes()).hexdigest())
"""


def deliver_second_month():
    """The same customers a month later, every other one a churner, labelled on month 2."""
    rows = delivered_files.read_delivery(source.obtain_extract())
    month = settings.month_start(1)
    publishing.publish_snapshot(rows, month, month)
    labels = rows[["customer_id"]].assign(churn=np.where(np.arange(len(rows)) % 2, "Yes", "No"))
    labelling.record_labels(labels, month, settings.month_start(2))


def correct_first_month():
    """Ten labels of month 0 are corrected on the day that they arrived."""
    rows = delivered_files.read_delivery(source.obtain_extract()).head(10)
    rows = rows.assign(churn=np.where(rows["churn"] == "Yes", "No", "Yes"))
    labelling.record_labels(rows, factories.SNAPSHOT, factories.AS_OF)


def train_version(name, as_of):
    params, since = FIVE[name]
    rows = offline.build_training_set(as_of, since=since)
    model = factories.fit_model(rows, params)
    return factories.register_model(rows, model, params=params, since=since, as_of=as_of), model


@pytest.fixture(scope="module")
def trained(published_home, tmp_path_factory):
    """Five versions by name, trained before and after their tables moved on."""
    with factories.at_copy(published_home[0], tmp_path_factory.mktemp("lineage")):
        models = {
            name: train_version(name, factories.AS_OF) for name in ("linear", "boosted", "forest")
        }
        correct_first_month()
        models["after a correction"] = train_version("after a correction", factories.AS_OF)
        deliver_second_month()
        models["on the second month"] = train_version(
            "on the second month", settings.month_start(2)
        )
        yield models


@pytest.fixture(scope="module")
def rows(trained):
    return model_inputs.select_model_inputs(
        offline.build_training_set(factories.AS_OF).astype(
            dict.fromkeys(definitions.INTEGER, "int64")
        )
    )


@pytest.mark.parametrize("name", FIVE)
def test_refit_gives_every_probability_again_bit_for_bit(trained, rows, name):
    version, _ = trained[name]
    registered = artifacts.load_model(version).predict_proba(rows)
    assert len(rows) == 7043
    assert (lineage.refit(version).predict_proba(rows) == registered).all()


def test_refit_reads_the_recorded_versions_not_the_latest(trained, rows):
    version, _ = trained["linear"]
    latest = factories.fit_model(offline.build_training_set(factories.AS_OF), FIVE["linear"][0])
    assert (latest.predict_proba(rows) != lineage.refit(version).predict_proba(rows)).any()


@pytest.mark.long  # short form: the run of end_to_end, whose gate refits in another process
def test_another_process_refits_the_same_numbers(trained):
    version, _ = trained["boosted"]
    command = [sys.executable, "-c", REFIT, str(version)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    rows = lineage.read_training_set(version).astype(dict.fromkeys(definitions.INTEGER, "int64"))
    registered = artifacts.load_model(version).predict_proba(model_inputs.select_model_inputs(rows))
    assert found == hashlib.sha256(registered.tobytes()).hexdigest()


def test_compare_refit_tells_a_model_from_what_its_record_says(trained, rows):
    version, _ = trained["linear"]
    honest = artifacts.load_model(version).predict_proba(rows)[:, 1]
    found = lineage.compare_refit(version, rows, honest)
    assert found == lineage.RefitComparison(rows=7043, differing=0, largest=0.0, changed=[])
    other = artifacts.load_model(trained["boosted"][0]).predict_proba(rows)[:, 1]
    found = lineage.compare_refit(version, rows, other)
    assert found.differing > 7000 and found.largest > 0.01


def test_changed_code_is_named(trained, rows, monkeypatch):
    version, _ = trained["linear"]
    monkeypatch.setattr(lineage.provenance, "hash_code", lambda: "other")
    probability = artifacts.load_model(version).predict_proba(rows)[:, 1]
    assert lineage.compare_refit(version, rows, probability).changed == ["code_sha256"]


def test_a_version_says_what_it_was_made_from(trained):
    record = lineage.describe_version(trained["on the second month"][0])
    assert record.tables == offline.current_versions()
    assert record.since == settings.month_start(1) and record.as_of == settings.month_start(2)
    assert record.hyperparameters == FIVE["on the second month"][0]
    assert record.source_sha256 == source.SHA256
    assert (
        record.trained_by == settings.user()
        and len(record.code_sha256) == len(record.lock_sha256) == 64
    )


def test_what_is_deployed_is_answered_by_one_call_and_drawn(trained):
    version, _ = trained["linear"]
    with pytest.raises(ModelError, match="no version is in effect on 2025-02-01"):
        lineage.explain_deployed(factories.AS_OF)
    table = pd.DataFrame(
        [
            {
                "entry": 1,
                "effective_from": factories.AS_OF,
                "version": version,
                "effective_to": pd.NaT,
                "action": "promoted",
                "approved_by": "Ada Lovelace",
                "evidence_sha256": "f" * 64,
                "reason": "tested",
            }
        ]
    )
    table_writes.merge("deployments", table)
    answers = lineage.explain_deployed(settings.month_start(3)).set_index("question")["answer"]
    assert answers["which version"] == f"telco_churn {version}"
    assert answers["trained by whom"] == settings.user()
    assert answers["on which data"] == "customer_features version 0, churn_labels version 0"
    assert answers["let answer by"] == "Ada Lovelace: tested"
    assert not answers.isna().any()
    links = lineage.link_version(version)
    assert {"customer_features v0", f"version {version}"} <= set(links["source"])
    assert "champion from 2025-02" in set(links["target"])


def test_a_record_without_table_versions_is_refused(trained, monkeypatch):
    version, _ = trained["linear"]
    info = versions.read_version(version)
    info.params.pop("churn_labels_version")
    monkeypatch.setattr(versions, "read_version", lambda number: info)
    with pytest.raises(ModelError, match="did not record version of churn_labels"):
        lineage.refit(version)
