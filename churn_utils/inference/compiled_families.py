"""The compiled form of each model family: its parameters as tables and plain functions.

An additive model becomes one lookup or polynomial per input, a forest its trees as lists, a boosted
model LightGBM's own booster behind the codes of the categories.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

import numpy as np
from scipy.interpolate import BSpline, PPoly

from churn_utils.errors import ModelError
from churn_utils.features import definitions

Scorer = Callable[[Sequence], float]  # of one customer's model inputs, in contract order
Term = Callable[..., float]  # of one input: a number, or the text of a category
Codes = dict[str, float]  # of a column's categories


def compile_booster(encoder, estimator) -> Scorer:
    """Compile a LightGBM classifier: codes of the categories, then the booster itself."""
    encode = build_encoder(encoder)
    booster = estimator.booster_
    log_odds = hasattr(estimator, "decision_function")  # what the calibration was learned on

    def score(values: Sequence) -> float:
        """Return the booster's log-odds or probability of one customer."""
        row = np.array([encode(values)])
        scores = booster.predict(row, raw_score=log_odds, num_threads=1)
        return float(scores[0])

    return score


def compile_forest(encoder, estimator) -> Scorer:
    """Compile a random forest: every tree as lists, the mean of the leaves' shares of churners."""
    encode = build_encoder(encoder)
    churned = list(estimator.classes_).index(True)
    trees = [_lay_out_tree(fitted.tree_, churned) for fitted in estimator.estimators_]

    def score(values: Sequence) -> float:
        """Return the mean share of churners in the leaves that one customer reaches."""
        # scikit-learn compares in 32 bits, so the values are rounded in the same way
        row = np.array(encode(values), dtype=np.float32).tolist()
        total = 0.0
        for feature, threshold, left, right, share in trees:
            node = 0
            while (split := feature[node]) >= 0:
                node = left[node] if row[split] <= threshold[node] else right[node]
            total += share[node]
        return total / len(trees)

    return score


def _lay_out_tree(tree, churned: int) -> tuple[list, list, list, list, list]:
    """Return feature (negative in a leaf), threshold, left, right and share of churners by node."""
    counts = tree.value[:, 0, :]
    share = counts[:, churned] / counts.sum(axis=1)
    return (
        tree.feature.tolist(),
        tree.threshold.tolist(),
        tree.children_left.tolist(),
        tree.children_right.tolist(),
        share.tolist(),
    )


def compile_additive(encoder, estimator) -> Scorer:
    """Compile a logistic regression: its log-odds are a sum with one term per input.

    A category's term is a table, a number's term a line or a piecewise polynomial.
    """
    columns, linear = estimator[0], estimator[-1]
    weights = linear.coef_[0]
    terms: dict[str, Term] = {}
    for name, transformer, inputs in columns.transformers_:
        own_weights = weights[columns.output_indices_[name]]
        if name == "one_hot":
            terms |= category_terms(transformer, inputs, own_weights, read_codes(encoder))
        elif name == "splines":
            terms |= spline_terms(transformer, inputs, own_weights)
        elif name == "linear":
            terms |= line_terms(transformer, inputs, own_weights)
    intercept = float(linear.intercept_[0])
    # an input that the model does not have, because it was defined later, adds nothing
    ordered = [terms.get(name, ignore_value) for name in definitions.MODEL_INPUTS]

    def score(values: Sequence) -> float:
        """Return the log-odds of one customer; the comprehension is the hot path of the API."""
        return intercept + sum([term(value) for term, value in zip(ordered, values, strict=True)])

    return score


def ignore_value(value: object) -> float:
    """Return 0: the term of an input that a model does not have."""
    return 0.0


def category_terms(
    one_hot, names: Sequence[str], weights: np.ndarray, codes: dict[str, Codes]
) -> dict[str, Term]:
    """Return for each column the weight of each of its categories; a dropped one weighs nothing.

    Args:
        one_hot: fitted encoder of the columns' codes.
        names: of the columns.
        weights: of the encoder's outputs: one for each category that is not dropped, in order.
        codes: of each column's categories.

    Returns:
        Column to the term of its categories.

    Raises:
        ModelError: there are more or fewer weights than categories.
    """
    dropped = [None] * len(names) if one_hot.drop_idx_ is None else one_hot.drop_idx_
    terms: dict[str, Term] = {}
    start = 0
    for name, known, drop in zip(names, one_hot.categories_, dropped, strict=True):
        kept = [code for position, code in enumerate(known) if position != drop]
        own_weights = weights[start : start + len(kept)].tolist()
        weight_of_code = dict(zip(kept, own_weights, strict=False))
        table = {text: weight_of_code.get(code, 0.0) for text, code in codes[name].items()}
        terms[name] = table.__getitem__
        start += len(kept)
    if start != len(weights):
        raise ModelError(
            f"the one-hot columns {', '.join(names)} have {start} categories and {len(weights)} "
            "weights; this model has no compiled form."
        )
    return terms


