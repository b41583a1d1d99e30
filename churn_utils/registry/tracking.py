"""Log a training to MLflow: the parent run with model, metrics and figures, and one nested run per trial."""

from __future__ import annotations

import importlib.metadata
import time

import numpy as np
import optuna
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV

from churn_utils import settings
from churn_utils.evaluation.economics import Economics
from churn_utils.features import definitions, offline
from churn_utils.registry import artifacts, provenance
from churn_utils.registry.connection import connect_mlflow
from churn_utils.training.models import DEFAULTS
from churn_utils.training.search import DONE, best_params

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
    """Log a training to MLflow: one parent run with the model, one nested run per trial.

    Args:
        versions: Delta version of each table that the training set was built from.
        metrics: index metric, columns ``value, lower, upper``; logged as ``m``, ``m_lower``, ``m_upper``.
        importance: as ``explain_importance`` returns it.
        figures: plotly figures by name, logged together as one self-contained page.
        since: first month whose labels the training set holds; the first of all when not given.

    Returns:
        The parent's run id.
    """
    mlflow = connect_mlflow()
    params = best_params(study)
    recorded = {f"{table}_version": version for table, version in versions.items()}
    rows = offline.training_rows(training_set, "train")
    with mlflow.start_run(
        run_name=f"training {as_of:%Y-%m-%d}", tags={"trained_by": settings.user()}
    ) as run:
        mlflow.log_params(
            {
                **params,
                **recorded,
                **provenance.describe_origin(),
                "as_of": f"{as_of:%Y-%m-%d}",
                "since": f"{since:%Y-%m-%d}" if since is not None else "",
                "seed": seed,
                "study": study.study_name,
                "n_trials": len(study.get_trials(states=DONE)),
                "rows_train": len(rows),
                "threshold": economics.threshold,
                "offer_cost_usd": economics.offer_cost_usd,
                "churner_value_usd": economics.churner_value_usd,
            }
        )
        named = {"value": "", "lower": "_lower", "upper": "_upper"}
        mlflow.log_metrics(
            {m + named[c]: v for m, row in metrics.iterrows() for c, v in row.items()}
        )
        mlflow.log_table(importance, "importance.json")
        mlflow.log_dict(definitions.feature_contract().to_dict("records"), "feature_contract.json")
        mlflow.log_text(_figure_page(figures), "figures.html")
        _log_trials(mlflow, study, run.info)
        _log_model(mlflow, model, rows, economics, as_of)
    return run.info.run_id


def read_hyperparameters(params: dict[str, str]) -> dict:
    """Hyperparameters among a run's logged ``params``, as ``best_params`` returned them."""
    defaults = DEFAULTS[params["family"]]
    return {
        "family": params["family"],
        **{name: type(like)(float(params[name])) for name, like in defaults.items()},
    }


def _figure_page(figures: dict) -> str:
    """Put figures on one page that needs no network: the first brings plotly.js, the others share it."""
    parts = [
        f"<h2>{name}</h2>" + figure.to_html(full_html=False, include_plotlyjs=position == 0)
        for position, (name, figure) in enumerate(figures.items())
    ]
    return "<!doctype html><meta charset='utf-8'>" + "".join(parts)


def _log_trials(mlflow, study: optuna.Study, parent) -> None:
    """Log each trial as a finished child run; batches, because 40 runs one value at a time take seconds."""
    client = mlflow.MlflowClient()
    for trial in study.get_trials(states=DONE):
        tags = {"mlflow.parentRunId": parent.run_id, "state": trial.state.name.lower()}
        started = trial.datetime_start
        start = int(started.timestamp() * 1000) if started else int(time.time() * 1000)
        child = client.create_run(
            parent.experiment_id, start, tags, f"trial {trial.number + 1}"
        ).info.run_id
        metrics = [
            mlflow.entities.Metric("fold_log_loss", loss, start, step)
            for step, loss in trial.intermediate_values.items()
        ]
        if trial.state == optuna.trial.TrialState.COMPLETE:
            metrics.append(mlflow.entities.Metric("log_loss", trial.value, start, 0))
        client.log_batch(
            child, metrics, [mlflow.entities.Param(k, str(v)) for k, v in trial.params.items()]
        )
        ended = trial.datetime_complete
        client.set_terminated(child, end_time=int(ended.timestamp() * 1000) if ended else None)


def _build_signature(mlflow, answers: np.ndarray):
    """Return the signature: inputs from the feature definitions, outputs like these answers."""
    inputs = mlflow.types.Schema(
        [
            mlflow.types.ColSpec(feature.type.mlflow, name)
            for name, feature in definitions.MODEL_INPUTS.items()
        ]
    )
    outputs = mlflow.models.infer_signature(model_output=answers).outputs
    return mlflow.models.ModelSignature(inputs=inputs, outputs=outputs)


def _log_model(
    mlflow, model, rows: pd.DataFrame, economics: Economics, as_of: pd.Timestamp
) -> None:
    example = definitions.select_model_inputs(rows.head(5))
    signature = _build_signature(mlflow, model.predict_proba(example))
    mlflow.sklearn.log_model(
        model,
        name="model",
        serialization_format=artifacts.FORMAT,
        skops_trusted_types=artifacts.TRUSTED_TYPES,
        pyfunc_predict_fn="predict_proba",
        signature=signature,
        input_example=example,
        pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in PACKAGES],
        metadata={
            "threshold": economics.threshold,
            "offer_cost_usd": economics.offer_cost_usd,
            "churner_value_usd": economics.churner_value_usd,
            "as_of": f"{as_of:%Y-%m-%d}",
        },
    )
