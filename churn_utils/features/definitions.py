"""Feature definitions: which there are, how each is computed, the order of model inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from churn_utils.data.columns import (
    BY_NAME,
    CUSTOMER_COLUMNS,
    CUSTOMER_ID,
    DECIMAL,
    INTERNET_OPTIONS,
    TEXT,
    WHOLE,
    Column,
    ColumnType,
)


def take_as_delivered(value):
    """Return the value of a column as it was delivered."""
    return value


@dataclass(frozen=True)
class Feature:
    """One model input.

    Attributes:
        name: its name in tables, requests and models.
        type: TEXT (a category), WHOLE or DECIMAL.
        unit: unit of a number, ``category`` for a category.
        description: what the value means.
        is_stored: whether it is kept in the feature tables. The others are computed on demand from
            stored ones, because a caller may know a newer value than the store.
        computed_from: columns (of a stored feature) or stored features (of one on demand) that
            ``compute`` takes, in its order.
        compute: takes the values of one customer or whole Series.
        categories: every value of a category.
        minimum, maximum: least and largest value of a number.
        is_slice: whether gate and monitoring look at each of its groups separately.
    """

    name: str
    type: ColumnType
    unit: str
    description: str
    is_stored: bool = True
    computed_from: tuple[str, ...] = ()
    compute: Callable[..., Any] = take_as_delivered
    categories: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    is_slice: bool = False

    @property
    def is_computed(self) -> bool:
        """Tell whether it is anything else than a column as delivered."""
        return self.compute is not take_as_delivered

    @property
    def origin(self) -> str:
        """Return where the value comes from: ``stored`` or ``on demand``."""
        return "stored" if self.is_stored else "on demand"


def fill_first_bill(total_charges):
    """Return total charges in USD, 0 where they are missing because no bill was sent yet."""
    if isinstance(total_charges, pd.Series):
        return total_charges.fillna(0.0)
    return 0.0 if total_charges is None else total_charges


def num_optional_services(*options):
    """Count how many of the optional internet services were bought (0 to 6)."""
    return sum([option == "Yes" for option in options])


def avg_price_increase(monthly_charges, total_charges, tenure) -> np.ndarray | float:
    """Return the current bill minus the average bill so far, in USD per month; 0 at tenure 0.

    Args:
        monthly_charges: USD per month, a number or an array.
        total_charges: USD billed so far, a number or an array.
        tenure: months, a number or an array.
    """
    if isinstance(tenure, int | float):  # one customer: arrays would cost 10 µs
        average = total_charges / tenure if tenure > 0 else monthly_charges
        return monthly_charges - average
    months = np.asarray(tenure, dtype="float64")
    monthly = np.asarray(monthly_charges, dtype="float64")
    averages = np.divide(total_charges, months, out=monthly.copy(), where=months > 0)
    return monthly - averages


def _take_column(column: Column) -> Feature:
    """Return the feature that is a column as it was delivered."""
    unit = "category" if column.type is TEXT else column.unit
    return Feature(
        column.name,
        column.type,
        unit,
        column.description,
        categories=column.categories,
        minimum=column.minimum,
        maximum=column.maximum,
        is_slice=column.is_slice,
    )


FEATURES = (
    *(
        _take_column(BY_NAME[name])
        for name in CUSTOMER_COLUMNS
        if name not in (CUSTOMER_ID, "total_charges")
    ),
    Feature(
        "total_charges",
        DECIMAL,
        "USD",
        "billed so far; 0 before the first bill",
        computed_from=("total_charges",),
        compute=fill_first_bill,
        minimum=BY_NAME["total_charges"].minimum,
        maximum=BY_NAME["total_charges"].maximum,
    ),
    Feature(
        "num_optional_services",
        WHOLE,
        "count",
        "how many of the six internet options are bought",
        computed_from=INTERNET_OPTIONS,
        compute=num_optional_services,
        minimum=0,
        maximum=len(INTERNET_OPTIONS),
    ),
    Feature(
        "avg_price_increase",
        DECIMAL,
        "USD per month",
        "current bill minus the average bill so far; 0 at tenure 0",
        is_stored=False,
        computed_from=("monthly_charges", "total_charges", "tenure"),
        compute=avg_price_increase,
    ),
)
_COMPUTED = [feature for feature in FEATURES if feature.is_stored and feature.is_computed]
_STORED = [feature for feature in FEATURES if feature.is_stored]
_ON_DEMAND = [feature for feature in FEATURES if not feature.is_stored]
# Stored features come first: a model input is a stored row with the on-demand features behind it.
MODEL_INPUTS = {feature.name: feature for feature in [*_STORED, *_ON_DEMAND]}
STORED = [feature.name for feature in _STORED]
CATEGORICAL = {
    name: list(feature.categories) for name, feature in MODEL_INPUTS.items() if feature.type is TEXT
}
NUMERICAL = [name for name, feature in MODEL_INPUTS.items() if feature.type is not TEXT]
INTEGER = [name for name, feature in MODEL_INPUTS.items() if feature.type is WHOLE]
SLICES = [name for name, feature in MODEL_INPUTS.items() if feature.is_slice]
KEY = ["customer_id", "snapshot_date", "written_at"]
_PICK_STORED = itemgetter(*STORED)


def _pick_inputs(feature: Feature) -> Callable[[Sequence], tuple]:
    """Return what picks the inputs of an on-demand feature out of a stored row."""
    positions = [STORED.index(name) for name in feature.computed_from]
    if len(positions) == 1:  # itemgetter would return the bare value
        return lambda stored: (stored[positions[0]],)
    return itemgetter(*positions)


# For the API's hot path: each on-demand feature with what picks its inputs out of a stored row.
_PICK_AND_COMPUTE = [(_pick_inputs(feature), feature.compute) for feature in _ON_DEMAND]


def _type_of_value(feature: Feature) -> Any:
    """Return the type of a feature's value in a stored row, as pydantic takes it."""
    if feature.type is TEXT:
        return Literal[feature.categories]
    bounds = Field(strict=True, allow_inf_nan=False, ge=feature.minimum, le=feature.maximum)
    return Annotated[feature.type.python, bounds]


