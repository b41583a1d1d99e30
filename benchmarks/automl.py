"""Our search against FLAML on the same rows, with the same calibration and ten times the time."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from results import save_table
from search import TRIALS, publish
from sklearn.linear_model import LogisticRegression

from churn_utils import settings
from churn_utils.evaluation import bootstrap, metrics
from churn_utils.evaluation.economics import Economics
from churn_utils.features import model_inputs, offline
from churn_utils.inference import scoring
from churn_utils.training import models, search

PEER = settings.PROJECT / ".venv-flaml" / "bin" / "python"
TIMES = 10
METRICS = ("roc_auc", "log_loss", "value_usd")


def run_flaml(
    train: pd.DataFrame, unseen: pd.DataFrame, seconds: float, folder: Path
) -> tuple[np.ndarray, str]:
    """Let FLAML search in its own environment.

    Args:
        train: labelled rows that it learns from.
        unseen: rows that it predicts.
        seconds: time for the search.
        folder: for the files in between.

    Returns:
        Probabilities of its best model, shape (rows of ``unseen``,), and that model's family.
    """
    files = [folder / name for name in ("train.csv", "unseen.csv", "predictions.csv")]
    train_file, unseen_file, predictions_file = files
    labels = train["churned"].astype(int).to_numpy()
    inputs = model_inputs.select_model_inputs(train)
    inputs.assign(churned=labels).to_csv(train_file, index=False)
    model_inputs.select_model_inputs(unseen).to_csv(unseen_file, index=False)
    script = Path(__file__).parent / "flaml_peer.py"
    command = [PEER, script, *files, str(seconds), str(settings.SEED)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    family = done.stdout.strip().splitlines()[-1]
    return pd.read_csv(predictions_file)["probability"].to_numpy(), family


def calibrate(probability: np.ndarray, validate: np.ndarray, churned: np.ndarray) -> np.ndarray:
    """Calibrate probabilities by a sigmoid learned on ``validate``, as our model is."""

    def logit(p: np.ndarray) -> np.ndarray:
        p = np.clip(p, 1e-6, 1 - 1e-6)
        return np.log(p / (1 - p))[:, None]

    sigmoid = LogisticRegression(C=np.inf).fit(logit(validate), churned)
    return sigmoid.predict_proba(logit(probability))[:, 1]


def compare(test: pd.DataFrame, predictions: dict[str, np.ndarray]) -> pd.DataFrame:
    """Compare two models on the same rows, customer by customer.

    Args:
        test: labelled rows.
        predictions: probabilities of our model, then of FLAML's, by the name to print.

    Returns:
        ``model`` and ``METRICS`` as text: a row for each model and one for the difference.
    """
    economics = Economics()
    rows = []
    for name, probability in predictions.items():
        point = metrics.score_metrics(test["churned"], probability, economics).iloc[0]
        rows.append({"model": name} | {metric: f"{point[metric]:.4g}" for metric in METRICS})
    ours, peer = bootstrap.bootstrap_metrics(
        test["churned"], predictions, test["customer_id"], economics, 4000
    ).values()
    difference = ours - peer
    bounds = bootstrap.interval(difference)
    gap = {"model": "ours less FLAML (paired, 95 %)"}
    for metric in METRICS:
        lower, upper = bounds.loc[metric]
        gap[metric] = f"{difference[metric].mean():+.4f} [{lower:+.4f}, {upper:+.4f}]"
    return pd.DataFrame([*rows, gap])


def main() -> None:
    """Search, let FLAML search, compare on ``test``."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CHURN_HOME"] = f"{folder}/home"
        data = publish()
        train = offline.training_rows(data, "train")
        validate = offline.training_rows(data, "validate")
        test = offline.training_rows(data, "test")
        started = time.perf_counter()
        study = search.run_study(train, TRIALS, settings.SEED, "automl", lambda line: None)
        seconds = time.perf_counter() - started
        model = models.fit_calibrated(search.best_params(study), train, validate, settings.SEED)
        unseen = pd.concat([validate, test])
        theirs, family = run_flaml(train, unseen, TIMES * seconds, Path(folder))
    on_validate, on_test = theirs[: len(validate)], theirs[len(validate) :]
    predictions = {
        f"ours, {seconds:.0f} s": scoring.predict_probability(model, test),
        f"FLAML, {TIMES * seconds:.0f} s: {family}": calibrate(
            on_test, on_validate, validate["churned"]
        ),
    }
    save_table("AutoML", compare(test, predictions), Path(__file__).name)


if __name__ == "__main__":
    main()
