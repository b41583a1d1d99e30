import numpy as np
import pandas as pd
import pytest

from churn_utils.data import contract
from churn_utils.data.columns import COLUMNS, CUSTOMER_COLUMNS, INTERNET_OPTIONS
from churn_utils.errors import FeatureError
from churn_utils.features import definitions

KEY = ["customer_id", "snapshot_date", "written_at"]


@pytest.fixture
def customers(extract):
    accepted, _ = contract.check_rows(extract)
    month = pd.Timestamp("2025-01-01")
    return accepted.assign(snapshot_date=month, written_at=month)


@pytest.fixture
def inputs(customers):
    return definitions.add_on_demand(definitions.build_features(customers.head(50)))


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


def test_selected_inputs_have_the_contracts_order_and_types_and_keep_the_index(inputs):
    mixed = (
        inputs[inputs.columns[::-1]]
        .astype({"tenure": "float64", "senior_citizen": "int8"})
        .assign(shoe_size=43)
    )
    selected = definitions.select_model_inputs(mixed)
    assert selected.columns.tolist() == list(definitions.MODEL_INPUTS)
    assert selected.index.equals(inputs.index)
    assert selected["tenure"].tolist() == inputs["tenure"].tolist()
    types = selected.dtypes.astype(str)
    assert types[definitions.INTEGER].tolist() == ["int64"] * 3
    assert (
        types[["monthly_charges", "total_charges", "avg_price_increase"]].tolist()
        == ["float64"] * 3
    )


def test_missing_inputs_are_refused_by_name(inputs):
    with pytest.raises(
        FeatureError, match=r"2 model input\(s\) are missing: tenure, avg_price_increase"
    ):
        definitions.select_model_inputs(inputs.drop(columns=["avg_price_increase", "tenure"]))


@pytest.mark.parametrize("name", ["tenure", "monthly_charges", "gender"])
def test_nulls_are_refused_with_their_count(inputs, name):
    inputs[name] = inputs[name].astype(object)
    inputs.iloc[[3, 7], inputs.columns.get_loc(name)] = None
    with pytest.raises(FeatureError, match=f"nulls: {{'{name}': 2}}"):
        definitions.select_model_inputs(inputs)


@pytest.mark.parametrize("name", list(definitions.CATEGORICAL))
def test_categories_that_the_contract_does_not_know_are_refused(inputs, name):
    inputs.iloc[5, inputs.columns.get_loc(name)] = "Carrier pigeon"
    with pytest.raises(
        FeatureError, match=rf"1 row\(s\) hold an unknown {name}: \['Carrier pigeon'\]"
    ):
        definitions.select_model_inputs(inputs)


@pytest.mark.parametrize("name", definitions.INTEGER)
@pytest.mark.parametrize("value", [1.5, np.inf])
def test_fractions_of_whole_numbers_are_refused_never_cut_off(inputs, name, value):
    inputs[name] = inputs[name].astype("float64")
    inputs.iloc[0, inputs.columns.get_loc(name)] = value
    with pytest.raises(FeatureError, match=f"{name} must be whole numbers"):
        definitions.select_model_inputs(inputs)


@pytest.mark.parametrize(
    "name, value", [("tenure", "12"), ("monthly_charges", "much"), ("monthly_charges", np.inf)]
)
def test_what_is_no_finite_number_is_refused_by_name(inputs, name, value):
    with pytest.raises(FeatureError, match=name):
        definitions.select_model_inputs(inputs.assign(**{name: value}))


def test_indicators_are_one_column_a_category_and_of_two_only_the_second(inputs):
    indicators = definitions.indicate_categories(inputs)
    names = [
        (name, value)
        for name, values in definitions.CATEGORICAL.items()
        for value in (values[1:] if len(values) == 2 else values)
    ]
    assert indicators.shape == (50, len(names))
    for column, (name, value) in zip(indicators.T, names, strict=True):
        assert column.tolist() == (inputs[name] == value).astype(float).tolist()


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
    lacking = definitions.describe_lacking(rows, definitions.MODEL_INPUTS)
    assert lacking[0] == lost + ",avg_price_increase" * is_used and set(lacking[1:]) == {""}
    assert len(definitions.drop_incomplete(rows, [lost], "a test")) == len(rows) - 1


def test_one_customer_given_whole_has_the_features_of_the_table_to_the_last_bit(extract):
    customers = contract.check_rows(extract)[0]
    stamped = customers.assign(
        snapshot_date=pd.Timestamp("2025-01-01"), written_at=pd.Timestamp("2025-01-01")
    )
    table = definitions.select_model_inputs(
        definitions.add_on_demand(definitions.build_features(stamped))
    )
    expected = list(zip(*(table[name].tolist() for name in table), strict=True))
    given = customers.astype(object).where(customers.notna(), None).to_dict("records")
    alone = [
        definitions.complete_inputs(definitions.features_of_customer(customer))
        for customer in given
    ]
    assert alone == expected and len(alone) == 7043
