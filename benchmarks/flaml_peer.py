"""Let FLAML search on the rows of a file for some seconds and write its probabilities.

Runs in FLAML's own environment; prints the name of the best model family.
"""

from __future__ import annotations

import sys

import pandas as pd


def main(train: str, unseen: str, predictions: str, seconds: float, seed: int) -> None:
    """Fit on one file and predict another, in two jobs, by log loss.

    Args:
        train: CSV of model inputs and the label ``churned``.
        unseen: CSV of model inputs to predict.
        predictions: CSV to write, column ``probability`` in the order of ``unseen``.
        seconds: time for the search.
        seed: of the search.
    """
    from flaml import AutoML

    rows = pd.read_csv(train)
    categories = list(rows.select_dtypes("object"))
    rows = rows.astype(dict.fromkeys(categories, "category"))
    dtypes = {name: rows[name].dtype for name in categories}
    inputs = pd.read_csv(unseen).astype(dtypes)
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
    probability = automl.predict_proba(inputs)[:, 1]
    pd.DataFrame({"probability": probability}).to_csv(predictions, index=False)


if __name__ == "__main__":
    main(*sys.argv[1:4], float(sys.argv[4]), int(sys.argv[5]))
