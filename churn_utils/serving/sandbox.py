"""A copy of a home in which trials and promotions can be practised without a trace in its registry.

A trial needs two versions of which the second passed its gate against the first. The usual home has one champion and
no such challenger, so the copy gets a *predecessor*: a single tree with a single question. It passes every check of the
gate, becomes champion, and the home's own champion, trained again in the copy from its record, becomes the challenger
that beats it.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import optuna
import pandas as pd

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.errors import ChurnError
from churn_utils.evaluation import bootstrap
from churn_utils.evaluation.economics import Economics
from churn_utils.features import offline
from churn_utils.inference import scoring
from churn_utils.registry import approvals, deployments, lineage, tracking, versions
from churn_utils.training import models
from churn_utils.validation import gate

# One tree with two leaves: it parts customers by the one question that says most, whether they are bound by a contract.
# Crude by its settings alone, so the gate can train it again from its record like any other.
PREDECESSOR = {
    "family": "lightgbm",
    "n_estimators": 1,
    "learning_rate": 0.1,
    "num_leaves": 2,
    "min_child_samples": 30,
    "colsample_bytree": 1.0,
    "reg_lambda": 0.0,
}


@dataclass(frozen=True)
class Rehearsal:
    """The copy: its folder, and the versions of predecessor (champion there) and challenger (the home's champion)."""

    home: Path
    predecessor: int
    challenger: int


def build_rehearsal(folder: Path, as_of: pd.Timestamp, version: int | None = None) -> Rehearsal:
    """Copy what was known to the champion of this home into an empty folder and prepare a trial there.

    The newest month there is the newest that is labelled, so that the verdict of a trial need not be waited for.
    ``CHURN_HOME`` names the copy afterwards, for this process and those that it starts.

    Args:
        folder: where the copy is made.
        as_of: simulated today.
        version: of this home, to be the challenger; the champion at ``as_of`` when not given.

    Raises:
        ChurnError: no version is in effect, or a gate of the copy says no.
    """
    version = deployments.champion_at(as_of) if version is None else version
    if version is None:
        raise ChurnError(
            f"no champion is in effect on {as_of:%Y-%m-%d}; run notebooks 02 to 04b first."
        )
    record, economics = lineage.describe_version(version), versions.read_version(version).economics
    labels, stored = tables.read("churn_labels"), tables.read("customer_features")
    labels = labels[labels["label_date"] <= as_of]
    stored = stored[
        (stored["written_at"] <= as_of) & (stored["snapshot_date"] <= labels["snapshot_date"].max())
    ]
    _copy_registry_emptied(folder)
    os.environ["CHURN_HOME"] = str(folder)
    tables.merge("churn_labels", labels)
    tables.merge("customer_features", stored)
    predecessor = _train(record, PREDECESSOR, economics)
    _pass_gate(predecessor, as_of, versions.CHAMPION, economics)
    deployments.promote(predecessor, as_of)
    challenger = _train(record, record.hyperparameters, economics)
    _pass_gate(challenger, as_of, versions.TRIAL, economics)
    return Rehearsal(folder, predecessor, challenger)


def _copy_registry_emptied(folder: Path) -> None:
    """Bring MLflow's database along without its rows: to build one from nothing takes 4 s of migrations."""
    (folder / "mlflow").mkdir(parents=True)
    with (
        closing(sqlite3.connect(settings.mlflow_database())) as ours,
        closing(sqlite3.connect(folder / "mlflow" / "mlflow.db")) as copy,
    ):
        ours.backup(copy)
        names = copy.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )
        for (name,) in names.fetchall():
            if name != "alembic_version":
                copy.execute(f"DELETE FROM {name}")
        copy.commit()


def _train(record: lineage.TrainingRecord, params: dict, economics: Economics) -> int:
    """Train on the copy's rows as of a record's date, log and register as notebooks 02 and 03 do; return version."""
    as_of, seed = record.as_of, record.seed
    training_set = offline.build_training_set(as_of, since=record.since)
    train, validate = (
        offline.training_rows(training_set, split) for split in ("train", "validate")
    )
    model = models.fit_calibrated(params, train, validate, seed)
    metrics = bootstrap.metrics_with_intervals(
        validate["churned"],
        scoring.predict_probability(model, validate),
        validate["customer_id"],
        economics,
        50,
    )
    importance = pd.DataFrame(
        {"feature": [], "importance": [], "spread": []}
    )  # nobody looks: left out
    run_id = tracking.log_training(
        _make_study(params, metrics.loc["log_loss", "value"]),
        model,
        training_set,
        offline.current_versions(),
        metrics,
        importance,
        {},
        as_of,
        seed,
        economics,
        record.since,
    )
    text = f"Purpose: rehearsal of a trial. Data: labels known at {as_of:%Y-%m-%d}. Threshold: {economics.threshold}."
    return versions.register_version(run_id, text, {"purpose": "rehearsal"})


def _make_study(params: dict, log_loss: float) -> optuna.Study:
    """A study whose only trial has these parameters: nothing is searched."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(study_name="rehearsal")
    space = {
        name: optuna.distributions.CategoricalDistribution([value])
        for name, value in params.items()
    }
    study.add_trial(
        optuna.trial.create_trial(params=params, distributions=space, value=float(log_loss))
    )
    return study


def _pass_gate(version: int, as_of: pd.Timestamp, scope: str, economics: Economics) -> None:
    findings = gate.run_gate(version, as_of, draws=500, economics=economics)
    wrong = findings[findings["verdict"] != "pass"]
    if len(wrong):
        raise ChurnError(
            f"version {version} of the rehearsal did not pass: {', '.join(wrong['check'])}."
        )
    approvals.approve(
        version, approvals.AUTOMATIC, "every check of the rehearsal's gate passed", as_of, scope
    )
