"""Probes of a challenger's behaviour, which run in a process of their own (see ``isolation``)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from churn_utils.errors import FeatureError, ModelError
from churn_utils.features import definitions, model_inputs, offline
from churn_utils.inference import compiled as compiled_form
from churn_utils.inference import scoring
from churn_utils.registry import artifacts, lineage, versions

ROUNDS = 15  # the quickest counts: what the others took longer is not the model's doing
BATCH_ROWS = 1000
PROBED_ROWS = 50  # for probes that need only some customers
HIGHER_BILL = 1.01
# Customers that the contract allows but that are rare: what is changed, in USD and months.
EXTREMES: dict[str, dict[str, float]] = {
    "first day": {"tenure": 0, "total_charges": 0.0},
    "twenty years": {"tenure": 240, "monthly_charges": 118.0, "total_charges": 28_320.0},
    "smallest bill": {"monthly_charges": 5.0, "total_charges": 5.0, "tenure": 1},
    "largest bill": {"monthly_charges": 500.0, "total_charges": 36_000.0, "tenure": 72},
    "no option": {"num_optional_services": 0},
    "every option": {"num_optional_services": 6},
}


@dataclass(frozen=True)
class ProbeResults:
    """What the probes of one version found."""

    probability: np.ndarray  # predicted churn probability of each row, shape (n,)
    largest_gap_by_id: float  # in probability, when customers are read from the store by id
    extremes: dict[str, tuple[float, float]]  # lowest and highest probability under ``EXTREMES``
    flipped_share: float  # of decisions that change when the bill is 1 % higher
    not_refused: list[str]  # defects that were not refused as they should be
    defects: int  # that were tried
    batch_cpu_ms: float  # CPU time of the batch path for 1,000 rows
    compiled_cpu_ms: float | None  # of the API's scorer for one customer; None if not compiled
    compile_error: str  # why the model cannot be compiled; empty if it can


def run_behaviour_probes(version: int, rows: pd.DataFrame, test_rows: int) -> ProbeResults:
    """Load a registered version as batch and API do, and run every probe of the gate.

    Args:
        version: number of the version in the registry.
        rows: model inputs with ``customer_id`` and ``event_date``; all of them are scored.
        test_rows: the other probes use the first so many rows.
    """
    # The file is what is judged: not the copy that ``scoring`` keeps for a process.
    model = artifacts.load_model(version)
    probed = rows.head(test_rows)
    names = model_inputs.inputs_of(model)
    inputs = model_inputs.select_model_inputs(probed, names)
    some = inputs.sample(min(PROBED_ROWS, len(inputs)), random_state=0)
    threshold = versions.read_version(version).threshold
    defects = list_defects(names)
    compiled_cpu_ms, compile_error = measure_compiled(model, inputs)
    return ProbeResults(
        probability=scoring.predict_probability(model, rows),
        largest_gap_by_id=compare_by_id(model, probed),
        extremes=score_extremes(model, some),
        flipped_share=measure_flips(model, inputs, threshold),
        not_refused=find_unrefused(model, inputs.head(1), defects),
        defects=len(defects),
        batch_cpu_ms=measure_batch(model, inputs),
        compiled_cpu_ms=compiled_cpu_ms,
        compile_error=compile_error,
    )


def refit(version: int, rows: pd.DataFrame) -> np.ndarray:
    """Train a version again from its record; return its probability of each row, shape (n,)."""
    return scoring.predict_probability(lineage.refit(version), rows)


def compare_by_id(model, rows: pd.DataFrame) -> float:
    """Return the largest difference in probability between rows and features read by customer id.

    Only 50 customers of the newest month are compared. Where that month's features came late, its
    rows hold those of the month before, and so the month before is read.
    """
    month = rows["event_date"].max()
    newest = rows[rows["event_date"] == month]
    snapshot = newest["features_as_of"].max()
    newest = newest[newest["features_as_of"] == snapshot].head(PROBED_ROWS)
    stored = offline.read_features(snapshot_date=snapshot, as_of=month)
    by_id = stored.set_index("customer_id").loc[newest["customer_id"]]
    own = scoring.predict_probability(model, newest)
    read = scoring.predict_probability(model, definitions.add_on_demand(by_id))
    return float(np.abs(read - own).max())


def score_extremes(model, inputs: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Return the lowest and highest probability when rows are changed as ``EXTREMES`` says."""
    ranges = {}
    for name, changes in EXTREMES.items():
        changed = definitions.add_on_demand(inputs.assign(**changes))
        probability = scoring.predict_probability(model, changed)
        ranges[name] = (float(probability.min()), float(probability.max()))
    return ranges