# Types of the values of a stored row, in the order of ``STORED``.
STORED_TYPES = [_type_of_value(feature) for feature in _STORED]


def build_features(customers: pd.DataFrame) -> pd.DataFrame:
    """Compute the stored features of accepted customer rows.

    Returns:
        One row per customer row, same order: ``customer_id, snapshot_date, written_at`` and
            ``STORED``.
        Never the label.
    """
    computed = {feature.name: _compute(feature, customers) for feature in _COMPUTED}
    return customers.assign(**computed)[[*KEY, *STORED]]


def features_of_customer(customer: Mapping) -> tuple:
    """Compute the stored features of one customer: what ``build_features`` does for a frame.

    Args:
        customer: the contract's columns; ``total_charges`` may be None before the first bill.

    Returns:
        Values in the order of ``STORED``.
    """
    computed = {feature.name: _compute(feature, customer) for feature in _COMPUTED}
    return _PICK_STORED({**customer, **computed})


def add_on_demand(features: pd.DataFrame) -> pd.DataFrame:
    """Add the on-demand features to stored ones.

    Returns:
        The given columns and those of ``MODEL_INPUTS`` that are computed on demand; null where a
        row lacks what they are computed from.
    """
    computed = {feature.name: _compute_where_known(feature, features) for feature in _ON_DEMAND}
    return features.assign(**computed)


def _compute_where_known(feature: Feature, rows: pd.DataFrame):
    """Compute an on-demand feature of the rows that hold all of its inputs."""
    inputs = rows[list(feature.computed_from)]
    is_known = inputs.notna().all(axis=1)
    if is_known.all():
        return _compute(feature, rows)
    values = np.asarray(_compute(feature, rows[is_known]))
    positions = np.flatnonzero(is_known)
    known = pd.Series(values, index=positions)
    all_positions = range(len(rows))
    return known.reindex(all_positions).set_axis(rows.index)


def complete_inputs(stored: Sequence) -> tuple:
    """Complete one customer's stored features, in the order of ``STORED``, to its model inputs.

    A feature that the row lacks is None, as is what would be computed from it.
    """
    if None in stored:
        on_demand = [
            _compute_if_known(pick(stored), compute) for pick, compute in _PICK_AND_COMPUTE
        ]
    else:
        on_demand = [compute(*pick(stored)) for pick, compute in _PICK_AND_COMPUTE]
    return (*stored, *on_demand)


def _compute_if_known(values: tuple, compute: Callable[..., Any]):
    """Compute an on-demand feature of one customer; None if one of its inputs is."""
    if None in values:
        return None
    return compute(*values)


def _compute(feature: Feature, values: Mapping | pd.DataFrame):
    """Compute a feature from one customer or from a frame of customers."""
    given = [values[name] for name in feature.computed_from]
    return feature.compute(*given)


def feature_contract(names: Iterable[str] = MODEL_INPUTS) -> pd.DataFrame:
    """Describe model inputs: ``feature, unit, origin, description, categories``."""
    return pd.DataFrame(
        [
            {
                "feature": feature.name,
                "unit": feature.unit,
                "origin": feature.origin,
                "description": feature.description,
                "categories": CATEGORICAL.get(feature.name),
            }
            for feature in (MODEL_INPUTS[name] for name in names)
        ]
    )


def describe_own_features() -> str:
    """Return the table of computed features in ``data/README.md`` as Markdown."""
    lines = ["| feature | unit | origin | meaning |", "|---|---|---|---|"]
    for feature in FEATURES:
        if feature.is_computed:
            cells = (feature.name, feature.unit, feature.origin, feature.description)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(describe_own_features())
