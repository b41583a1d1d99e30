"""Model versions in MLflow's registry: training runs, descriptions, aliases, tags."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from churn_utils import settings
from churn_utils.data import home_ledger
from churn_utils.data.home_ledger import RECORD, VERSION
from churn_utils.errors import ModelError
from churn_utils.evaluation.economics import Economics
from churn_utils.registry import artifacts
from churn_utils.registry.aliases import CHALLENGER, set_challenger, version_with_alias
from churn_utils.registry.connection import connect_client, connect_mlflow, path_of_uri
from churn_utils.settings import MODEL_NAME

TRIAL = "trial"  # scope of an approval to answer a share of the customers


@dataclass(frozen=True)
class TrainingRun:
    """What a training logged to MLflow.

    Attributes:
        run_id: MLflow's id of the run.
        params: hyperparameters, costs, seed, date and origin of the data, as text.
        metrics: on the ``validate`` split, by name.
        trained_by: name of the person who trained; empty when it was not recorded.
        artifact_folder: where the run's artifacts are; MLflow would copy them to be read.
    """

    run_id: str
    params: dict[str, str]
    metrics: dict[str, float]
    trained_by: str
    artifact_folder: Path


@dataclass(frozen=True)
class ModelVersion(TrainingRun):
    """A registered version as it was in the registry when it was read, with its training run.

    Attributes:
        version: its number.
        description: written for the person who approves it.
        aliases: such as ``champion``.
        tags: verdicts of the gate, approvals and status, as text.
        registered_at: time of registration, UTC.
    """

    version: int
    description: str
    aliases: tuple[str, ...]
    tags: dict[str, str]
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
            save_rate = float(self.params.get("save_rate", 1.0))
        except KeyError as error:
            raise ModelError(
                f"the run of version {self.version} did not record {error}; train and register it "
                "again with notebooks 02 and 03."
            ) from error
        return Economics(offer_cost, churner_value, save_rate)

    @property
    def threshold(self) -> float:
        """Churn probability from which the version makes an offer; it follows from the costs."""
        return self.economics.threshold


def _get_run(run_id: str):
    """Return MLflow's run.

    Raises:
        ModelError: no such run in this home.
    """
    mlflow = connect_mlflow()
    try:
        return mlflow.MlflowClient().get_run(run_id)
    except mlflow.MlflowException as error:
        raise ModelError(
            f"there is no training run {run_id!r} in {settings.mlflow_folder()}."
        ) from error


def register_version(run_id: str, description: str, tags: dict[str, str]) -> int:
    """Register a training run's model, describe it and make it the challenger.

    The same run again returns the version that it already has.

    Raises:
        ModelError: the run does not exist in this home or logged no model.
    """
    run = _get_run(run_id)
    if not run.outputs or not run.outputs.model_outputs:
        raise ModelError(f"run {run_id} logged no model; run the training notebook to its end.")
    client = connect_client()
    known = client.search_model_versions(f"name='{MODEL_NAME}' and run_id='{run_id}'")
    if known:
        registered = known[0]
    else:
        if not client.search_registered_models(f"name='{MODEL_NAME}'"):
            purpose = "Probability that a telco customer churns."
            client.create_registered_model(MODEL_NAME, description=purpose)
        source = f"models:/{run.outputs.model_outputs[0].model_id}"
        registered = client.create_model_version(MODEL_NAME, source, run_id, tags=tags)
    version = int(registered.version)
    client.update_model_version(MODEL_NAME, str(version), description)
    record_version(version)
    set_challenger(version)
    return version


def record_version(version: int) -> None:
    """Record what a version is made of, unless it was recorded when it was registered."""
    entries = home_ledger.read_entries()
    if home_ledger.find(entries, VERSION, version, RECORD) is not None:
        return
    info = _read(version)
    artifacts.record_files(version, info.artifact_folder)
    home_ledger.record(VERSION, version, RECORD, _describe_record(info))


def _describe_record(info: ModelVersion) -> dict[str, str]:
    """Return what of a version's record may not change: run, trainer, parameters, costs too."""
    return {"run_id": info.run_id, "trained_by": info.trained_by, **info.params}


