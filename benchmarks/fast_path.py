"""One customer through the pipeline, its compiled form and ONNX: microseconds and differences.

ONNX comes from the peers' environment (make .venv-peers/installed), in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from results import save_table

from churn_utils import settings
from churn_utils.data import contract, delivered_files, source
from churn_utils.features import definitions, labelling, model_inputs
from churn_utils.inference import compiled as compiled_form
from churn_utils.inference import scoring
from churn_utils.training import models

HERE = Path(__file__).parent
PEERS = settings.PROJECT / ".venv-peers" / "bin" / "python"


def read_training_set() -> pd.DataFrame:
    """Features and labels of IBM's month, without any home."""
    customers = contract.check_rows(delivered_files.read_delivery(source.obtain_extract()))[0]
    stamped = customers.assign(
        snapshot_date=settings.month_start(0), written_at=settings.month_start(0)
    )
    rows = definitions.add_on_demand(definitions.build_features(stamped))
    return rows.assign(
        churned=customers["churn"] == "Yes", split=labelling.split_of(customers["customer_id"])
    )


def time_call(call, repetitions: int) -> float:
    """Median over five blocks of the microseconds that a call takes."""
    blocks = []
    for _ in range(5):
        started = time.process_time()
        for _ in range(repetitions):
            call()
        blocks.append((time.process_time() - started) / repetitions * 1e6)
    return float(np.median(blocks))


def measure_family(family: str, rows: pd.DataFrame, folder: Path) -> dict:
    """Fit a family, compile it, and hold every form against the pipeline."""
    train = rows[rows["split"] == "train"].reset_index(drop=True)
    validate = rows[rows["split"] == "validate"].reset_index(drop=True)
    params = {"family": family, **models.DEFAULTS[family]}
    model = models.fit_calibrated(params, train, validate, settings.SEED)
    inputs = model_inputs.select_model_inputs(rows)
    compiled = compiled_form.compile_model(model)
    values = compiled_form.rows_as_tuples(inputs)
    own = scoring.predict_probability(model, inputs)
    fast = np.array([compiled(row) for row in values])
    joblib.dump((model, inputs, own), folder / "model.joblib")
    found = subprocess.run(
        [PEERS, HERE / "peers" / "onnx_form.py", folder / "model.joblib"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    onnx = json.loads(found.splitlines()[-1])
    return {
        "model": family,
        "pipeline, µs": round(
            time_call(lambda: scoring.predict_probability(model, inputs.head(1)), 50)
        ),
        "compiled, µs": round(time_call(lambda: compiled(values[0]), 2000), 1),
        "compiled, largest difference": f"{np.abs(fast - own).max():.1g}",
        "ONNX, µs": onnx["microseconds"],
        "ONNX, largest difference": onnx["difference"],
    }


def main() -> None:
    """Measure every family and save the table."""
    rows = read_training_set()
    with tempfile.TemporaryDirectory() as folder:
        table = [measure_family(family, rows, Path(folder)) for family in models.DEFAULTS]
    save_table("One customer through the model", pd.DataFrame(table), Path(__file__).name)


if __name__ == "__main__":
    main()
