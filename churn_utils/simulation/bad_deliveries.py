"""Faults of whole deliveries: every row may be sound, and yet it is not a month.

Each fault takes the text rows of a sound delivery, those of the month before and a random
generator, and returns what arrives instead.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from churn_utils.data.columns import BY_NAME, CUSTOMER_ID
from churn_utils.data.delivery_checks import CATEGORICAL, EXCHANGEABLE

Fault = Callable[[pd.DataFrame, pd.DataFrame, np.random.Generator], pd.DataFrame]


def _cut(rows: pd.DataFrame, before: pd.DataFrame, draws: np.random.Generator, keep: int):
    """The delivery ends after some rows."""
    return rows.head(keep)


def _repeat(rows: pd.DataFrame, before: pd.DataFrame, draws: np.random.Generator):
    """The file of the month before is sent again."""
    return before


def _shuffle_ids(rows: pd.DataFrame, before: pd.DataFrame, draws: np.random.Generator):
    """The column of ids was sorted by itself, so ids stand beside the rows of others."""
    return rows.assign(**{CUSTOMER_ID: draws.permutation(rows[CUSTOMER_ID])})


def _renew_ids(rows: pd.DataFrame, before: pd.DataFrame, draws: np.random.Generator):
    """Another system numbered the customers."""
    return rows.assign(**{CUSTOMER_ID: [f"N{number:07d}" for number in range(len(rows))]})


def _lower_ids(rows: pd.DataFrame, before: pd.DataFrame, draws: np.random.Generator):
    """Ids arrive in lower case."""
    return rows.assign(**{CUSTOMER_ID: rows[CUSTOMER_ID].str.lower()})


def _exchange(rows: pd.DataFrame, before: pd.DataFrame, draws: np.random.Generator):
    """Two columns of the same categories stand in each other's place."""
    first, second = EXCHANGEABLE[draws.integers(len(EXCHANGEABLE))]
    return rows.assign(**{first: rows[second], second: rows[first]})


def _make_one_gender(rows: pd.DataFrame, before: pd.DataFrame, draws: np.random.Generator):
    """A default value took the place of a column."""
    return rows.assign(gender="Male")


def _drop_segment(rows: pd.DataFrame, before: pd.DataFrame, draws: np.random.Generator):
    """All customers of one category are missing."""
    column = CATEGORICAL[draws.integers(len(CATEGORICAL))]
    categories = BY_NAME[column].categories
    missing = categories[draws.integers(len(categories))]
    return rows[rows[column] != missing]


FAULTS: dict[str, Fault] = {
    "cut to 3,500 rows": partial(_cut, keep=3500),
    "cut to 300 rows": partial(_cut, keep=300),
    "cut to 1 row": partial(_cut, keep=1),
    "month before sent again": _repeat,
    "ids shuffled": _shuffle_ids,
    "ids all new": _renew_ids,
    "ids in lower case": _lower_ids,
    "two columns exchanged": _exchange,
    "one gender": _make_one_gender,
    "segment missing": _drop_segment,
}
