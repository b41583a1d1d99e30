"""Feature definitions: what is computed from a customer row, what is computed on demand, what a model is fed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from churn_utils.data.contract import CATEGORIES, INTERNET_OPTIONS
from churn_utils.errors import FeatureError

YES_NO_OR_SERVICE = "bought, not bought, or not possible without the service"

# name: (unit or type, where it comes from, description). Order is the order of model inputs.
MODEL_INPUTS = {
    "gender": ("category", "stored", "Female or Male"),
    "senior_citizen": ("0 or 1", "stored", "1 from the age of 65"),
    "partner": ("category", "stored", "has a partner"),
    "dependents": ("category", "stored", "lives with children, parents or others"),
    "tenure": ("months", "stored", "months with the company"),
    "phone_service": ("category", "stored", "has a phone line"),
    "multiple_lines": ("category", "stored", YES_NO_OR_SERVICE),
    "internet_service": ("category", "stored", "DSL, fibre or none"),
    "online_security": ("category", "stored", YES_NO_OR_SERVICE),
    "online_backup": ("category", "stored", YES_NO_OR_SERVICE),
    "device_protection": ("category", "stored", YES_NO_OR_SERVICE),
    "tech_support": ("category", "stored", YES_NO_OR_SERVICE),
    "streaming_tv": ("category", "stored", YES_NO_OR_SERVICE),
    "streaming_movies": ("category", "stored", YES_NO_OR_SERVICE),
    "contract": ("category", "stored", "term of the contract"),
    "paperless_billing": ("category", "stored", "gets the bill by e-mail"),
    "payment_method": ("category", "stored", "how the bill is paid"),
    "monthly_charges": ("USD per month", "stored", "the current monthly bill"),
    "total_charges": ("USD", "stored", "billed so far; 0 before the first bill"),
    "num_optional_services": ("count", "stored", "how many of the six internet options are bought"),
    "avg_price_increase": (
        "USD per month",
        "on demand",
        "current bill minus the average bill so far",
    ),
}
STORED = [name for name, (_, origin, _) in MODEL_INPUTS.items() if origin == "stored"]
CATEGORICAL = {name: CATEGORIES[name] for name in MODEL_INPUTS if name in CATEGORIES}
NUMERICAL = [name for name in MODEL_INPUTS if name not in CATEGORICAL]
INTEGER = ["senior_citizen", "tenure", "num_optional_services"]
SLICES = [
    "contract",
    "senior_citizen",
    "internet_service",
]  # groups that gate and monitoring look at one by one
_MONTHLY, _TOTAL, _TENURE = (
    STORED.index(name) for name in ("monthly_charges", "total_charges", "tenure")
)


def num_optional_services(customers: pd.DataFrame) -> pd.Series:
    """Count the optional internet services that each customer bought (0 to 6)."""
    return (customers[INTERNET_OPTIONS] == "Yes").sum(axis=1).astype("int64")


def avg_price_increase(monthly_charges, total_charges, tenure) -> np.ndarray | float:
    """Current monthly bill minus the average bill so far, in USD per month; 0 when tenure is 0.

    The one definition for training, batch and API: computed on demand, never stored, because a caller may know
    a newer bill than the store. Takes arrays or scalars, months for ``tenure``, USD for the charges.
    """
    if isinstance(
        tenure, int | float
    ):  # one customer: the same arithmetic without arrays, which cost 10 µs
        return monthly_charges - (total_charges / tenure if tenure > 0 else monthly_charges)
    months = np.asarray(tenure, dtype="float64")
    monthly = np.asarray(monthly_charges, dtype="float64")
    average = np.divide(total_charges, months, out=np.array(monthly), where=months > 0)
    return monthly - average


def build_features(customers: pd.DataFrame) -> pd.DataFrame:
    """Compute the stored features of accepted customer rows.

    Returns:
        One row per customer row, same order: ``customer_id, snapshot_date, written_at`` and ``STORED``. Never
        the label.
    """
    computed = customers.assign(
        total_charges=customers["total_charges"].fillna(0.0),  # blank only before the first bill
        num_optional_services=num_optional_services(customers),
    )
    return computed[["customer_id", "snapshot_date", "written_at", *STORED]]


def complete_inputs(stored: Sequence) -> tuple:
    """Model inputs of one customer, in contract order, from its stored features in the order of ``STORED``."""
    increase = avg_price_increase(stored[_MONTHLY], stored[_TOTAL], stored[_TENURE])
    return (*stored, increase)


def features_of_customer(customer: Mapping) -> tuple:
    """Stored features, in the order of ``STORED``, of one customer given whole: what ``build_features`` computes.

    Args:
        customer: the contract's columns; ``total_charges`` may be None before the first bill.
    """
    bought = sum(customer[name] == "Yes" for name in INTERNET_OPTIONS)
    total = 0.0 if customer["total_charges"] is None else customer["total_charges"]
    computed = {**customer, "total_charges": total, "num_optional_services": bought}
    return tuple(computed[name] for name in STORED)


def add_on_demand(features: pd.DataFrame) -> pd.DataFrame:
    """Add the on-demand features to stored ones; the result holds every model input."""
    return features.assign(
        avg_price_increase=avg_price_increase(
            features["monthly_charges"], features["total_charges"], features["tenure"]
        )
    )


def select_model_inputs(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the model inputs of ``frame`` in contract order and type.

    Raises:
        FeatureError: inputs are missing, null, or hold a category that the contract does not know
            or something that is no finite number.
    """
    missing = [name for name in MODEL_INPUTS if name not in frame]
    if missing:
        raise FeatureError(f"{len(missing)} model input(s) are missing: {', '.join(missing)}.")
    inputs = frame[list(MODEL_INPUTS)]
    unknown = {
        name: ~inputs[name].isin(known) for name, known in CATEGORICAL.items()
    }  # a null is unknown as well
    unknown = {name: rows for name, rows in unknown.items() if rows.any()}
    if unknown or inputs[NUMERICAL].isna().any(axis=None):
        _refuse_nulls(inputs)
    for name, rows in unknown.items():
        values = sorted(inputs.loc[rows, name].astype(str).unique())[:5]
        raise FeatureError(
            f"{rows.sum()} row(s) hold an unknown {name}: {values}; known are {CATEGORICAL[name]}."
        )
    texts = [name for name in NUMERICAL if not pd.api.types.is_numeric_dtype(inputs[name])]
    if texts:
        raise FeatureError(f"{', '.join(texts)} must be numbers.")
    fractions = [name for name in INTEGER if (inputs[name] % 1 != 0).any()]
    if fractions:
        raise FeatureError(f"{', '.join(fractions)} must be whole numbers.")
    infinite = [name for name in NUMERICAL if np.isinf(inputs[name]).any()]
    if infinite:
        raise FeatureError(f"{', '.join(infinite)} must be finite.")
    return inputs.astype({name: "int64" if name in INTEGER else "float64" for name in NUMERICAL})


def _refuse_nulls(inputs: pd.DataFrame) -> None:
    nulls = inputs.isna().sum()
    if nulls.any():
        raise FeatureError(f"model inputs hold nulls: {nulls[nulls > 0].to_dict()} (column: rows).")


def indicate_categories(inputs: pd.DataFrame) -> np.ndarray:
    """Indicators of the categories, of two only the second: scikit-learn's ``drop="if_binary"`` in a third of its time.

    Args:
        inputs: as ``select_model_inputs`` returns them.

    Returns:
        Zeros and ones, shape (rows, indicators), in contract order.
    """
    indicators = []
    for name, values in CATEGORICAL.items():
        codes = pd.Index(values).get_indexer(inputs[name])
        indicators += [codes == code for code in range(1 if len(values) == 2 else 0, len(values))]
    return np.column_stack(indicators).astype("float64")


def feature_contract() -> pd.DataFrame:
    """Describe every model input: ``feature, unit, origin, description, categories``."""
    return pd.DataFrame(
        [
            {
                "feature": name,
                "unit": unit,
                "origin": origin,
                "description": text,
                "categories": CATEGORICAL.get(name),
            }
            for name, (unit, origin, text) in MODEL_INPUTS.items()
        ]
    )
