import numpy as np
import pandas as pd
import pytest

from churn_utils.data import contract
from churn_utils.data.columns import COLUMNS, CUSTOMER_COLUMNS, INTERNET_OPTIONS
from churn_utils.features import definitions, model_inputs

KEY = ["customer_id", "snapshot_date", "written_at"]


def test_price_increase_is_the_bill_minus_the_average_bill_so_far():
    assert definitions.avg_price_increase(50.0, 400.0, 10) == 10.0
    assert definitions.avg_price_increase(50, 600, 10) == -10.0
    assert definitions.avg_price_increase([50, 20], [400, 25], [10, 1]).tolist() == [10.0, -5.0]


def test_price_increase_is_zero_for_new_customers_without_a_warning():
    with np.errstate(all="raise"):
        assert definitions.avg_price_increase(70.0, 0.0, 0) == 0.0
        found = definitions.avg_price_increase(
            np.array([70.0, 50.0]), np.array([0.0, 400.0]), np.array([0, 10])
        )
    assert found.tolist() == [0.0, 10.0]


def test_price_increase_of_whole_numbers_is_not_rounded():
    found = definitions.avg_price_increase(np.array([20]), np.array([59]), np.array([3]))
    assert found[0] == pytest.approx(20 - 59 / 3)


def test_price_increase_of_ibms_customers_is_that_of_each_alone(inputs):
    alone = [
        definitions.avg_price_increase(row.monthly_charges, row.total_charges, row.tenure)
        for row in inputs.itertuples()
    ]
    by_hand = [row.monthly_charges - row.total_charges / row.tenure for row in inputs.itertuples()]
    assert inputs["avg_price_increase"].tolist() == alone == pytest.approx(by_hand)


def test_optional_services_count_the_six_options_that_were_bought():
    rows = pd.DataFrame(
        [["Yes"] * 6, ["No internet service"] * 6, ["Yes", "No", "Yes", "No", "No", "No"]],
        columns=list(INTERNET_OPTIONS),
    )
    rows = rows.assign(paperless_billing="Yes", multiple_lines="Yes")
    counted = definitions.num_optional_services(*(rows[name] for name in INTERNET_OPTIONS))
    assert counted.tolist() == [6, 0, 2] and counted.dtype == "int64"


def test_features_are_one_row_per_customer_in_order_and_never_hold_the_label(customers):
    assert "churn" in customers
    shuffled = customers.sample(frac=1, random_state=0)
    built = definitions.build_features(shuffled)
    assert built.columns.tolist() == [*KEY, *definitions.STORED]
    assert built["customer_id"].tolist() == shuffled["customer_id"].tolist()


def test_blank_total_charges_become_zero_and_the_customers_are_left_alone(customers):
    before = customers.copy()
    built = definitions.build_features(customers)
    blank = customers["total_charges"].isna()
    assert blank.sum() == 11
    assert built.loc[blank, "total_charges"].eq(0).all()
    assert built.loc[~blank, "total_charges"].equals(customers.loc[~blank, "total_charges"])
    pd.testing.assert_frame_equal(customers, before)


def test_model_inputs_are_ibms_attributes_and_the_two_computed_ones():
    attributes = {*CUSTOMER_COLUMNS} - {"customer_id"}
    assert set(definitions.MODEL_INPUTS) == attributes | {
        "num_optional_services",
        "avg_price_increase",
    }
    assert [name for name in definitions.MODEL_INPUTS if name not in definitions.STORED] == [
        "avg_price_increase"
    ]


def test_the_contract_describes_exactly_the_model_inputs():
    described = definitions.feature_contract().set_index("feature")
    assert described.index.tolist() == list(definitions.MODEL_INPUTS)
    assert described[["unit", "origin", "description"]].ne("").all(axis=None)
    known = described["categories"].dropna()
    assert known.to_dict() == {
        column.name: list(column.categories)
        for column in COLUMNS
        if column.categories and column.name != "churn"
    }


@pytest.mark.parametrize("lost", ["gender", "tenure"])
def test_what_a_row_lacks_is_lacking_in_what_is_computed(inputs, lost):
    inputs = inputs.reset_index(drop=True)
    stored = inputs[definitions.STORED].astype(object)
    stored.loc[0, lost] = None
    rows = definitions.add_on_demand(stored)
    alone = definitions.complete_inputs(tuple(stored.iloc[0]))
    is_used = lost == "tenure"
    assert pd.isna(rows.loc[0, "avg_price_increase"]) == is_used == (alone[-1] is None)
    assert rows["avg_price_increase"].iloc[1:].tolist() == inputs["avg_price_increase"][1:].tolist()
    lacking = model_inputs.describe_lacking(rows, definitions.MODEL_INPUTS)
    assert lacking[0] == lost + ",avg_price_increase" * is_used and set(lacking[1:]) == {""}
    assert len(model_inputs.drop_incomplete(rows, [lost], "a test")) == len(rows) - 1


def test_one_customer_given_whole_has_the_features_of_the_table_to_the_last_bit(extract):
    customers = contract.check_rows(extract)[0]
    stamped = customers.assign(
        snapshot_date=pd.Timestamp("2025-01-01"), written_at=pd.Timestamp("2025-01-01")
    )
    table = model_inputs.select_model_inputs(
        definitions.add_on_demand(definitions.build_features(stamped))
    )
    expected = list(zip(*(table[name].tolist() for name in table), strict=True))
    given = customers.astype(object).where(customers.notna(), None).to_dict("records")
    alone = [
        definitions.complete_inputs(definitions.features_of_customer(customer))
        for customer in given
    ]
    assert alone == expected and len(alone) == 7043
