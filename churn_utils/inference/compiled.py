"""Compiled forms of registered models: one customer in microseconds, with the probabilities of the model itself.

A registered model is an encoder, an estimator and a sigmoid calibration. A pipeline run on one row spends 5 to 10 ms
on frames and checks. Here the same parameters are laid out as tables and plain functions: an additive model becomes
one lookup or polynomial per input, a forest its trees as lists, a boosted one LightGBM's own booster behind the codes.
ONNX was measured against them (benchmarks/fast_path.py): its 32-bit floats move rows that lie on a tree's threshold
to the other side, so it fails the 1e-6 that ``compare_forms`` demands.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy.interpolate import BSpline, PPoly

from churn_utils.data import columns
from churn_utils.errors import ModelError
from churn_utils.features import definitions
from churn_utils.inference import scoring
from churn_utils.registry import artifacts
from churn_utils.registry.versions import ModelVersion

LARGEST_DIFFERENCE = 1e-6
RANDOM_ROWS = 500
Scorer = Callable[[Sequence], float]


def compile_model(model) -> Scorer:
    """Compile a registered model.

    Args:
        model: as ``training.fit_calibrated`` returns it.

    Returns:
        Function of one customer's model inputs, in contract order, to the churn probability.

    Raises:
        ModelError: a kind of model that has no compiled form.
    """
    try:
        calibrated = model.calibrated_classifiers_[0]
        pipeline, sigmoid = calibrated.estimator.estimator, calibrated.calibrators[0]
        encoder, estimator = pipeline[0], pipeline[-1]
        slope, offset = float(sigmoid.a_), float(sigmoid.b_)
        compile_part = _COMPILERS[type(estimator).__name__]
        score = compile_part(encoder, estimator)
    except (AttributeError, KeyError, IndexError, TypeError) as error:
        raise ModelError(
            f"{type(model).__name__} has no compiled form ({error!r}); there is one for a calibrated pipeline that "
            f"ends in {', '.join(_COMPILERS)}."
        ) from error

    def probability(values: Sequence) -> float:
        exponent = slope * score(values) + offset
        return 1.0 / (1.0 + math.exp(exponent)) if exponent < 700 else 0.0

    return probability


def compare_forms(model, compiled: Scorer, example: pd.DataFrame, seed: int = 0) -> float:
    """Hold a compiled form against its model on the example and on random rows; return the largest difference.

    Raises:
        ModelError: they differ by more than 1e-6 somewhere.
    """
    rows = pd.concat(
        [definitions.select_model_inputs(example), draw_random_rows(RANDOM_ROWS, seed)],
        ignore_index=True,
    )
    own = scoring.predict_probability(model, rows)
    fast = np.array([compiled(values) for values in rows_as_tuples(rows)])
    difference = float(np.abs(own - fast).max())
    if not difference <= LARGEST_DIFFERENCE:  # also when it is not a number
        raise ModelError(
            f"the compiled form differs by up to {difference:.2g} from the model on {len(rows)} rows; "
            f"{LARGEST_DIFFERENCE:g} is allowed. It must not answer."
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
    """Rows of model inputs as plain Python values in contract order."""
    return list(zip(*(inputs[name].tolist() for name in definitions.MODEL_INPUTS), strict=True))


def draw_random_rows(count: int, seed: int) -> pd.DataFrame:
    """Draw rows of model inputs from the whole range that the contract allows, on-demand features included."""
    generator = np.random.default_rng(seed)
    rows = pd.DataFrame(
        {name: generator.choice(known, count) for name, known in definitions.CATEGORICAL.items()}
    )
    bills = columns.BY_NAME["monthly_charges"]
    months = generator.integers(columns.BY_NAME["tenure"].minimum, 90, count)
    monthly = generator.uniform(bills.minimum, bills.maximum, count).round(2)
    rows = rows.assign(
        senior_citizen=generator.integers(0, 2, count),
        tenure=months,
        monthly_charges=monthly,
        total_charges=(
            months * monthly * generator.uniform(*columns.TOTAL_TO_EXPECTED, count)
        ).round(2),
        num_optional_services=generator.integers(0, 7, count),
    )
    return definitions.select_model_inputs(definitions.add_on_demand(rows))


def _encode(encoder) -> tuple[list[str], list[dict | None]]:
    """Names of the encoder's outputs, and for each the codes of its categories (None where a number passes)."""
    fitted = encoder.named_transformers_["categories"]
    codes = dict(zip(encoder.transformers_[0][2], fitted.categories_, strict=True))
    names = list(encoder.get_feature_names_out())
    return names, [
        {v: float(i) for i, v in enumerate(codes[n])} if n in codes else None for n in names
    ]


def _build_encoder(encoder) -> Callable[[Sequence], list[float]]:
    """Build the function from model inputs in contract order to the estimator's numbers in its order."""
    names, codes = _encode(encoder)
    order = list(definitions.MODEL_INPUTS)
    plan = [(order.index(name), table) for name, table in zip(names, codes, strict=True)]

    def encode(values: Sequence) -> list[float]:
        return [values[at] if table is None else table[values[at]] for at, table in plan]

    return encode


