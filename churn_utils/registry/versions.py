"""Model versions in MLflow's registry: descriptions, aliases, evidence, signatures."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from churn_utils import settings
from churn_utils.errors import ModelError
from churn_utils.evaluation.economics import Economics
from churn_utils.registry.connection import connect_mlflow
from churn_utils.settings import MODEL_NAME

CHAMPION, CHALLENGER = "champion", "challenger"
EVIDENCE = "gate"  # folder of a run's artifacts; every evidence that was ever kept lies there under its digest
TRIAL = "trial"  # scope of an approval to answer a share of the customers


@dataclass(frozen=True)
class TrainingRun:
    """What a training logged to MLflow.

    Attributes:
        run_id: MLflow's id of the run.
        params: hyperparameters, costs, seed, date and origin of the data, as text.
        metrics: on the ``validate`` split, by name.
        trained_by: name of the person who trained; empty when it was not recorded.
    """

    run_id: str
    params: dict[str, str]
    metrics: dict[str, float]
    trained_by: str


@dataclass(frozen=True)
class ModelVersion:
    """A registered version as it stood in the registry when it was read.

    Attributes:
        version: its number.
        run_id: MLflow's id of its training run.
        description: written for the person who approves it.
        aliases: such as ``champion``.
        tags: verdicts of the gate, approvals and status, as text.
        params: of the training run: hyperparameters, costs, seed, date and origin, as text.
        metrics: of the training run, by name.
        trained_by: name of the person who trained; empty when it was not recorded.
        registered_at: time of registration, UTC.
    """

    version: int
    run_id: str
    description: str
    aliases: tuple[str, ...]
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    trained_by: str
    registered_at: datetime

    @property
    def economics(self) -> Economics:
        """Costs that the version was trained for.

        Raises:
            ModelError: its run recorded none.
        """
        try:
            offer_cost = float(self.params["offer_cost_usd"])
            churner_value = float(self.params["churner_value_usd"])
        except KeyError as error:
            raise ModelError(
                f"the run of version {self.version} did not record {error}; train and register it "
                "again with notebooks 02 and 03."
            ) from error
        return Economics(offer_cost, churner_value)

    @property
    def threshold(self) -> float:
        """Churn probability from which the version makes an offer; it follows from the costs."""
        return self.economics.threshold


def _client():
    return connect_mlflow().MlflowClient()


def register_version(run_id: str, description: str, tags: dict[str, str]) -> int:
    """Register a training run's model, describe it and make it the challenger.

    The same run again returns the version that it already has.

    Raises:
        ModelError: the run does not exist in this home or logged no model.
    """
    mlflow = connect_mlflow()
    client = mlflow.MlflowClient()
    try:
        run = client.get_run(run_id)
    except mlflow.MlflowException as error:
        raise ModelError(
            f"there is no training run {run_id!r} in {settings.mlflow_folder()}."
        ) from error
    if not run.outputs or not run.outputs.model_outputs:
        raise ModelError(f"run {run_id} logged no model; run the training notebook to its end.")
    known = client.search_model_versions(f"name='{MODEL_NAME}' and run_id='{run_id}'")
    if known:
        version = int(known[0].version)
    else:
        if not client.search_registered_models(f"name='{MODEL_NAME}'"):
            client.create_registered_model(
                MODEL_NAME, description="Probability that a telco customer churns."
            )
        source = f"models:/{run.outputs.model_outputs[0].model_id}"
        version = int(client.create_model_version(MODEL_NAME, source, run_id, tags=tags).version)
    client.update_model_version(MODEL_NAME, str(version), description)
    set_challenger(version)
    return version


def latest_run(as_of: pd.Timestamp) -> str:
    """Run id of the newest finished training as of a simulated date.

    Raises:
        ModelError: nothing was trained as of that date.
    """
    mlflow = connect_mlflow()
    runs = mlflow.search_runs(
        filter_string=f"tags.trained_by != '' and status = 'FINISHED' and params.as_of = '{as_of:%Y-%m-%d}'",
        order_by=["start_time DESC"],
        max_results=1,
        output_format="list",
    )
    if not runs:
        raise ModelError(
            f"nothing was trained as of {as_of:%Y-%m-%d} in this home yet; run notebook 02 first."
        )
    return runs[0].info.run_id


def read_run(run_id: str) -> TrainingRun:
    """Read what a training run logged.

    Raises:
        ModelError: no such run in this home.
    """
    mlflow = connect_mlflow()
    try:
        data = mlflow.MlflowClient().get_run(run_id).data
    except mlflow.MlflowException as error:
        raise ModelError(
            f"there is no training run {run_id!r} in {settings.mlflow_folder()}."
        ) from error
    return TrainingRun(
        run_id=run_id,
        params=dict(data.params),
        metrics=dict(data.metrics),
        trained_by=data.tags.get("trained_by", ""),
    )


def read_version(version: int) -> ModelVersion:
    """Read a version and its training run from the registry: once, to be handed on.

    Raises:
        ModelError: no such version.
    """
    mlflow = connect_mlflow()
    try:
        found = mlflow.MlflowClient().get_model_version(MODEL_NAME, str(version))
    except mlflow.MlflowException as error:
        raise ModelError(
            f"there is no version {version} of {MODEL_NAME} in {settings.mlflow_folder()}."
        ) from error
    run = read_run(found.run_id)
    return ModelVersion(
        version=int(found.version),
        run_id=found.run_id,
        description=found.description or "",
        aliases=tuple(found.aliases),
        tags=dict(found.tags),
        params=run.params,
        metrics=run.metrics,
        trained_by=run.trained_by,
        registered_at=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
    )


def compare_versions(before: int, after: int) -> pd.DataFrame:
    """What differs between two versions: index fact (version, parameter or metric), columns ``before, after``.

    Metrics of versions that were measured on different months say so: they compare the months as well.
    """
    facts, infos = {}, [read_version(version) for version in (before, after)]
    months = {info.params.get("as_of") for info in infos}
    where = "" if len(months) == 1 else ", on customers of its own time"
    for side, info in zip(("before", "after"), infos, strict=True):
        metrics = {
            f"{name}{where}": round(value, 4)
            for name, value in info.metrics.items()
            if not name.endswith(("_lower", "_upper"))
        }
        facts[side] = {
            "version": info.version,
            "trained_by": info.trained_by,
            **info.params,
            **metrics,
        }
    table = (
        pd.DataFrame(facts, dtype=object)
        .reindex(list(facts["before"] | facts["after"]))
        .rename_axis("fact")
    )
    return table[table["before"].astype(str) != table["after"].astype(str)]


def list_versions() -> pd.DataFrame:
    """One row per version, newest first: ``version, aliases, gate, trained_by, as_of, family, log_loss``."""
    found = _client().search_model_versions(f"name='{MODEL_NAME}'")
    rows = []
    for number in sorted((int(v.version) for v in found), reverse=True):
        info = read_version(number)
        rows.append(
            {
                "version": number,
                "aliases": ", ".join(info.aliases),
                "gate": info.tags.get("gate", ""),
                "trained_by": info.trained_by,
                "as_of": info.params.get("as_of", ""),
                "family": info.params.get("family", ""),
                "log_loss": info.metrics.get("log_loss"),
            }
        )
    columns = ["version", "aliases", "gate", "trained_by", "as_of", "family", "log_loss"]
    return pd.DataFrame(rows, columns=columns)


def version_with_alias(alias: str) -> int | None:
    """Version that carries an alias, or None."""
    mlflow = connect_mlflow()
    try:
        return int(mlflow.MlflowClient().get_model_version_by_alias(MODEL_NAME, alias).version)
    except mlflow.MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def version_to_judge(as_of: pd.Timestamp) -> int:
    """Return the challenger, or the newest version trained as of a date if there is none of it.

    Raises:
        ModelError: no version that was trained as of that date is registered.
    """
    registered = list_versions()
    is_of_date = registered["as_of"] == f"{as_of:%Y-%m-%d}"
    trained = [int(version) for version in registered.loc[is_of_date, "version"]]
    if not trained:
        raise ModelError(
            f"no version trained as of {as_of:%Y-%m-%d} is registered; run notebooks 02 and 03 first."
        )
    challenger = version_with_alias(CHALLENGER)
    if challenger is not None and challenger in trained:
        return challenger
    return trained[0]


def list_artifacts(version: int) -> list[str]:
    """Paths of the artifacts that the version's training run logged."""
    return [item.path for item in _client().list_artifacts(read_version(version).run_id)]


