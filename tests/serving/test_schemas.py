import json
import math

import pandas as pd
import pytest
from pydantic import ValidationError

from churn_utils.data import contract
from churn_utils.features import definitions
from churn_utils.serving.examples import EXAMPLE_CUSTOMER
from churn_utils.serving.request_schemas import MOST_CUSTOMERS, Customer, PredictionRequest

CHANGES = [
    {},
    {"tenure": 0, "total_charges": None},
    {"tenure": 5},
    {"total_charges": None},
    {"tenure": -1},
    {"tenure": 241},
    {"contract": "Weekly"},
    {"contract": "one year"},
    {"gender": ""},
    {"senior_citizen": 2},
    {"monthly_charges": 4.99},
    {"monthly_charges": 501.0},
    {"total_charges": -1.0},
    {"total_charges": 1e9},
    {"multiple_lines": "Yes"},
    {"phone_service": "Yes"},
    {"internet_service": "No"},
    {"tech_support": "Maybe"},
    {"online_backup": "No internet service"},
    {"tenure": 1, "total_charges": 89.55},
    {"total_charges": 89.56},
    {"total_charges": 8.95},
    {"payment_method": "Cash"},
    {"customer_id": ""},
    *({"customer_id": text} for text in ("AC 12/7", "Müller-01", "x" * 64, "x" * 65, "=1", "-1")),
    *(
        {"customer_id": text}
        for text in (" a", "a ", "a\n", "a\u200bb", "a\u202eb", "\u3164", "a b")
    ),
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_a_customer_is_valid_exactly_when_its_row_is(changes):
    customer = EXAMPLE_CUSTOMER | changes
    row = {name: "" if value is None else str(value) for name, value in customer.items()}
    accepted, rejected = contract.check_rows(pd.DataFrame([row]))
    if len(accepted):
        assert Customer(**customer).tenure == customer["tenure"]
        return
    with pytest.raises(ValidationError) as error:
        Customer(**customer)
    assert rejected["failed_column"].iloc[0] in {e["loc"][0] for e in error.value.errors()}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tenure", 1.5),
        ("tenure", "1"),
        ("tenure", True),
        ("senior_citizen", "0"),
        ("monthly_charges", "29.85"),
        ("monthly_charges", math.nan),
        ("monthly_charges", math.inf),
        ("total_charges", math.nan),
        ("gender", 1),
        ("customer_id", "a\tb"),
        ("customer_id", "x" * 65),
        ("customer_id", 7),
    ],
)
def test_nothing_is_converted(field, value):
    with pytest.raises(ValidationError) as error:
        Customer(**EXAMPLE_CUSTOMER | {field: value})
    assert error.value.errors()[0]["loc"] == (field,)


def test_unknown_and_missing_fields_are_named():
    with pytest.raises(ValidationError, match="churn"):
        Customer(**EXAMPLE_CUSTOMER, churn="No")
    with pytest.raises(ValidationError, match="contract"):
        Customer(**{name: value for name, value in EXAMPLE_CUSTOMER.items() if name != "contract"})


def test_a_whole_number_of_dollars_becomes_a_float():
    assert (
        json.dumps(Customer(**EXAMPLE_CUSTOMER | {"monthly_charges": 30}).monthly_charges) == "30.0"
    )


def test_a_customer_holds_what_features_are_computed_from():
    values = definitions.features_of_customer(dict(Customer(**EXAMPLE_CUSTOMER)))
    assert dict(zip(definitions.STORED, values, strict=True))["num_optional_services"] == 1


@pytest.mark.parametrize("ids", [[], ["x"] * (MOST_CUSTOMERS + 1), [" a b"], "7590-VHVEG", [None]])
def test_a_request_is_bounded_and_strict(ids):
    with pytest.raises(ValidationError):
        PredictionRequest(customer_ids=ids)
