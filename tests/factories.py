"""Homes for the tests of registry, gate and batch: real tables, real MLflow, a small model."""

import json
import os
import pickle
import shutil
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from filelock import FileLock

from churn_utils import settings
from churn_utils.data import contract, delivered_files, source
from churn_utils.evaluation import bootstrap
from churn_utils.evaluation.economics import Economics, decision_value_usd
from churn_utils.features import labelling, model_inputs, offline, publishing
from churn_utils.monitoring import ingestion
from churn_utils.registry import artifacts, deployments, gate_evidence, tracking, versions
from churn_utils.registry.connection import connect_mlflow
from churn_utils.registry.gate_evidence import GateEvidence
from churn_utils.simulation.scenarios import Simulation
from churn_utils.training import models
from churn_utils.upstream import months
from churn_utils.validation import gate
from churn_utils.validation.challenger import Challenger

AS_OF = settings.month_start(1)
SNAPSHOT = settings.month_start(0)
ECONOMICS = Economics()
PARAMS = {"family": "logistic_regression", "C": 5.0, "n_knots": 5}
DESCRIPTION = "Purpose: offers. Data: IBM's extract. Threshold: 0.25."


def draw_answers(rows: int = 400, seed: int = 0, decimals: int = 2) -> tuple[pd.Series, np.ndarray]:
    """Draw labels from skewed probabilities, rounded: many are equal, some lie on the threshold."""
    generator = np.random.default_rng(seed)
    probability = generator.beta(1, 2.5, rows).round(decimals)
    churned = generator.uniform(size=rows) < np.clip(probability, 0.02, 0.98)
    return pd.Series(churned), np.clip(probability, 0.001, 0.999)


def best_value_usd(customers: pd.DataFrame, economics: Economics = ECONOMICS) -> float:
    """Return USD per customer of offers decided by the true probabilities: the best possible."""
    treated = customers["churn_probability"].to_numpy() >= economics.threshold
    churned = customers["churned"].to_numpy()
    return float(decision_value_usd(churned, treated, economics).mean())


def publish_first_month() -> pd.DataFrame:
    """Publish IBM's extract with its labels and return the training set known at ``AS_OF``."""
    rows = delivered_files.read_delivery(source.obtain_extract())
    publishing.publish_snapshot(rows, SNAPSHOT, SNAPSHOT)
    labelling.record_labels(contract.check_rows(rows)[0], SNAPSHOT, AS_OF)
    return offline.build_training_set(AS_OF)


def deployed(version, start, end=None, approver="Ada Lovelace"):
    """A row of ``deployments``."""
    row = {
        "entry": version,
        "effective_from": settings.month_start(start),
        "version": version,
        "effective_to": settings.month_start(end) if end else pd.NaT,
        "action": "promoted",
        "approved_by": approver,
        "evidence_sha256": "0" * 64,
        "reason": "tested",
    }
    return pd.DataFrame([row]).astype({"effective_to": "M8[ns]"})


def run_gate(version: int, as_of: pd.Timestamp = AS_OF, draws: int = 400) -> pd.DataFrame:
    """Put a version through the gate as of a date and return its findings."""
    return gate.evaluate_gate(Challenger(version, as_of, draws=draws))


def ingest(
    month: int,
    simulation: Simulation,
    delivered: dict[int, pd.DataFrame] | None = None,
    labels: dict[int, pd.DataFrame] | None = None,
) -> publishing.PublishedSnapshot:
    """Ingest what a simulation sends at a month, with other customers or labels by month."""
    arrival = months.arrive(simulation, settings.month_start(month))
    if delivered is not None:
        snapshots = {settings.month_start(number): rows for number, rows in delivered.items()}
        arrival = replace(arrival, snapshots=snapshots)
    for number, rows in (labels or {}).items():
        arrival.labels[settings.month_start(number)] = rows
    return ingestion.ingest(arrival)


def fit_model(training_set: pd.DataFrame, params: dict = PARAMS, rows: int | None = None):
    train = offline.training_rows(training_set, "train").head(rows)
    validate = offline.training_rows(training_set, "validate")
    return models.fit_calibrated(params, train, validate, seed=0)