def spline_terms(transformer, names: Sequence[str], weights: np.ndarray) -> dict[str, Term]:
    """Turn the weighted B-spline basis of each column into one piecewise polynomial.

    The term of a scaled value x is s(x) = sum over j of w_j B_j(x), where B_j is the j-th basis
    function of degree k on the knots t. Between two knots, s is a polynomial of degree k in
    x - t_i: s(x) = sum over m of c_mi (x - t_i)^(k - m), with the c that ``PPoly.from_spline``
    computes (de Boor: A Practical Guide to Splines). Beyond the data s is constant.

    Args:
        transformer: pipeline of a scaler and a ``SplineTransformer``.
        names: of the columns.
        weights: of the basis functions, column by column.

    Returns:
        Column to its term.

    Raises:
        ModelError: splines that are continued otherwise, or whose basis lacks a function.
    """
    scaler, splines = transformer[0], transformer[-1]
    if splines.extrapolation != "constant" or not splines.include_bias:
        raise ModelError(
            f"splines with extrapolation {splines.extrapolation!r} and include_bias "
            f"{splines.include_bias} have no compiled form; it needs 'constant' and True."
        )
    terms: dict[str, Term] = {}
    start = 0
    for name, basis, mean, scale in zip(
        names, splines.bsplines_, scaler.mean_, scaler.scale_, strict=True
    ):
        knots, degree = basis.t, basis.k
        count = len(knots) - degree - 1
        spline = BSpline(knots, weights[start : start + count], degree)
        polynomial = PPoly.from_spline(spline)
        inner = slice(degree, len(knots) - degree)  # the outer knots only carry the basis
        pieces = polynomial.c[:, inner].T.tolist()
        terms[name] = _curve(polynomial.x[inner].tolist(), pieces, float(mean), float(scale))
        start += count
    return terms


def line_terms(scaler, names: Sequence[str], weights: np.ndarray) -> dict[str, Term]:
    """Return for each column (``name: term``) its weighted scaled value."""
    means = scaler.mean_.tolist()
    scales = scaler.scale_.tolist()
    terms = {}
    for name, mean, scale, weight in zip(names, means, scales, weights.tolist(), strict=True):
        terms[name] = _line(mean, scale, weight)
    return terms


def _line(mean: float, scale: float, weight: float) -> Term:
    """Return the term of a number that is scaled and weighted."""

    def evaluate(value: float) -> float:
        """Return the weighted scaled value."""
        return (value - mean) / scale * weight

    return evaluate


def _curve(knots: list[float], pieces: list[list[float]], mean: float, scale: float) -> Term:
    """Return the piecewise polynomial of a value; ``pieces`` holds coefficients, highest first."""
    first, last = knots[0], knots[-1]
    count = len(knots) - 1

    def evaluate(value: float) -> float:
        """Return the polynomial at the scaled value, which is held within the knots."""
        x = min(max((value - mean) / scale, first), last)
        piece = min(bisect_right(knots, x), count) - 1
        x -= knots[piece]
        total = 0.0
        for coefficient in pieces[piece]:  # Horner's method
            total = total * x + coefficient
        return total

    return evaluate


def read_codes(encoder) -> dict[str, Codes]:
    """Return the codes that the encoder gives to categories: ``column: {category: code}``."""
    fitted = encoder.named_transformers_["categories"]
    names = encoder.transformers_[0][2]
    codes: dict[str, Codes] = {}
    for name, categories in zip(names, fitted.categories_, strict=True):
        codes[name] = {text: float(code) for code, text in enumerate(categories)}
    return codes


def build_encoder(encoder) -> Callable[[Sequence], list[float]]:
    """Build the function from model inputs in contract order to the estimator's numbers."""
    codes = read_codes(encoder)
    order = list(definitions.MODEL_INPUTS)
    names = encoder.get_feature_names_out()
    plan = [(order.index(name), codes.get(name)) for name in names]  # no codes: a number passes

    def encode(values: Sequence) -> list[float]:
        """Return the numbers of one customer; the comprehension is the hot path of the API."""
        return [values[at] if table is None else table[values[at]] for at, table in plan]

    return encode


COMPILERS: dict[str, Callable[..., Scorer]] = {
    "Pipeline": compile_additive,
    "LGBMClassifier": compile_booster,
    "RandomForestClassifier": compile_forest,
}
