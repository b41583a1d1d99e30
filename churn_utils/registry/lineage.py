"""Origin of a version: describe it, explain it, and train the version again from it alone.

MLflow keeps the record (parameters of the training run); the rows come from the Delta tables at the
versions that the record names.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV

from churn_utils import settings
from churn_utils.errors import ModelError
from churn_utils.features import model_inputs, offline
from churn_utils.registry import artifacts, deployments, provenance, versions
from churn_utils.training import models

ROUNDING = 1e-6  # largest difference that another machine's arithmetic may make


@dataclass(frozen=True)
class TrainingRecord:
    """What a version was made from, as its training run recorded it.

    Attributes:
        version: its number.
        trained_by: name of the person who trained.
        run_id: MLflow's id of the training run.
        study: name of the Optuna study that found the hyperparameters.
        as_of: simulated date of training; only labels known by then were used.
        since: first month whose labels were used; None for all months.
        seed: of search, folds and model.
        rows_train: rows of the ``train`` split, as text.
        tables: Delta version of each table that was read.
        hyperparameters: model family and its hyperparameters.
        source_sha256: of IBM's extract, or of the list of deliveries; empty when not recorded, as
            below.
        world: the source that the months come from, as JSON.
        code_commit: git commit, with ``+changes`` when files differed from it.
        code_sha256: of the package's modules.
        lock_sha256: of ``requirements.lock``.
    """

    version: int
    trained_by: str
    run_id: str
    study: str
    as_of: pd.Timestamp
    since: pd.Timestamp | None
    seed: int
    rows_train: str
    tables: dict[str, int]
    hyperparameters: dict
    source_sha256: str
    world: str
    code_commit: str
    code_sha256: str
    lock_sha256: str


@dataclass(frozen=True)
class RefitComparison:
    """How a model that was trained again differs from the registered one.

    Attributes:
        rows: number of rows compared.
        differing: rows whose probability is not the same number.
        largest: largest difference of two probabilities.
        changed: which of ``code_sha256`` and ``lock_sha256`` differ from those at training.
    """

    rows: int
    differing: int
    largest: float
    changed: list[str]


def describe_version(version: int) -> TrainingRecord:
    """Return what a version was made from.

    Raises:
        ModelError: no such version, or its run recorded no table versions, seed, date or family.
    """
    info = versions.read_version(version)
    params = info.params
    _check_complete(info)
    since = params.get("since")
    origin = {name: params.get(name, "") for name in provenance.FIELDS}
    return TrainingRecord(
        version=version,
        trained_by=info.trained_by,
        run_id=info.run_id,
        study=params.get("study", ""),
        as_of=settings.as_of_date(params["as_of"]),
        since=settings.as_of_date(since) if since else None,
        seed=int(params["seed"]),
        rows_train=params.get("rows_train", ""),
        tables={
            name: int(params[f"{name}_version"])
            for name in (*offline.TRAINING_TABLES, offline.OFFERS)
            if f"{name}_version" in params
        },
        hyperparameters=models.read_hyperparameters(params),
        **origin,
    )


def _check_complete(info: versions.ModelVersion) -> None:
    """Check that a version's run recorded all that training it again needs."""
    missing = [
        f"version of {name}"
        for name in offline.TRAINING_TABLES
        if f"{name}_version" not in info.params
    ]
    missing += [name for name in ("as_of", "seed", "family") if not info.params.get(name)]
    if missing:
        raise ModelError(
            f"the run of version {info.version} did not record {', '.join(missing)}; it cannot be "
            "traced or trained again. Train with notebook 02 and register that run."
        )


def read_training_set(version: int) -> pd.DataFrame:
    """Read the labelled rows that a version was trained on, at the recorded table versions.

    Returns:
        Rows of all splits with the columns of ``offline.build_training_set``.

    Raises:
        DataError: a table no longer holds that version.
    """
    return _read_rows(describe_version(version))


def _read_rows(record: TrainingRecord) -> pd.DataFrame:
    return offline.build_training_set(record.as_of, record.tables, record.since)


