"""The files of a registered version: their format, digest, signature and input example."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pandas as pd

from churn_utils.data import home_ledger, integrity
from churn_utils.data.home_ledger import VERSION
from churn_utils.errors import ModelError
from churn_utils.registry.connection import connect_mlflow, path_of_uri
from churn_utils.settings import MODEL_NAME

FORMAT = "skops"
FEATURE_CONTRACT = "feature_contract.json"
MODEL, CONTRACT = "model folder", "feature contract"  # parts of a version in the home's ledger
# Types that skops may load besides its own list; the list in a model folder may hold no other.
TRUSTED_TYPES = [
    "sklearn.tree._tree.Tree",  # a forged one could crash the process
    "collections.OrderedDict",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "scipy._lib.array_api_compat.numpy._aliases.asarray",
    "scipy.interpolate._bsplines.BSpline",
]


def name_version(version: int) -> str:
    """Return MLflow's address of a version."""
    return f"models:/{MODEL_NAME}/{version}"


def _read_info(version: int):
    return connect_mlflow().models.get_model_info(name_version(version))


def check_format(version: int) -> None:
    """Check that loading a version's model runs no code: skops, with ``TRUSTED_TYPES`` alone.

    Raises:
        ModelError: it is kept in another format, or asks for other types.
    """
    flavor = _read_info(version).flavors.get("sklearn", {})
    found = flavor.get("serialization_format", "none")
    if found != FORMAT:
        raise ModelError(
            f"version {version} is kept as {found}, which may run code when it is loaded; log its "
            f"model with serialization_format={FORMAT!r}."
        )
    strange = sorted(set(flavor.get("skops_trusted_types") or []) - set(TRUSTED_TYPES))
    if strange:
        raise ModelError(
            f"version {version} asks for types that no model here has: {', '.join(strange)}."
        )


def load_model(version: int):
    """Load a version's scikit-learn model; no pickle is run.

    Raises:
        ModelError: it is kept in another format, asks for types that this project does not use, or
            its files are not those that were registered.
    """
    check_format(version)
    check_files(version)
    return connect_mlflow().sklearn.load_model(name_version(version))


def locate_model(version: int) -> Path:
    """Return the folder of a version's model."""
    client = connect_mlflow().MlflowClient()
    return path_of_uri(client.get_model_version_download_uri(MODEL_NAME, str(version)))


def check_files(version: int) -> None:
    """Check that a version's model folder is what was registered.

    Raises:
        ModelError: a file was changed, added or removed since.
    """
    home_ledger.check(VERSION, version, MODEL, hash_model(version), ModelError)


def list_names(folder: Path) -> list[str]:
    """Return the names in a folder of artifacts, sorted; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir())


def record_files(version: int, artifact_folder: Path) -> None:
    """Record the digests of a version's model folder and feature contract."""
    try:
        contract = _read_contract(artifact_folder)
    except ModelError:  # the gate will refuse it
        contract = ""
    home_ledger.record(VERSION, version, CONTRACT, integrity.hash_text(contract))
    home_ledger.record(VERSION, version, MODEL, hash_model(version))


def hash_model(version: int) -> str:
    """Return the SHA-256 over names and contents of the files in a version's model folder now.

    It takes some milliseconds, so nothing is cached: a replaced file can be given its old date.
    """
    folder = locate_model(version)
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        # MLflow writes ``registered_model_meta`` when it loads a model.
        if path.is_file() and path.name != "registered_model_meta":
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def read_schema(version: int) -> dict[str, str]:
    """Return the signature's inputs in order: name to type (``string``, ``long``, ``double``)."""
    inputs = _read_info(version).signature.inputs
    return {column.name: column.type.name for column in inputs.inputs}


def read_inputs(version: int) -> list[str]:
    """Return the model inputs that a version's training run recorded, in order.

    Raises:
        ModelError: it recorded none, so nothing says what the version was trained on; or they were
            changed since the version was registered.
    """
    client = connect_mlflow().MlflowClient()
    run_id = client.get_model_version(MODEL_NAME, str(version)).run_id
    contract = _read_contract(path_of_uri(client.get_run(run_id).info.artifact_uri))
    home_ledger.check(VERSION, version, CONTRACT, integrity.hash_text(contract), ModelError)
    return [entry["feature"] for entry in json.loads(contract)]


def _read_contract(artifact_folder: Path) -> str:
    """Return the feature contract among the artifacts of a training run, as JSON."""
    try:
        return (artifact_folder / FEATURE_CONTRACT).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{artifact_folder} has no {FEATURE_CONTRACT}, which names the inputs; train with "
            "notebook 02 and register that run."
        ) from error


def read_example(version: int) -> pd.DataFrame:
    """Read the input example that was logged with the version's model, with its columns.

    Raises:
        ModelError: none was logged.
    """
    if not _read_info(version).saved_input_example_info:
        raise ModelError(f"version {version} has no input example; log its model with one.")
    folder = str(locate_model(version))  # MLflow would copy the files of a name to be read
    return connect_mlflow().models.Model.load(folder).load_input_example(folder)
