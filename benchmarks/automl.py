"""Our search against FLAML, which gets the same rows, the same calibration and ten times the time."""

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
from churn_utils.features import definitions, offline
from churn_utils.inference import scoring
from churn_utils.training import models, search

PEER = settings.PROJECT / ".venv-flaml" / "bin" / "python"
TIMES = 10


def ask_flaml(
    train: pd.DataFrame, unseen: pd.DataFrame, seconds: float, folder: Path
) -> tuple[np.ndarray, str]:
    """Probabilities of FLAML's best model, and what it says of itself."""
    files = [str(folder / name) for name in ("train.csv", "unseen.csv", "answers.csv")]
    labels = train["churned"].astype(int).to_numpy()
    definitions.select_model_inputs(train).assign(churned=labels).to_csv(files[0], index=False)
    definitions.select_model_inputs(unseen).to_csv(files[1], index=False)
    command = [
        str(PEER),
        str(Path(__file__).parent / "flaml_peer.py"),
        *files,
        str(seconds),
        str(settings.SEED),
    ]
    said = (
        subprocess.run(command, check=True, capture_output=True, text=True)
        .stdout.strip()
        .splitlines()[-1]
    )
    return pd.read_csv(files[2])["probability"].to_numpy(), said


def calibrate(probability: np.ndarray, validate: np.ndarray, churned: np.ndarray) -> np.ndarray:
    """The sigmoid that ours gets as well: learned on ``validate``."""

    def logit(p: np.ndarray) -> np.ndarray:
        p = np.clip(p, 1e-6, 1 - 1e-6)
        return np.log(p / (1 - p))[:, None]

    return (
        LogisticRegression(C=np.inf)
        .fit(logit(validate), churned)
        .predict_proba(logit(probability))[:, 1]
    )


def main() -> None:
    """Search, let FLAML search, compare on ``test`` customer by customer."""
    economics = Economics()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CHURN_HOME"] = f"{folder}/home"
        data = publish()
        train, validate, test = (
            offline.training_rows(data, split) for split in ("train", "validate", "test")
        )
        started = time.perf_counter()
        study = search.run_study(train, TRIALS, settings.SEED, "automl", lambda line: None)
        seconds = time.perf_counter() - started
        model = models.fit_calibrated(search.best_params(study), train, validate, settings.SEED)
        theirs, said = ask_flaml(train, pd.concat([validate, test]), TIMES * seconds, Path(folder))
    answers = {
        f"ours, {seconds:.0f} s": scoring.predict_probability(model, test),
        f"FLAML, {TIMES * seconds:.0f} s: {said}": calibrate(
            theirs[len(validate) :], theirs[: len(validate)], validate["churned"]
        ),
    }
    sampled = bootstrap.bootstrap_metrics(
        test["churned"], answers, test["customer_id"], economics, 4000
    )
    ours, peer = sampled.values()
    difference = ours - peer
    bounds, rows = bootstrap.interval(difference), []
    for name, probability in answers.items():
        point = metrics.score_metrics(test["churned"], probability, economics).iloc[0]
        rows.append(
            {"model": name} | {m: f"{point[m]:.4g}" for m in ("roc_auc", "log_loss", "value_usd")}
        )
    gap = {
        m: f"{difference[m].mean():+.4f} [{bounds.loc[m, 'lower']:+.4f}, {bounds.loc[m, 'upper']:+.4f}]"
        for m in ("roc_auc", "log_loss", "value_usd")
    }
    rows.append({"model": "ours less FLAML (paired, 95 %)"} | gap)
    save_table("AutoML", pd.DataFrame(rows), Path(__file__).name)


if __name__ == "__main__":
    main()