def refit(version: int) -> CalibratedClassifierCV:
    """Train a version again from its record alone: tables, split, hyperparameters, seed.

    Returns:
        The fitted model; with the recorded code and packages it gives the version's probabilities,
        bit for bit.

    Raises:
        ModelError: the record is incomplete.
    """
    record = describe_version(version)
    rows = _read_rows(record)
    inputs = artifacts.read_inputs(version)
    train = offline.training_rows(rows, "train", inputs)
    validate = offline.training_rows(rows, "validate", inputs)
    return models.fit_calibrated(record.hyperparameters, train, validate, record.seed, inputs)


def compare_refit(version: int, rows: pd.DataFrame, probability: np.ndarray) -> RefitComparison:
    """Train a version again and compare it with the probabilities of the registered file.

    Args:
        version: to train again.
        rows: model inputs.
        probability: of the registered file on these rows, shape (n,).

    Raises:
        ModelError: the record is incomplete.
    """
    again = refit(version)
    inputs = model_inputs.select_model_inputs(rows, model_inputs.inputs_of(again))
    refitted = again.predict_proba(inputs)[:, 1]
    gaps = np.abs(refitted - probability)
    return RefitComparison(
        rows=len(rows),
        differing=int((refitted != probability).sum()),
        largest=float(gaps.max()),
        changed=provenance.list_changes(versions.read_version(version).params),
    )


def explain_deployed(as_of: pd.Timestamp) -> pd.DataFrame:
    """Return what is in effect at a date: its training, its data, and who approved it.

    Returns:
        ``question, answer``, one row per fact.

    Raises:
        ModelError: nothing is deployed at that date.
    """
    deployment = deployments.find_in_effect(deployments.list_deployments(), as_of)
    if deployment is None:
        raise ModelError(
            f"no version is in effect on {as_of:%Y-%m-%d}; promote one first (notebook 04b)."
        )
    facts = _list_facts(describe_version(deployment.version)) | {
        "in effect since": f"{deployment.effective_from:%Y-%m-%d} ({deployment.action})",
        "let answer by": f"{deployment.approved_by}: {deployment.reason}",
        "on which evidence": deployment.evidence_sha256,
    }
    return pd.DataFrame(facts.items(), columns=["question", "answer"])


def explain_version(version: int) -> pd.DataFrame:
    """Return how a version was trained, by which person and on which data.

    Returns:
        ``question, answer``, one row per fact.
    """
    facts = _list_facts(describe_version(version))
    return pd.DataFrame(facts.items(), columns=["question", "answer"])


def _list_facts(record: TrainingRecord) -> dict[str, str]:
    """Return the record as questions with their answers."""
    since = f" from {record.since:%Y-%m} on" if record.since is not None else ""
    tables = ", ".join(f"{name} version {found}" for name, found in record.tables.items())
    rows = f"{record.rows_train} in train, labels{since} known on {record.as_of:%Y-%m-%d}"
    lock = record.lock_sha256 or "not recorded"
    return {
        "which version": f"{settings.MODEL_NAME} {record.version}",
        "trained by whom": record.trained_by,
        "on which data": tables,
        "which rows": rows,
        "from which source": f"SHA-256 {record.source_sha256 or 'not recorded'}",
        "in which scenario": record.world or "IBM's month alone",
        "how": json.dumps(record.hyperparameters),
        "with which seed": str(record.seed),
        "found by which study": record.study,
        "in which run": record.run_id,
        "with which code": record.code_commit or f"SHA-256 {record.code_sha256}",
        "with which packages": f"requirements.lock SHA-256 {lock}",
    }


def link_version(version: int) -> pd.DataFrame:
    """Return what came from what, from the delivered file to the champion, to be drawn.

    Returns:
        ``source, target``, one row per link.
    """
    record = describe_version(version)
    source = f"source {record.source_sha256[:8]}"
    code = record.code_commit or record.code_sha256
    run = f"run {record.run_id[:8]}"
    name = f"version {record.version}"
    links = []
    for table, table_version in record.tables.items():
        read = f"{table} v{table_version}"
        links.append((source, read))
        links.append((read, run))
    links.append((f"code {code[:8]}", run))
    links.append((f"packages {record.lock_sha256[:8]}", run))
    links.append((f"study, seed {record.seed}", run))
    links.append((run, name))
    for deployment in deployments.list_deployments():
        if deployment.version == version:
            links.append((name, f"champion from {deployment.effective_from:%Y-%m}"))
    return pd.DataFrame(links, columns=["source", "target"]).drop_duplicates(ignore_index=True)
