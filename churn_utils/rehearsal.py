"""A copy of a home in which trials and promotions can be practised without a trace in its registry.

A trial needs two versions of which the second passed its gate against the first. The usual home has one champion and
no such challenger, so the copy gets a *predecessor*: a model that only knows how a customer pays. It passes the floors
of the gate, becomes champion, and the home's own champion becomes the challenger that beats it.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import optuna
import pandas as pd

from churn_utils import (
    deployments,
    evaluation,
    feature_store,
    features,
    lakehouse,
    registry,
    scoring,
    settings,
    tracking,
    training,
    validation,
)
from churn_utils.settings import ChurnError

KNOWN_TO_PREDECESSOR = ["payment_method"]


class RehearsalError(ChurnError):
    """A home that has nothing to rehearse with."""


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
        RehearsalError: no version is in effect, or a gate of the copy says no.
    """
    version = deployments.champion_at(as_of) if version is None else version
    if version is None:
        raise RehearsalError(f"no champion is in effect on {as_of:%Y-%m-%d}; run notebooks 02 to 04b first.")
    model, economics = scoring.load_model(version), scoring.read_economics(version)
    family = registry.read_version(version)["params"]["family"]
    training_set = feature_store.build_training_set(as_of)
    labels, stored = lakehouse.read("churn_labels"), lakehouse.read("customer_features")
    labels = labels[labels["label_date"] <= as_of]
    stored = stored[(stored["written_at"] <= as_of) & (stored["snapshot_date"] <= labels["snapshot_date"].max())]
    _copy_registry_emptied(folder)
    os.environ["CHURN_HOME"] = str(folder)
    lakehouse.merge("churn_labels", labels)
    lakehouse.merge("customer_features", stored)
    predecessor = _register(fit_predecessor(training_set), "lightgbm", training_set, as_of, economics)
    _pass_gate(predecessor, as_of, registry.CHAMPION)
    deployments.promote(predecessor, as_of)
    challenger = _register(model, family, training_set, as_of, economics)
    _pass_gate(challenger, as_of, registry.TRIAL)
    return Rehearsal(folder, predecessor, challenger)


def _copy_registry_emptied(folder: Path) -> None:
    """Bring MLflow's database along without its rows: to build one from nothing takes 4 s of migrations."""
    (folder / "mlflow").mkdir(parents=True)
    with (
        closing(sqlite3.connect(settings.mlflow_folder() / "mlflow.db")) as ours,
        closing(sqlite3.connect(folder / "mlflow" / "mlflow.db")) as copy,
    ):
        ours.backup(copy)
        names = copy.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        for (name,) in names.fetchall():
            if name != "alembic_version":
                copy.execute(f"DELETE FROM {name}")
        copy.commit()


def fit_predecessor(training_set: pd.DataFrame):
    """Fit a model to which all customers look the same but for ``KNOWN_TO_PREDECESSOR``."""
    blind = [name for name in features.STORED if name not in KNOWN_TO_PREDECESSOR] + ["avg_price_increase"]
    train, validate = (feature_store.training_rows(training_set, split) for split in ("train", "validate"))
    train, validate = (rows.assign(**{name: train[name].iloc[0] for name in blind}) for rows in (train, validate))
    params = {"family": "lightgbm", **training.DEFAULTS["lightgbm"], "n_estimators": 50, "learning_rate": 0.1}
    return training.fit_calibrated(params, train, validate, settings.SEED)


def _register(model, family: str, training_set: pd.DataFrame, as_of: pd.Timestamp, economics) -> int:
    """Log and register a model as notebooks 02 and 03 do, with a study of one trial."""
    validate = feature_store.training_rows(training_set, "validate")
    probability = scoring.predict_probability(model, validate)
    metrics = evaluation.metrics_with_intervals(
        validate["churned"], probability, validate["customer_id"], economics, 50
    )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(study_name="rehearsal")
    choice = optuna.distributions.CategoricalDistribution(list(training.DEFAULTS))
    loss = float(metrics.loc["log_loss", "value"])
    study.add_trial(optuna.trial.create_trial(params={"family": family}, distributions={"family": choice}, value=loss))
    importance = pd.DataFrame({"feature": KNOWN_TO_PREDECESSOR, "importance": 0.0, "spread": 0.0})
    run_id = tracking.log_training(study, model, training_set, feature_store.current_versions(), metrics, importance,
                                   {}, as_of, settings.SEED, economics)  # fmt: skip
    text = f"Purpose: rehearsal of a trial. Data: labels known at {as_of:%Y-%m-%d}. Threshold: {economics.threshold}."
    return registry.register_version(run_id, text, {"purpose": "rehearsal"})


def _pass_gate(version: int, as_of: pd.Timestamp, scope: str) -> None:
    findings = validation.run_gate(version, as_of, draws=500)
    wrong = findings[findings["verdict"] != "pass"]
    if len(wrong):
        raise RehearsalError(f"version {version} of the rehearsal did not pass: {', '.join(wrong['check'])}.")
    validation.approve(version, validation.AUTOMATIC, "every check of the rehearsal's gate passed", as_of, scope)