def latest_run(as_of: pd.Timestamp) -> str:
    """Return the run id of the newest finished training as of a simulated date.

    Raises:
        ModelError: nothing was trained as of that date.
    """
    conditions = f"status = 'FINISHED' and params.as_of = '{as_of:%Y-%m-%d}'"
    runs = connect_mlflow().search_runs(
        filter_string=f"tags.trained_by != '' and {conditions}",
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
    run = _get_run(run_id)
    return TrainingRun(
        run_id=run_id,
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
        trained_by=run.data.tags.get("trained_by", ""),
        artifact_folder=path_of_uri(run.info.artifact_uri),
    )


def read_version(version: int) -> ModelVersion:
    """Read a version and its training run from the registry: once, to be handed on.

    Raises:
        ModelError: no such version, or its record was changed since it was registered.
    """
    info = _read(version)
    home_ledger.check(VERSION, version, RECORD, _describe_record(info), ModelError)
    return info


def _read(version: int) -> ModelVersion:
    mlflow = connect_mlflow()
    try:
        found = mlflow.MlflowClient().get_model_version(MODEL_NAME, str(version))
    except mlflow.MlflowException as error:
        raise ModelError(
            f"there is no version {version} of {MODEL_NAME} in {settings.mlflow_folder()}."
        ) from error
    run = read_run(found.run_id)
    return ModelVersion(
        **vars(run),
        version=int(found.version),
        description=found.description or "",
        aliases=tuple(found.aliases),
        tags=dict(found.tags),
        registered_at=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
    )


def compare_versions(before: int, after: int) -> pd.DataFrame:
    """Compare trainer, parameters and metrics of two versions.

    Returns:
        What differs: index fact (version, parameter or metric), columns ``before, after``. The
        names of metrics say so if the versions were measured on different months.
    """
    old = read_version(before)
    new = read_version(after)
    is_same_month = old.params.get("as_of") == new.params.get("as_of")
    suffix = "" if is_same_month else ", on customers of its own time"
    old_facts = _list_facts(old, suffix)
    new_facts = _list_facts(new, suffix)
    table = pd.DataFrame({"before": old_facts, "after": new_facts}, dtype=object)
    in_order = list(old_facts | new_facts)
    table = table.reindex(in_order).rename_axis("fact")
    as_text = table.astype(str)
    return table[as_text["before"] != as_text["after"]]


def _list_facts(info: ModelVersion, suffix: str) -> dict:
    """Return number, trainer, parameters and metrics; the suffix goes to the names of metrics."""
    facts = {"version": info.version, "trained_by": info.trained_by, **info.params}
    for name, value in info.metrics.items():
        if not name.endswith(("_lower", "_upper")):
            facts[f"{name}{suffix}"] = round(value, 4)
    return facts


def list_versions() -> pd.DataFrame:
    """Return all versions.

    Returns:
        One row per version, newest first:
        ``version, aliases, gate, trained_by, as_of, family, log_loss``.
    """
    rows = []
    for number in reversed(list_numbers()):
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


def list_numbers() -> list[int]:
    """Return the numbers of all versions, oldest first."""
    found = connect_client().search_model_versions(f"name='{MODEL_NAME}'")
    return sorted(int(entry.version) for entry in found)


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
            f"no version trained as of {as_of:%Y-%m-%d} is registered; run notebooks 02 and 03 "
            "first."
        )
    challenger = version_with_alias(CHALLENGER)
    if challenger is not None and challenger in trained:
        return challenger
    return trained[0]


def list_artifacts(version: int) -> list[str]:
    """Return the paths of the artifacts that the version's training run logged."""
    return artifacts.list_names(read_version(version).artifact_folder)


def set_tags(version: int, tags: dict[str, str]) -> None:
    """Set tags on a version."""
    client = connect_client()
    for key, value in tags.items():
        client.set_model_version_tag(MODEL_NAME, str(version), key, value)


def read_change_marker() -> tuple[int, ...] | None:
    """Return a value that changes with the registry's files, or None if there are none."""
    database = settings.mlflow_database()
    write_ahead_log = database.with_name(f"{database.name}-wal")
    existing = [path for path in (database, write_ahead_log) if path.exists()]
    if not existing:
        return None
    return tuple(path.stat().st_mtime_ns for path in existing)
