"""Aliases of versions in MLflow's registry: who is champion, who wants to be."""

from __future__ import annotations

from churn_utils.registry.connection import connect_client, connect_mlflow
from churn_utils.settings import MODEL_NAME

CHAMPION, CHALLENGER = "champion", "challenger"  # aliases


def version_with_alias(alias: str) -> int | None:
    """Return the version that carries an alias, or None."""
    mlflow = connect_mlflow()
    try:
        return int(mlflow.MlflowClient().get_model_version_by_alias(MODEL_NAME, alias).version)
    except mlflow.MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def set_champion(version: int) -> None:
    """Move the champion alias to a version; only ``promotion`` may call this."""
    connect_client().set_registered_model_alias(MODEL_NAME, CHAMPION, str(version))
    clear_challenger(version)


def set_challenger(version: int) -> None:
    """Make a version the challenger, which the gate judges and an approval is asked for."""
    connect_client().set_registered_model_alias(MODEL_NAME, CHALLENGER, str(version))


def clear_challenger(version: int) -> None:
    """Take the challenger alias from a version, after a promotion or a refusal."""
    if version_with_alias(CHALLENGER) == version:
        clear_alias(CHALLENGER)


def clear_alias(alias: str) -> None:
    """Take an alias from the version that carries it."""
    if version_with_alias(alias) is not None:
        connect_client().delete_registered_model_alias(MODEL_NAME, alias)