def describe_record(version: int) -> dict[str, str]:
    """What the gate judges of a version besides its answers, as it stands now: trainer, description, kept artifacts."""
    info, digest = read_version(version), hashlib.sha256()
    for path in sorted(list_artifacts(version)):
        if path != EVIDENCE:
            local = connect_mlflow().artifacts.download_artifacts(f"runs:/{info.run_id}/{path}")
            digest.update(f"{path} {_hash_files(Path(local))}\n".encode())
    described = hashlib.sha256(info.description.encode()).hexdigest()
    return {
        "trained_by": info.trained_by,
        "description_sha256": described,
        "artifacts_sha256": digest.hexdigest(),
    }


def _hash_files(path: Path) -> str:
    files = (
        [path] if path.is_file() else sorted(found for found in path.rglob("*") if found.is_file())
    )
    return " ".join(hashlib.sha256(found.read_bytes()).hexdigest() for found in files)


def set_tags(version: int, tags: dict[str, str]) -> None:
    """Set tags on a version."""
    client = _client()
    for key, value in tags.items():
        client.set_model_version_tag(MODEL_NAME, str(version), key, value)


def hash_evidence(text: str) -> str:
    """SHA-256 of an evidence document."""
    return hashlib.sha256(text.encode()).hexdigest()


def write_evidence(version: int, evidence: dict) -> str:
    """Keep the gate's evidence with the version's run, under its SHA-256, beside all that was kept before; return that.

    Its place among them is written into it as ``run``, and their number into the tag ``gate_runs``: whoever tries seeds
    until one passes leaves a trace. The very same facts again are no other evidence: they keep digest and number.
    """
    client, run_id = _client(), read_version(version).run_id
    facts = json.loads(json.dumps(evidence)) | {"run": None}
    paths = [item.path for item in client.list_artifacts(run_id, EVIDENCE)]
    for path in paths:
        text = connect_mlflow().artifacts.load_text(f"runs:/{run_id}/{path}")
        if hash_evidence(text) == Path(path).stem and json.loads(text) | {"run": None} == facts:
            set_tags(
                version, {"gate_runs": str(len(paths))}
            )  # a process may have ended before it said so
            return Path(path).stem
    text = json.dumps(facts | {"run": len(paths) + 1}, indent=1, sort_keys=True)
    digest = hash_evidence(text)
    client.log_text(run_id, text, f"{EVIDENCE}/{digest}.json")
    set_tags(version, {"gate_runs": str(len(paths) + 1)})
    return digest


