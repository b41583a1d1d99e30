"""Compiled forms of registered models: one customer in microseconds, with the same probabilities.

A registered model is an encoder, an estimator and a sigmoid calibration. A pipeline run on one row
spends 5 to 10 ms on frames and checks. Here the same parameters are laid out as tables and plain
functions (``compiled_families``). ONNX was measured against them (benchmarks/fast_path.py): its
32-bit floats move rows that lie on a tree's threshold to the other side, so it fails the 1e-6 that
``compare_forms`` demands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from churn_utils.data import column_rules, columns
from churn_utils.data.columns import WHOLE, Column
from churn_utils.errors import ModelError
from churn_utils.features import definitions, model_inputs
from churn_utils.inference import scoring
from churn_utils.inference.compiled_families import COMPILERS, Scorer
from churn_utils.registry import artifacts
from churn_utils.registry.versions import ModelVersion

LARGEST_DIFFERENCE = 1e-6
RANDOM_ROWS = 500
HIGHEST_DRAWN = {"tenure": 90}  # of random rows, where the contract allows more
LARGEST_EXPONENT = 700  # of math.exp; beyond it the probability is 0 in 64 bits


def compile_model(model) -> Scorer:
    """Compile a registered model.

    Args:
        model: as ``training.models.fit_calibrated`` returns it.

    Returns:
        Function of one customer's model inputs, in contract order, to the churn probability. Inputs
        that the model does not have, because they were defined later, are ignored.

    Raises:
        ModelError: a kind of model that has no compiled form.
    """
    try:
        calibrated = model.calibrated_classifiers_[0]
        pipeline = calibrated.estimator.estimator
        sigmoid = calibrated.calibrators[0]
        slope = float(sigmoid.a_)
        offset = float(sigmoid.b_)
        encoder, estimator = pipeline[0], pipeline[-1]
        compile_estimator = COMPILERS[type(estimator).__name__]
        score = compile_estimator(encoder, estimator)
    except (AttributeError, KeyError, IndexError, TypeError) as error:
        raise ModelError(
            f"{type(model).__name__} has no compiled form ({error!r}); there is one for a "
            f"calibrated pipeline that ends in {', '.join(COMPILERS)}."
        ) from error

    def probability(values: Sequence) -> float:
        """Return the probability of one customer: the calibrated sigmoid of its score."""
        exponent = slope * score(values) + offset
        if exponent >= LARGEST_EXPONENT:
            return 0.0
        return 1.0 / (1.0 + math.exp(exponent))

    return probability


def compare_forms(model, compiled: Scorer, example: pd.DataFrame, seed: int = 0) -> float:
    """Compare a compiled form with its model on the example and on random rows.

    Returns:
        The largest difference in probability.

    Raises:
        ModelError: they differ by more than 1e-6 somewhere.
    """
    names = model_inputs.inputs_of(model)
    inputs = model_inputs.select_model_inputs(example, names)
    random_rows = draw_random_rows(RANDOM_ROWS, seed)
    rows = pd.concat([inputs, random_rows[names]], ignore_index=True)
    own = scoring.predict_probability(model, rows)
    fast = [compiled(values) for values in rows_as_tuples(rows)]
    difference = float(np.abs(own - fast).max())
    if not difference <= LARGEST_DIFFERENCE:  # also when it is not a number
        raise ModelError(
            f"the compiled form differs by up to {difference:.2g} from the model on {len(rows)} "
            f"rows; {LARGEST_DIFFERENCE:g} is allowed. It must not answer."
        )
    return difference


def load_compiled(version: ModelVersion) -> Scorer:
    """Load, compile and compare a version of the registry.

    Raises:
        ModelError: there is no compiled form, or it differs from the model.
    """
    model = scoring.load_model(version)
    compiled = compile_model(model)
    compare_forms(model, compiled, artifacts.read_example(version.version), seed=version.version)
    return compiled


def rows_as_tuples(inputs: pd.DataFrame) -> list[tuple]:
    """Return rows of model inputs as plain Python values in contract order, None without one."""
    absent = [None] * len(inputs)
    columns = []
    for name in definitions.MODEL_INPUTS:
        values = inputs[name].tolist() if name in inputs else absent
        columns.append(values)
    return list(zip(*columns, strict=True))


def draw_random_rows(count: int, seed: int) -> pd.DataFrame:
    """Draw customers from the whole range that the contract allows, and compute their inputs.

    Returns:
        ``count`` rows, columns ``definitions.MODEL_INPUTS``, on-demand features included.
    """
    generator = np.random.default_rng(seed)
    drawn = {
        name: _draw_column(columns.BY_NAME[name], generator, count)
        for name in columns.CUSTOMER_COLUMNS
        if name != columns.CUSTOMER_ID
    }
    customers = pd.DataFrame(drawn).assign(**dict.fromkeys(definitions.KEY))
    total_to_expected = generator.uniform(*column_rules.TOTAL_TO_EXPECTED, count)
    expected = customers["tenure"] * customers["monthly_charges"]
    customers["total_charges"] = (expected * total_to_expected).round(2)
    features = definitions.build_features(customers)
    return model_inputs.select_model_inputs(definitions.add_on_demand(features))


def _draw_column(column: Column, generator: np.random.Generator, count: int) -> np.ndarray:
    """Draw values of a column, evenly over its categories or its range."""
    if column.categories:
        return generator.choice(column.categories, count)
    if column.minimum is None or column.maximum is None:
        raise ModelError(f"the contract gives no range for {column.name}; random rows need one.")
    highest = HIGHEST_DRAWN.get(column.name, column.maximum)
    if column.type is WHOLE:
        return generator.integers(int(column.minimum), int(highest), count, endpoint=True)
    return generator.uniform(column.minimum, highest, count).round(2)
