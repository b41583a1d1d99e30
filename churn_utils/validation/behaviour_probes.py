"""What a challenger is asked in its own process (see ``isolation``): rows, ids, odd customers, the time it takes."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd

from churn_utils.data import tables
from churn_utils.errors import FeatureError, ModelError
from churn_utils.features import definitions
from churn_utils.inference import compiled as compiled_form
from churn_utils.inference import scoring
from churn_utils.registry import artifacts, lineage, versions

ROUNDS = 15  # the quickest counts: what the others took longer is not the model's doing
BATCH_ROWS = 1000
# Customers as the contract allows them, but as hardly any is: what is changed, in USD and months.
EXTREMES = {
    "first day": {"tenure": 0, "total_charges": 0.0},
    "twenty years": {"tenure": 240, "monthly_charges": 118.0, "total_charges": 28_320.0},
    "smallest bill": {"monthly_charges": 5.0, "total_charges": 5.0, "tenure": 1},
    "largest bill": {"monthly_charges": 500.0, "total_charges": 36_000.0, "tenure": 72},
    "no option": {"num_optional_services": 0},
    "every option": {"num_optional_services": 6},
}


def ask(version: int, rows: pd.DataFrame, first: int) -> dict:
    """Load a registered version the way batch and API do, and ask it everything that the gate wants to know.

    Args:
        version: to ask.
        rows: model inputs with ``customer_id`` and ``event_date``.
        first: all questions but for the probabilities are about the first so many rows.

    Returns:
        ``probability`` of each row, shape (n,); ``by_id``: largest difference when 50 customers of the newest month are
        looked up in the store by id; ``extremes``: lowest and highest probability under each of ``EXTREMES``;
        ``flips``: share of decisions that turn when the bill is 1 % higher; ``answered``: defects that got a number
        where they should be refused, of how many ``defects``; ``compiled_cpu_ms``: CPU that the compiled scorer of
        the API takes for one customer, or in ``not_compiled`` why there is none; ``batch_cpu_ms``: CPU that the
        batch path takes for 1,000 rows. CPU does not depend on what else the machine does.
    """
    model = artifacts.load_model(
        version
    )  # not the copy that a process keeps: the file is what is judged
    inputs = definitions.select_model_inputs(rows.head(first))
    answered, defects = _offer_defects(model, inputs.head(1))
    return {
        "probability": scoring.predict_probability(model, rows),
        "by_id": _compare_by_id(model, rows.head(first)),
        "extremes": _ask_extremes(model, inputs.sample(min(50, len(inputs)), random_state=0)),
        "flips": _count_flips(model, inputs, versions.read_version(version).threshold),
        "answered": answered,
        "defects": defects,
        "batch_cpu_ms": measure_batch(model, inputs),
        **_measure_compiled(model, inputs),
    }


def refit(version: int, rows: pd.DataFrame) -> np.ndarray:
    """Train a version again from its record alone and return its probability of each row, shape (n,)."""
    return scoring.predict_probability(lineage.refit(version), rows)


def _compare_by_id(model, rows: pd.DataFrame) -> float:
    newest = rows[rows["event_date"] == rows["event_date"].max()]
    month, known = (
        newest["event_date"].iloc[0],
        newest["features_as_of"].max(),
    )  # the month before, if it came late
    newest = newest[newest["features_as_of"] == known].head(50)
    stored = tables.read("customer_features", snapshot_date=known, as_of=month).set_index(
        "customer_id"
    )
    found = definitions.add_on_demand(stored.loc[newest["customer_id"]])
    gaps = scoring.predict_probability(model, found) - scoring.predict_probability(model, newest)
    return float(np.abs(gaps).max())


def _ask_extremes(model, inputs: pd.DataFrame) -> dict[str, list[float]]:
    ranges = {}
    for name, changes in EXTREMES.items():
        found = scoring.predict_probability(
            model, definitions.add_on_demand(inputs.assign(**changes))
        )
        ranges[name] = [float(found.min()), float(found.max())]
    return ranges


def _count_flips(model, inputs: pd.DataFrame, threshold: float) -> float:
    dearer = inputs.assign(
        monthly_charges=1.01 * inputs["monthly_charges"],
        total_charges=1.01 * inputs["total_charges"],
    )
    before, after = (
        scoring.predict_probability(model, definitions.add_on_demand(rows)) >= threshold
        for rows in (inputs, dearer)
    )
    return float(np.mean(before != after))


def _offer_defects(model, row: pd.DataFrame) -> tuple[list[str], int]:
    """Offer rows that no customer can have, on the path that customers take and to the model itself.

    The path must refuse each by name. The model must not answer for a category that it has never seen, as if it were
    one of those it knows; for a number that is missing or infinite it may, if the answer is a probability.
    """
    defects = {f"{name} missing": {name: None} for name in definitions.MODEL_INPUTS}
    defects |= {f"unknown {name}": {name: "?"} for name in definitions.CATEGORICAL}
    defects |= {f"{name} infinite": {name: np.inf} for name in definitions.NUMERICAL}
    answered = []
    for defect, change in defects.items():
        changed = row.assign(**change)
        try:
            scoring.predict_probability(model, changed)
        except FeatureError:
            pass
        except Exception as error:  # noqa: BLE001 - a crash is no refusal: nobody learns which field was wrong
            answered.append(f"{defect} ({type(error).__name__})")
        else:
            answered.append(defect)
        answered += (
            [f"{defect}, by the model itself"] if _invents_answer(model, changed, defect) else []
        )
    return answered, len(defects)


def _invents_answer(model, row: pd.DataFrame, defect: str) -> bool:
    try:
        found = float(model.predict_proba(row)[0, 1])
    except Exception:  # noqa: BLE001 - here whatever it raises is a refusal
        return False
    return defect.startswith("unknown") or not 0 <= found <= 1  # also when it is not a number


def measure_batch(model, inputs: pd.DataFrame) -> float:
    """Return the CPU time in ms that the batch path takes to score 1,000 rows (rows are repeated to make so many)."""
    positions = np.arange(BATCH_ROWS) % len(inputs)
    rows = inputs.iloc[positions]
    return _measure_cpu(lambda: scoring.predict_probability(model, rows))


def _measure_compiled(model, inputs: pd.DataFrame) -> dict:
    """CPU time in ms of the API's compiled scorer for one customer, or why the model cannot be compiled."""
    try:
        compiled = compiled_form.compile_model(model)
    except ModelError as error:
        return {"compiled_cpu_ms": None, "not_compiled": str(error)}
    customers = compiled_form.rows_as_tuples(inputs.head(50))

    def score_all() -> None:
        for customer in customers:
            compiled(customer)

    return {"compiled_cpu_ms": _measure_cpu(score_all) / len(customers), "not_compiled": ""}


def _measure_cpu(function) -> float:
    """Return the CPU time in ms of all threads of this process for one call: the quickest of ``ROUNDS``."""
    taken = []
    for _ in range(ROUNDS):
        started = time.process_time()
        function()
        taken.append(1000 * (time.process_time() - started))
    return min(taken)