def tried(params: dict) -> optuna.Study:
    """A finished study in which these parameters beat the defaults of the other families."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(study_name="test study")
    others = [
        {"family": family, **found}
        for family, found in models.DEFAULTS.items()
        if family != params["family"]
    ]
    for value, found in [(0.42, params), *((0.43, other) for other in others)]:
        space = {name: _distribution(number) for name, number in found.items()}
        study.add_trial(
            optuna.trial.create_trial(
                params=found, distributions=space, value=value, intermediate_values={0: value}
            )
        )
    return study


def _distribution(value):
    if isinstance(value, str):
        return optuna.distributions.CategoricalDistribution(list(models.DEFAULTS))
    kind = (
        optuna.distributions.IntDistribution
        if isinstance(value, int)
        else optuna.distributions.FloatDistribution
    )
    return kind(0, 1000)


def register_model(
    training_set: pd.DataFrame,
    model,
    description: str = DESCRIPTION,
    figures: dict | None = None,
    params: dict = PARAMS,
    as_of: pd.Timestamp = AS_OF,
    since: pd.Timestamp | None = None,
    seed: int = 0,
) -> int:
    """Log and register a model as if notebooks 02 and 03 had; return its version."""
    study = tried(params)
    rows = offline.training_rows(training_set, "validate")
    probability = model.predict_proba(model_inputs.select_model_inputs(rows))[:, 1]
    scored = bootstrap.ScoredRows(rows["churned"], probability, rows["customer_id"])
    metrics = bootstrap.metrics_with_intervals(scored, ECONOMICS, 20)
    importance = pd.DataFrame({"feature": ["tenure"], "importance": [0.1], "spread": [0.0]})
    run_id = tracking.log_training(
        study,
        model,
        training_set,
        offline.current_versions(),
        metrics,
        importance,
        figures or {},
        as_of,
        seed,
        ECONOMICS,
        since,
    )
    return versions.register_version(run_id, description, {})


def pass_gate(version: int, as_of: pd.Timestamp = AS_OF, **changes) -> str:
    """Keep evidence that says pass, as if the gate had compared a version with today's champion.

    Args:
        version: to pass.
        as_of: simulated date of the gate.
        changes: facts of the evidence that differ.

    Returns:
        SHA-256 of the evidence.
    """
    champion = deployments.version_in_effect()
    facts = {
        "version": version,
        "verdict": "pass",
        "as_of": f"{as_of:%Y-%m-%d}",
        "checks": [{"detail": "", "verdict": "pass"}],
        "champion": None if champion == version else champion,
        "offer_cost_usd": ECONOMICS.offer_cost_usd,
        "churner_value_usd": ECONOMICS.churner_value_usd,
        "model_sha256": artifacts.hash_model(version),
        **gate_evidence.describe_record(versions.read_version(version)),
    }
    evidence = GateEvidence.model_validate(facts | changes)
    digest = gate_evidence.write_evidence(version, evidence)
    versions.set_tags(version, {"gate": "pass", "gate_evidence_sha256": digest})
    return digest


def change_evidence(version: int, digest: str, **changes) -> None:
    """What somebody with write access to the files could do to evidence that is kept."""
    evidence, _ = gate_evidence.read_evidence(version, digest)
    text, run_id = (
        json.dumps(evidence.model_dump() | changes),
        versions.read_version(version).run_id,
    )
    connect_mlflow().MlflowClient().log_text(run_id, text, f"gate/{digest}.json")


def find_model_file(version: int) -> Path:
    """The file that a version's model is loaded from."""
    uri = (
        connect_mlflow()
        .MlflowClient()
        .get_model_version_download_uri(settings.MODEL_NAME, str(version))
    )
    return Path(uri.removeprefix("file://")) / "model.skops"


def change_registry(statement: str, *values) -> None:
    """Change MLflow's database as somebody with write access to the file could."""
    with closing(sqlite3.connect(settings.mlflow_database())) as database, database:
        assert database.execute(statement, values).rowcount


def change_param(version: int, name: str, value) -> None:
    """Change a parameter of a version's training run in MLflow's database."""
    run = "SELECT run_id FROM model_versions WHERE version = ?"
    statement = f"UPDATE params SET value = ? WHERE key = ? AND run_uuid = ({run})"
    change_registry(statement, str(value), name, version)


def change_online_store(statement: str) -> None:
    """Change the online store of this home (SQLite) as another process would."""
    path = settings.home() / "online" / "store.sqlite"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(statement)


@contextmanager
def at_home(path):
    """Set ``CHURN_HOME`` for a while; yields the path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHURN_HOME", str(path))
        yield path


def build_once(tmp_path_factory, name: str, build):
    """Return what ``build`` returns for a folder: one of pytest's workers calls it for all."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    built = folder / "built.pickle"
    with FileLock(folder.with_suffix(".lock")):
        if not built.exists():
            folder.mkdir()
            built.write_bytes(pickle.dumps(build(folder)))
        return pickle.loads(built.read_bytes())


@contextmanager
def at_copy(home, folder):
    """Copy a home into a folder and set ``CHURN_HOME`` to it for a while; yields its path."""
    with at_home(shutil.copytree(home, Path(folder) / "home")) as path:
        yield path


def build_registered_home() -> dict:
    """Publish IBM's month, train, register; returns what ``register_first_version`` does."""
    return register_first_version(publish_first_month())


def register_first_version(training_set: pd.DataFrame) -> dict:
    """Train and register; returns ``version, model, training_set, trainer``."""
    model = fit_model(training_set)
    version = register_model(training_set, model)
    return {
        "version": version,
        "model": model,
        "training_set": training_set,
        "trainer": settings.user(),
    }


def make_scored(rows: int = 4000, seed: int = 0) -> pd.DataFrame:
    """Predictions of a calibrated model for month 2 with their labels, as monitoring reads them."""
    generator = np.random.default_rng(seed)
    probability = generator.beta(1, 3, rows)
    return pd.DataFrame(
        {
            "customer_id": [f"c{i}" for i in range(rows)],
            "snapshot_date": settings.month_start(2),
            "model_version": 1,
            "churn_probability": probability,
            "contract": generator.choice(["One year", "Two year"], rows),
            "churned": (generator.random(rows) < probability).astype(float),
        }
    )
