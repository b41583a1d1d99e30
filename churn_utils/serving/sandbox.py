"""Sandbox: a copy of a home in which A/B tests and promotions leave no trace in its registry.

An A/B test needs two versions of which the second passed its gate against the first. The usual home
has one champion and no such challenger, so the sandbox gets a *predecessor*: one tree with one
split. It passes every check of the gate and becomes champion. The home's own champion, trained
again in the sandbox from its record, becomes the challenger that beats it.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution

from churn_utils import settings
from churn_utils.data import table_writes, tables
from churn_utils.errors import ChurnError
from churn_utils.evaluation import bootstrap
from churn_utils.evaluation.economics import Economics
from churn_utils.features import offers, offline
from churn_utils.inference import scoring
from churn_utils.registry import (
    aliases,
    approvals,
    artifacts,
    deployments,
    lineage,
    promotion,
    tracking,
    versions,
)
from churn_utils.training import models
from churn_utils.validation import gate
from churn_utils.validation.challenger import Challenger

# One tree with two leaves: it splits customers by the feature that tells most, whether they have a
# contract. It is crude by its settings alone, so the gate can refit it from its record.
PREDECESSOR = {
    "family": "lightgbm",
    "n_estimators": 1,
    "learning_rate": 0.1,
    "num_leaves": 2,
    "min_child_samples": 30,
    "colsample_bytree": 1.0,
    "reg_lambda": 0.0,
}
NO_IMPORTANCE = pd.DataFrame({"feature": [], "importance": [], "spread": []})
METRIC_DRAWS = 50
GATE_DRAWS = 500


@dataclass(frozen=True)
class Sandbox:
    """A copy of a home, and two versions there."""

    home: Path
    predecessor: int  # the champion
    challenger: int  # the home's champion, trained again


def build_sandbox(folder: Path, as_of: pd.Timestamp, version: int | None = None) -> Sandbox:
    """Copy what the champion of this home knew into an empty folder and prepare an A/B test there.

    The newest month there is the newest one with labels, so that the result of an A/B test need not
    be waited for. ``CHURN_HOME`` names the sandbox afterwards, for this process and those that it
    starts.

    Args:
        folder: where the sandbox is made.
        as_of: simulated today.
        version: of this home, to be the challenger; the champion at ``as_of`` when not given.

    Raises:
        ChurnError: no version is in effect, or a version does not pass the gate of the sandbox.
    """
    if version is None:
        version = deployments.champion_at(as_of)
    if version is None:
        raise ChurnError(
            f"no champion is in effect on {as_of:%Y-%m-%d}; run notebooks 02 to 04b first."
        )
    record = lineage.describe_version(version)
    inputs = artifacts.read_inputs(version)
    # A sandbox makes no offers, and its champion need not pay at the rate at which offers do.
    economics = replace(versions.read_version(version).economics, save_rate=1.0)
    labels, features = _read_labelled_months(as_of)
    made = offers.read_offers()
    _copy_empty_registry(folder)
    os.environ["CHURN_HOME"] = str(folder)
    table_writes.merge("churn_labels", labels)
    table_writes.merge("customer_features", features)
    if len(made):
        table_writes.merge("offers", made)
    predecessor = _train(record, PREDECESSOR, inputs, economics)
    _pass_gate(predecessor, as_of, aliases.CHAMPION, economics)
    promotion.promote(predecessor, as_of)
    challenger = _train(record, record.hyperparameters, inputs, economics)
    _pass_gate(challenger, as_of, versions.TRIAL, economics)
    return Sandbox(folder, predecessor, challenger)


def _read_labelled_months(as_of: pd.Timestamp) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return labels that had arrived by a date, and features of the months up to the newest."""
    labels = tables.read("churn_labels")
    had_arrived = labels["label_date"] <= as_of
    labels = labels[had_arrived]
    newest_month = labels["snapshot_date"].max()
    features = tables.read("customer_features")
    was_written = features["written_at"] <= as_of
    is_labelled = features["snapshot_date"] <= newest_month
    return labels, features[was_written & is_labelled]


def _copy_empty_registry(folder: Path) -> None:
    """Copy MLflow's database without its rows: to create one takes 4 s of migrations."""
    (folder / "mlflow").mkdir(parents=True)
    with (
        closing(sqlite3.connect(settings.mlflow_database())) as original,
        closing(sqlite3.connect(folder / "mlflow" / "mlflow.db")) as copy,
    ):
        original.backup(copy)
        names = copy.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )
        for (name,) in names.fetchall():
            if name != "alembic_version":  # the version of the schema stays
                copy.execute(f"DELETE FROM {name}")
        copy.commit()


def _train(
    record: lineage.TrainingRecord, params: dict, inputs: list[str], economics: Economics
) -> int:
    """Train, log and register as notebooks 02 and 03 do, as of a record's date; return version."""
    as_of, seed = record.as_of, record.seed
    training_set = offline.build_training_set(as_of, since=record.since)
    train = offline.training_rows(training_set, "train", inputs)
    validate = offline.training_rows(training_set, "validate", inputs)
    model = models.fit_calibrated(params, train, validate, seed, inputs)
    probability = scoring.predict_probability(model, validate)
    scored = bootstrap.ScoredRows(validate["churned"], probability, validate["customer_id"])
    metrics = bootstrap.metrics_with_intervals(scored, economics, METRIC_DRAWS)
    run_id = tracking.log_training(
        study=_make_study(params, float(metrics.loc["log_loss", "value"])),
        model=model,
        training_set=training_set,
        versions=offline.current_versions(),
        metrics=metrics,
        importance=NO_IMPORTANCE,
        figures={},
        as_of=as_of,
        seed=seed,
        economics=economics,
        since=record.since,
    )
    description = (
        f"Purpose: sandbox of an A/B test. Data: labels known at {as_of:%Y-%m-%d}. "
        f"Threshold: {economics.threshold}."
    )
    return versions.register_version(run_id, description, {"purpose": "sandbox"})


def _make_study(params: dict, log_loss: float) -> optuna.Study:
    """Return a study whose only trial has these parameters: nothing is searched."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(study_name="sandbox")
    space: dict[str, BaseDistribution] = {
        name: CategoricalDistribution([value]) for name, value in params.items()
    }
    trial = optuna.trial.create_trial(params=params, distributions=space, value=log_loss)
    study.add_trial(trial)
    return study


def _pass_gate(version: int, as_of: pd.Timestamp, scope: str, economics: Economics) -> None:
    """Run the gate on a version and approve it for a scope; raise ChurnError if it fails."""
    challenger = Challenger(version, as_of, draws=GATE_DRAWS, economics=economics)
    findings = gate.evaluate_gate(challenger)
    not_passed = findings.loc[findings["verdict"] != "pass", "check"]
    if len(not_passed):
        raise ChurnError(f"version {version} of the sandbox did not pass: {', '.join(not_passed)}.")
    reason = "every check of the sandbox's gate passed"
    approvals.approve(version, approvals.AUTOMATIC, reason, as_of, scope)
