"""Log a training to MLflow: a run with model, metrics and figures, and a nested run per trial."""

from __future__ import annotations

import importlib.metadata
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import optuna
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV

from churn_utils import settings
from churn_utils.evaluation.economics import Economics
from churn_utils.features import definitions, model_inputs, offline
from churn_utils.registry import artifacts, provenance
from churn_utils.registry.connection import connect_mlflow
from churn_utils.training.search import DONE, best_params

if TYPE_CHECKING:
    from mlflow.entities import RunInfo

PACKAGES = ["scikit-learn", "lightgbm", "skops", "numpy", "pandas"]


def log_training(
    study: optuna.Study,
    model: CalibratedClassifierCV,
    training_set: pd.DataFrame,
    versions: dict[str, int],
    metrics: pd.DataFrame,
    importance: pd.DataFrame,
    figures: dict,
    as_of: pd.Timestamp,
    seed: int,
    economics: Economics,
    since: pd.Timestamp | None = None,
) -> str:
    """Log a training to MLflow as notebook 02 does: one run with the model, one nested per trial.

    Args:
        training_set: rows of all splits.
        versions: Delta version of each table that the training set was built from.
        metrics: index metric, columns ``value, lower, upper``; logged as ``m``, ``m_lower``,
            ``m_upper``.
        importance: as ``explain_importance`` returns it.
        figures: plotly figures by name, logged together as one self-contained page.
        as_of: simulated date of training.
        since: first month whose labels the training set holds; the first of all if None.

    Returns:
        The parent's run id.
    """
    mlflow = connect_mlflow()
    inputs = model_inputs.inputs_of(model)
    contract = definitions.feature_contract(inputs).to_dict("records")
    rows = offline.training_rows(training_set, "train", inputs)
    params = describe_training(study, len(rows), versions, as_of, since, seed, economics)
    tags = {"trained_by": settings.user()}
    with mlflow.start_run(run_name=f"training {as_of:%Y-%m-%d}", tags=tags) as run:
        mlflow.log_params(params)
        mlflow.log_metrics(metrics["value"].to_dict())
        for bound in ("lower", "upper"):
            mlflow.log_metrics(metrics[bound].add_suffix(f"_{bound}").to_dict())
        mlflow.log_table(importance, "importance.json")
        mlflow.log_dict(contract, artifacts.FEATURE_CONTRACT)
        mlflow.log_text(render_figures(figures), "figures.html")
        log_trials(study, run.info)
        mlflow.sklearn.log_model(model, **describe_model(model, rows, economics, as_of))
    return run.info.run_id


def describe_training(
    study: optuna.Study,
    rows_train: int,
    versions: dict[str, int],
    as_of: pd.Timestamp,
    since: pd.Timestamp | None,
    seed: int,
    economics: Economics,
) -> dict[str, object]:
    """Return the parameters that a training is logged with: all that it takes to train it again.

    They are the best hyperparameters, ``<table>_version``, ``provenance.FIELDS``, ``as_of``,
    ``since``, ``seed``, ``study``, ``n_trials``, ``rows_train``, ``threshold`` and the costs.
    """
    return {
        **best_params(study),
        **{f"{table}_version": version for table, version in versions.items()},
        **provenance.describe_origin(),
        "as_of": f"{as_of:%Y-%m-%d}",
        "since": f"{since:%Y-%m-%d}" if since is not None else "",
        "seed": seed,
        "study": study.study_name,
        "n_trials": len(study.get_trials(states=DONE)),
        "rows_train": rows_train,
        **_describe_costs(economics),
    }


def _describe_costs(economics: Economics) -> dict[str, float]:
    return {
        "threshold": economics.threshold,
        "offer_cost_usd": economics.offer_cost_usd,
        "churner_value_usd": economics.churner_value_usd,
        "save_rate": economics.save_rate,
    }


def render_figures(figures: dict) -> str:
    """Return one page that needs no network: the first figure holds plotly.js for all."""
    parts = ["<!doctype html><meta charset='utf-8'>"]
    for position, (name, figure) in enumerate(figures.items()):
        content = figure.to_html(full_html=False, include_plotlyjs=position == 0)
        parts.append(f"<h2>{name}</h2>{content}")
    return "".join(parts)


def log_trials(study: optuna.Study, parent: RunInfo) -> None:
    """Log each trial as a finished child run, in batches: one value at a time takes seconds."""
    import mlflow  # late, as in connect_mlflow, which the caller has called

    client = mlflow.MlflowClient()
    for place, trial in enumerate(study.get_trials(states=DONE), start=1):
        tags = {"mlflow.parentRunId": parent.run_id, "state": trial.state.name.lower()}
        start = _to_milliseconds(trial.datetime_start) or int(time.time() * 1000)
        child = client.create_run(parent.experiment_id, start, tags, f"trial {place}")
        run_id = child.info.run_id
        metrics = []
        for step, loss in trial.intermediate_values.items():
            metrics.append(mlflow.entities.Metric("fold_log_loss", loss, start, step))
        is_complete = trial.state == optuna.trial.TrialState.COMPLETE
        if is_complete and trial.value is not None:
            metrics.append(mlflow.entities.Metric("log_loss", trial.value, start, 0))
        params = [mlflow.entities.Param(key, str(value)) for key, value in trial.params.items()]
        client.log_batch(run_id, metrics, params)
        client.set_terminated(run_id, end_time=_to_milliseconds(trial.datetime_complete))


def _to_milliseconds(time_of_trial: datetime | None) -> int | None:
    if time_of_trial is None:
        return None
    return int(time_of_trial.timestamp() * 1000)


def describe_model(
    model: BaseEstimator, rows: pd.DataFrame, economics: Economics, as_of: pd.Timestamp
) -> dict[str, Any]:
    """Return the arguments that ``mlflow.sklearn.log_model`` stores a model with.

    Stored with skops, so that loading runs no pickle; with signature, example and packages, and in
    its metadata the costs and the threshold that its decisions follow.

    Args:
        model: fitted.
        rows: some rows with the model inputs, for the example.
        economics: of its decisions.
        as_of: simulated date of its training.
    """
    import mlflow

    example = model_inputs.select_model_inputs(rows.head(5), model_inputs.inputs_of(model))
    predicted = mlflow.models.infer_signature(model_output=model.predict_proba(example))
    inputs = mlflow.types.Schema(
        [mlflow.types.ColSpec(definitions.MODEL_INPUTS[name].type.mlflow, name) for name in example]
    )
    return {
        "name": "model",
        "serialization_format": artifacts.FORMAT,
        "skops_trusted_types": artifacts.TRUSTED_TYPES,
        "pyfunc_predict_fn": "predict_proba",
        "signature": mlflow.models.ModelSignature(inputs, predicted.outputs),
        "input_example": example,
        "pip_requirements": [f"{name}=={importlib.metadata.version(name)}" for name in PACKAGES],
        "metadata": {**_describe_costs(economics), "as_of": f"{as_of:%Y-%m-%d}"},
    }