def read_evidence(version: int, digest: str | None = None) -> tuple[dict, str]:
    """Return evidence of a version, the newest if none is named, and its SHA-256 as it stands now.

    Raises:
        ModelError: the version never went through the gate, or that evidence is no longer there.
    """
    mlflow, info = connect_mlflow(), read_version(version)
    digest = digest or info.tags.get("gate_evidence_sha256")
    if digest is None:
        raise ModelError(f"version {version} has no gate evidence; run notebook 04a first.")
    try:
        text = mlflow.artifacts.load_text(f"runs:/{info.run_id}/{EVIDENCE}/{digest}.json")
        return json.loads(text), hash_evidence(text)
    except (mlflow.MlflowException, OSError, ValueError) as error:
        raise ModelError(
            f"the evidence {digest} of version {version} cannot be read; run 04a again."
        ) from error


def set_champion(version: int) -> None:
    """Move the champion alias to a version; only ``deployments`` may call this."""
    _client().set_registered_model_alias(MODEL_NAME, CHAMPION, str(version))
    clear_challenger(version)


def set_challenger(version: int) -> None:
    """Make a version the challenger: the one that the gate judges and an approval is asked for."""
    _client().set_registered_model_alias(MODEL_NAME, CHALLENGER, str(version))


def clear_challenger(version: int) -> None:
    """Take the challenger alias from a version, after promotion and after refusal alike."""
    if version_with_alias(CHALLENGER) == version:
        clear_alias(CHALLENGER)


def clear_alias(alias: str) -> None:
    """Take an alias from whichever version carries it."""
    if version_with_alias(alias) is not None:
        _client().delete_registered_model_alias(MODEL_NAME, alias)


def read_change_marker() -> tuple[int, ...] | None:
    """What changes whenever the registry does, at the price of a look at its files; None where that cannot be had."""
    database = settings.mlflow_database()
    files = [database, database.with_name(f"{database.name}-wal")]
    return tuple(path.stat().st_mtime_ns for path in files if path.exists()) or None