def measure_flips(
    model,
    inputs: pd.DataFrame,
    threshold: float,
) -> float:
    """Return the share of decisions that change when the bill is 1 % higher."""
    dearer = inputs.assign(
        monthly_charges=HIGHER_BILL * inputs["monthly_charges"],
        total_charges=HIGHER_BILL * inputs["total_charges"],
    )
    decisions = []
    for rows in (inputs, dearer):
        probability = scoring.predict_probability(model, definitions.add_on_demand(rows))
        decisions.append(probability >= threshold)
    before, after = decisions
    return float(np.mean(before != after))


def list_defects(
    inputs: Iterable[str] = definitions.MODEL_INPUTS,
) -> dict[str, dict[str, object]]:
    """Return changes that make a row impossible: ``name of the defect: {column: value}``."""
    names = list(inputs)
    defects: dict[str, dict[str, object]] = {}
    for name in names:
        defects[f"{name} missing"] = {name: None}
    for name in model_inputs.select_categorical(names):
        defects[f"unknown {name}"] = {name: "?"}
    for name in model_inputs.select_numerical(names):
        defects[f"{name} infinite"] = {name: np.inf}
    return defects


def find_unrefused(
    model,
    row: pd.DataFrame,
    defects: dict[str, dict[str, object]],
) -> list[str]:
    """Score impossible rows on the path of batch and by the model itself; name what is not refused.

    The path must refuse each by name. The model must not score a category that it has never seen as
    if it were a known one; a missing or infinite number it may score, if the result is a
    probability. ``row`` is one row of model inputs, ``defects`` is as of ``list_defects``.
    """
    not_refused = []
    for defect, change in defects.items():
        changed = row.assign(**change)
        try:
            scoring.predict_probability(model, changed)
            not_refused.append(defect)
        except FeatureError:
            pass
        except Exception as error:  # noqa: BLE001 - a crash does not say which field was wrong
            not_refused.append(f"{defect} ({type(error).__name__})")
        if _invents_probability(model, changed, is_unknown=defect.startswith("unknown")):
            not_refused.append(f"{defect}, by the model itself")
    return not_refused


def _invents_probability(
    model,
    row: pd.DataFrame,
    is_unknown: bool,
) -> bool:
    """Tell whether the model itself scores an unknown category, or returns no probability."""
    try:
        probabilities = model.predict_proba(row)
        predicted = float(probabilities[0, 1])
    except Exception:  # noqa: BLE001 - here any error is a refusal
        return False
    is_probability = 0 <= predicted <= 1  # False as well if it is not a number
    return is_unknown or not is_probability


def measure_batch(model, inputs: pd.DataFrame) -> float:
    """Return the CPU time in ms of the batch path for 1,000 rows, repeating rows if need be."""
    positions = np.arange(BATCH_ROWS) % len(inputs)
    rows = inputs.iloc[positions]
    return _measure_cpu(lambda: scoring.predict_probability(model, rows))


def measure_compiled(model, inputs: pd.DataFrame) -> tuple[float | None, str]:
    """Return the CPU time in ms of the API's compiled scorer for one customer, and an empty text.

    Where the model cannot be compiled it is None and the reason.
    """
    try:
        compiled = compiled_form.compile_model(model)
    except ModelError as error:
        return None, str(error)
    customers = compiled_form.rows_as_tuples(inputs.head(PROBED_ROWS))

    def score_all() -> None:
        for customer in customers:
            compiled(customer)

    return _measure_cpu(score_all) / len(customers), ""


def _measure_cpu(function: Callable[[], object]) -> float:
    """Return the CPU time in ms of all threads of this process for one call: the best round."""
    times = []
    for _ in range(ROUNDS):
        started = time.process_time()
        function()
        times.append(1000 * (time.process_time() - started))
    return min(times)
