"""Model inputs: which a model takes, rows that lack some, checks and types beforehand."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np
import pandas as pd

from churn_utils.errors import FeatureError
from churn_utils.features.definitions import CATEGORICAL, INTEGER, MODEL_INPUTS

MOST_EXAMPLES = 5  # of unknown categories named in an error
log = logging.getLogger(__name__)


def inputs_of(model) -> list[str]:
    """Return the inputs that a model was trained on, in its order.

    A model may be older than a feature. One that does not name its inputs takes ``MODEL_INPUTS``.
    """
    names = getattr(model, "feature_names_in_", MODEL_INPUTS)
    return [str(name) for name in names]


def describe_lacking(rows: pd.DataFrame, inputs: Iterable[str]) -> pd.Series:
    """Return the names of the inputs that each row lacks, joined by commas; empty if it has all.

    A row lacks a feature that was defined after it was written.
    """
    lacking = np.full(len(rows), "", dtype=object)
    for name in inputs:
        is_missing = rows[name].isna().to_numpy()
        if is_missing.any():
            so_far = lacking[is_missing]
            separator = np.where(so_far == "", "", ",").astype(object)
            lacking[is_missing] = so_far + separator + name
    return pd.Series(lacking, index=rows.index)


def drop_incomplete(rows: pd.DataFrame, inputs: Iterable[str], use: str) -> pd.DataFrame:
    """Leave out the rows that lack one of the inputs; log how many, which inputs, for which use."""
    lacking = describe_lacking(rows, inputs)
    is_complete = lacking == ""
    if is_complete.all():
        return rows
    counts = lacking[~is_complete].value_counts().to_dict()
    log.warning(
        "%d of %d rows are left out of %s: they lack features that were defined later %s",
        (~is_complete).sum(),
        len(rows),
        use,
        counts,
    )
    return rows[is_complete]


def select_model_inputs(frame: pd.DataFrame, names: Iterable[str] = ()) -> pd.DataFrame:
    """Return the model inputs of a frame, in order and with their types.

    Args:
        frame: rows of model inputs.
        names: of the inputs, as ``inputs_of`` returns them; those in ``MODEL_INPUTS`` if empty.

    Raises:
        FeatureError: inputs are missing, null, or hold a category that the contract does not know
            or something that is no finite number.
    """
    wanted = list(names) or list(MODEL_INPUTS)
    missing = [name for name in wanted if name not in frame or name not in MODEL_INPUTS]
    if missing:
        raise FeatureError(f"{len(missing)} model input(s) are missing: {', '.join(missing)}.")
    inputs = frame[wanted]
    _check_categories(inputs)
    _check_numbers(inputs)
    types = {name: MODEL_INPUTS[name].type.pandas for name in select_numerical(wanted)}
    return inputs.astype(types)


def select_categorical(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the categories of those inputs that are categorical, by name."""
    return {name: CATEGORICAL[name] for name in names if name in CATEGORICAL}


def select_numerical(names: Iterable[str]) -> list[str]:
    """Return those of the inputs that are numbers."""
    return [name for name in names if name not in CATEGORICAL]


def _check_categories(inputs: pd.DataFrame) -> None:
    """Refuse categories that the contract does not know."""
    for name, known in select_categorical(inputs).items():
        is_unknown = ~inputs[name].isin(known)  # a null is unknown too
        if not is_unknown.any():
            continue
        _check_nulls(inputs)
        values = sorted(inputs.loc[is_unknown, name].astype(str).unique())
        raise FeatureError(
            f"{is_unknown.sum()} row(s) hold an unknown {name}: {values[:MOST_EXAMPLES]}; "
            f"known are {known}."
        )


def _check_numbers(inputs: pd.DataFrame) -> None:
    """Refuse numbers that are null, text, infinite, or fractions where whole ones belong."""
    numbers = inputs[select_numerical(inputs)]
    if numbers.isna().any(axis=None):
        _check_nulls(inputs)
    texts = numbers.select_dtypes(exclude=["number", "bool"])
    _refuse_columns(list(texts), "numbers")
    whole_numbers = numbers[[name for name in INTEGER if name in numbers]]
    is_fraction = (whole_numbers % 1 != 0).any()
    _refuse_columns(is_fraction.index[is_fraction], "whole numbers")
    is_infinite = np.isinf(numbers).any()
    _refuse_columns(is_infinite.index[is_infinite], "finite")


def _refuse_columns(names: Iterable[str], wanted: str) -> None:
    """Raise if there are any names of columns that are not what is wanted."""
    listed = ", ".join(names)
    if listed:
        raise FeatureError(f"{listed} must be {wanted}.")


def _check_nulls(inputs: pd.DataFrame) -> None:
    """Refuse nulls in any input, with their number by column."""
    nulls = inputs.isna().sum()
    if nulls.any():
        counts = nulls[nulls > 0].to_dict()
        raise FeatureError(f"model inputs hold nulls: {counts} (column: rows).")


def indicate_categories(inputs: pd.DataFrame) -> np.ndarray:
    """Return indicators of the categories, of a pair only the second.

    This is scikit-learn's ``OneHotEncoder(drop="if_binary")`` in a third of its time.

    Args:
        inputs: as ``select_model_inputs`` returns them.

    Returns:
        Zeros and ones, shape (rows, indicators), in the order of ``CATEGORICAL``.
    """
    indicators = []
    for name, values in select_categorical(inputs).items():
        codes = pd.Index(values).get_indexer(inputs[name])
        first = 1 if len(values) == 2 else 0
        indicators += [codes == code for code in range(first, len(values))]
    return np.column_stack(indicators).astype("float64")
