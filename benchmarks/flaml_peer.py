"""Let FLAML search on the rows of a file for some seconds and write its probabilities; runs in FLAML's environment."""

from __future__ import annotations

import sys

import pandas as pd


def main(train: str, unseen: str, answers: str, seconds: float, seed: int) -> None:
    """Fit on ``train`` (column ``churned`` is the label), answer the rows of ``unseen``, two jobs, log loss."""
    from flaml import AutoML

    rows = pd.read_csv(train)
    categories = list(rows.select_dtypes("object"))
    rows = rows.astype(dict.fromkeys(categories, "category"))
    asked = pd.read_csv(unseen).astype({name: rows[name].dtype for name in categories})
    automl = AutoML()
    automl.fit(
        rows.drop(columns="churned"),
        rows["churned"],
        task="classification",
        metric="log_loss",
        time_budget=seconds,
        eval_method="cv",
        n_splits=5,
        n_jobs=2,
        seed=seed,
        verbose=0,
    )
    print(automl.best_estimator)
    pd.DataFrame({"probability": automl.predict_proba(asked)[:, 1]}).to_csv(answers, index=False)


if __name__ == "__main__":
    main(*sys.argv[1:4], float(sys.argv[4]), int(sys.argv[5]))