def _compile_booster(encoder, estimator) -> Scorer:
    encode, booster = _build_encoder(encoder), estimator.booster_
    log_odds = hasattr(estimator, "decision_function")  # what the calibration was learned on

    def score(values: Sequence) -> float:
        return float(
            booster.predict(np.array([encode(values)]), raw_score=log_odds, num_threads=1)[0]
        )

    return score


def _compile_forest(encoder, estimator) -> Scorer:
    encode, forest = _build_encoder(encoder), estimator
    churned = list(forest.classes_).index(True)
    trees = []
    for tree in (fitted.tree_ for fitted in forest.estimators_):
        share = tree.value[:, 0, churned] / tree.value[:, 0, :].sum(axis=1)
        trees.append(
            (
                tree.feature.tolist(),
                tree.threshold.tolist(),
                tree.children_left.tolist(),
                tree.children_right.tolist(),
                share.tolist(),
            )
        )

    def score(values: Sequence) -> float:
        row = np.array(
            encode(values), dtype=np.float32
        ).tolist()  # as scikit-learn does before it compares
        total = 0.0
        for feature, threshold, left, right, share in trees:
            node = 0
            while (split := feature[node]) >= 0:
                node = left[node] if row[split] <= threshold[node] else right[node]
            total += share[node]
        return total / len(trees)

    return score


def _compile_additive(encoder, estimator) -> Scorer:
    """One term per input: a table for a category, a line or a piecewise polynomial for a number."""
    columns, linear = estimator[0], estimator[-1]
    weights = linear.coef_[0]
    parts = {
        name: (
            columns.named_transformers_[name],
            columns.transformers_[i][2],
            columns.output_indices_[name],
        )
        for i, name in enumerate(("one_hot", "splines", "linear"))
    }
    terms: dict[str, Scorer] = {}
    codes = dict(zip(*_encode(encoder), strict=True))
    terms |= _category_terms(*parts["one_hot"], weights, codes)
    terms |= _spline_terms(*parts["splines"], weights)
    scaler, names, at = parts["linear"]
    for name, mean, scale, weight in zip(
        names, scaler.mean_, scaler.scale_, weights[at], strict=True
    ):
        terms[name] = _line(float(mean), float(scale), float(weight))
    intercept, ordered = (
        float(linear.intercept_[0]),
        [terms[name] for name in definitions.MODEL_INPUTS],
    )

    def score(values: Sequence) -> float:
        return intercept + sum([term(value) for term, value in zip(ordered, values, strict=True)])

    return score


def _category_terms(
    one_hot, names: Sequence[str], at: slice, weights: np.ndarray, codes: dict
) -> dict[str, Scorer]:
    """Weight of every category of every column; a dropped one weighs nothing."""
    table = one_hot.transform(pd.DataFrame({name: [0.0] for name in names}))
    terms, start = {}, at.start
    dropped = [None] * len(names) if one_hot.drop_idx_ is None else one_hot.drop_idx_
    for name, known, drop in zip(names, one_hot.categories_, dropped, strict=True):
        kept = [code for i, code in enumerate(known) if drop is None or i != drop]
        by_code = dict(zip(kept, weights[start : start + len(kept)].tolist(), strict=True))
        terms[name] = {
            text: by_code.get(code, 0.0) for text, code in codes[name].items()
        }.__getitem__
        start += len(kept)
    assert start == at.stop and table.shape[1] == at.stop - at.start
    return terms


def _spline_terms(part, names: Sequence[str], at: slice, weights: np.ndarray) -> dict[str, Scorer]:
    """Sum the weighted basis of each column into one piecewise polynomial of the scaled value."""
    scaler, splines = part[0], part[-1]
    if splines.extrapolation != "constant" or not splines.include_bias:
        raise TypeError(
            f"splines with extrapolation {splines.extrapolation!r}, bias {splines.include_bias}"
        )
    terms, start = {}, at.start
    for name, basis, mean, scale in zip(
        names, splines.bsplines_, scaler.mean_, scaler.scale_, strict=True
    ):
        count = len(basis.t) - basis.k - 1
        curve = PPoly.from_spline(BSpline(basis.t, weights[start : start + count], basis.k))
        inner = slice(basis.k, len(basis.t) - basis.k)  # knots beyond the data only carry the basis
        terms[name] = _curve(
            curve.x[inner].tolist(), curve.c[:, inner].T.tolist(), float(mean), float(scale)
        )
        start += count
    return terms


def _line(mean: float, scale: float, weight: float) -> Scorer:
    return lambda value: (value - mean) / scale * weight


def _curve(
    knots: list[float], coefficients: list[list[float]], mean: float, scale: float
) -> Scorer:
    first, last, pieces = knots[0], knots[-1], len(knots) - 1

    def evaluate(value: float) -> float:
        x = min(
            max((value - mean) / scale, first), last
        )  # constant beyond the data that it was fitted on
        piece = min(bisect_right(knots, x), pieces) - 1
        x, total = x - knots[piece], 0.0
        for coefficient in coefficients[piece]:
            total = total * x + coefficient
        return total

    return evaluate


_COMPILERS = {
    "Pipeline": _compile_additive,
    "LGBMClassifier": _compile_booster,
    "RandomForestClassifier": _compile_forest,
}
