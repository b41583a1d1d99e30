"""Where a version comes from, in one call; and training it again from that record alone."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV

from churn_utils import settings
from churn_utils.errors import ModelError
from churn_utils.features import definitions, offline
from churn_utils.registry import deployments, provenance, tracking, versions
from churn_utils.training import models

ROUNDING = 1e-6  # largest difference that another machine's arithmetic may make


def describe_version(version: int) -> dict:
    """What a version was made from.

    Returns:
        ``version, trained_by, run_id, study, as_of, since, seed, rows_train, tables`` (Delta version of each),
        ``hyperparameters``, and those of ``provenance.FIELDS``: digests of source, code and packages, the commit.

    Raises:
        ModelError: no such version.
        ModelError: its run recorded no table versions, seed or date.
    """
    info = versions.read_version(version)
    params = info.params
    tables = {name: params.get(f"{name}_version") for name in offline.TRAINING_TABLES}
    missing = [f"version of {name}" for name, found in tables.items() if found is None]
    missing += [name for name in ("as_of", "seed", "family") if not params.get(name)]
    if missing:
        raise ModelError(
            f"the run of version {version} did not record {', '.join(missing)}; it cannot be traced or trained again. "
            "Train with notebook 02 and register that run."
        )
    return {
        "version": version,
        "trained_by": info.trained_by,
        "run_id": info.run_id,
        "study": params.get("study", ""),
        "as_of": settings.as_of_date(params["as_of"]),
        "since": settings.as_of_date(params["since"]) if params.get("since") else None,
        "seed": int(params["seed"]),
        "rows_train": params.get("rows_train", ""),
        "tables": {name: int(found) for name, found in tables.items()},
        "hyperparameters": tracking.read_hyperparameters(params),
        **{name: params.get(name, "") for name in provenance.FIELDS},
    }


def read_training_set(version: int) -> pd.DataFrame:
    """The labelled rows that a version was trained on, read at the table versions that its training recorded.

    Raises:
        DataError: a table no longer holds that version.
    """
    record = describe_version(version)
    return offline.build_training_set(record["as_of"], record["tables"], record["since"])


def refit(version: int) -> CalibratedClassifierCV:
    """Train a version again from its recorded lineage alone: table versions, split, hyperparameters, seed.

    Returns:
        The fitted model; with the recorded code and packages it gives the version's probabilities, bit for bit.

    Raises:
        ModelError: the record is incomplete.
    """
    record, rows = describe_version(version), read_training_set(version)
    train, validate = (offline.training_rows(rows, split) for split in ("train", "validate"))
    return models.fit_calibrated(record["hyperparameters"], train, validate, record["seed"])


def compare_refit(version: int, rows: pd.DataFrame, probability: np.ndarray) -> dict:
    """Train a version again and compare it with the probabilities that the registered file gives.

    Args:
        version: to train again.
        rows: model inputs.
        probability: of the registered file on these rows, shape (n,).

    Returns:
        ``rows, differing`` (rows whose probability is not the same number), ``largest`` difference, and ``changed``:
        which of code and packages are others than at training.
    """
    again = refit(version).predict_proba(definitions.select_model_inputs(rows))[:, 1]
    record, here = describe_version(version), provenance.describe_origin()
    changed = [name for name in ("code_sha256", "lock_sha256") if record[name] != here[name]]
    gaps = np.abs(again - probability)
    return {
        "rows": len(rows),
        "differing": int((again != probability).sum()),
        "largest": float(gaps.max()),
        "changed": changed,
    }


def explain_deployed(as_of: pd.Timestamp) -> pd.DataFrame:
    """Answer what is deployed at a date, how it was trained, by whom, on which data, and who let it answer.

    Returns:
        ``question, answer``, one row per fact.

    Raises:
        ModelError: nothing is deployed at that date.
    """
    version = deployments.champion_at(as_of)
    if version is None:
        raise ModelError(
            f"no version is in effect on {as_of:%Y-%m-%d}; promote one first (notebook 04b)."
        )
    table = deployments.read_deployments()
    row = table[(table["version"] == version) & (table["effective_from"] <= as_of)].iloc[-1]
    answers = _answers(describe_version(version)) | {
        "in effect since": f"{row['effective_from']:%Y-%m-%d} ({row['action']})",
        "let answer by": f"{row['approved_by']}: {row['reason']}",
        "on which evidence": row["evidence_sha256"],
    }
    return pd.DataFrame({"question": list(answers), "answer": list(answers.values())})


def explain_version(version: int) -> pd.DataFrame:
    """Answer how a version was trained, by whom and on which data: ``question, answer``."""
    answers = _answers(describe_version(version))
    return pd.DataFrame({"question": list(answers), "answer": list(answers.values())})


def _answers(record: dict) -> dict[str, str]:
    since = f" from {record['since']:%Y-%m} on" if record["since"] is not None else ""
    return {
        "which version": f"{settings.MODEL_NAME} {record['version']}",
        "trained by whom": record["trained_by"],
        "on which data": ", ".join(
            f"{name} version {found}" for name, found in record["tables"].items()
        ),
        "which rows": f"{record['rows_train']} in train, labels{since} known on {record['as_of']:%Y-%m-%d}",
        "from which source": f"SHA-256 {record['source_sha256'] or 'not recorded'}",
        "in which world": record["world"] or "IBM's month alone",
        "how": json.dumps(record["hyperparameters"]),
        "with which seed": str(record["seed"]),
        "found by which study": record["study"],
        "in which run": record["run_id"],
        "with which code": record["code_commit"] or f"SHA-256 {record['code_sha256']}",
        "with which packages": f"requirements.lock SHA-256 {record['lock_sha256'] or 'not recorded'}",
    }


def link_version(version: int) -> pd.DataFrame:
    """What came from what, for ``charts.plot_lineage``: ``source, target``, from the delivered file to the champion."""
    record = describe_version(version)
    run, name = f"run {record['run_id'][:8]}", f"version {record['version']}"
    links = []
    for table, found in record["tables"].items():
        links += [
            (f"source {record['source_sha256'][:8]}", f"{table} v{found}"),
            (f"{table} v{found}", run),
        ]
    links += [
        (f"code {record['code_commit'][:8] or record['code_sha256'][:8]}", run),
        (f"packages {record['lock_sha256'][:8]}", run),
        (f"study, seed {record['seed']}", run),
        (run, name),
    ]
    table = deployments.read_deployments()
    for row in table[table["version"] == version].itertuples():
        links.append((name, f"champion from {row.effective_from:%Y-%m}"))
    return pd.DataFrame(links, columns=["source", "target"]).drop_duplicates(ignore_index=True)
