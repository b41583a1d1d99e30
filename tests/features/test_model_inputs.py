import numpy as np
import pytest

from churn_utils.errors import FeatureError
from churn_utils.features import definitions, model_inputs


def test_selected_inputs_have_the_contracts_order_and_types_and_keep_the_index(inputs):
    mixed = (
        inputs[inputs.columns[::-1]]
        .astype({"tenure": "float64", "senior_citizen": "int8"})
        .assign(shoe_size=43)
    )
    selected = model_inputs.select_model_inputs(mixed)
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
        model_inputs.select_model_inputs(inputs.drop(columns=["avg_price_increase", "tenure"]))


@pytest.mark.parametrize("name", ["tenure", "monthly_charges", "gender"])
def test_nulls_are_refused_with_their_count(inputs, name):
    inputs[name] = inputs[name].astype(object)
    inputs.iloc[[3, 7], inputs.columns.get_loc(name)] = None
    with pytest.raises(FeatureError, match=f"nulls: {{'{name}': 2}}"):
        model_inputs.select_model_inputs(inputs)


@pytest.mark.parametrize("name", list(definitions.CATEGORICAL))
def test_categories_that_the_contract_does_not_know_are_refused(inputs, name):
    inputs.iloc[5, inputs.columns.get_loc(name)] = "Carrier pigeon"
    with pytest.raises(
        FeatureError, match=rf"1 row\(s\) hold an unknown {name}: \['Carrier pigeon'\]"
    ):
        model_inputs.select_model_inputs(inputs)


@pytest.mark.parametrize("name", definitions.INTEGER)
@pytest.mark.parametrize("value", [1.5, np.inf])
def test_fractions_of_whole_numbers_are_refused_never_cut_off(inputs, name, value):
    inputs[name] = inputs[name].astype("float64")
    inputs.iloc[0, inputs.columns.get_loc(name)] = value
    with pytest.raises(FeatureError, match=f"{name} must be whole numbers"):
        model_inputs.select_model_inputs(inputs)


@pytest.mark.parametrize(
    "name, value", [("tenure", "12"), ("monthly_charges", "much"), ("monthly_charges", np.inf)]
)
def test_what_is_no_finite_number_is_refused_by_name(inputs, name, value):
    with pytest.raises(FeatureError, match=name):
        model_inputs.select_model_inputs(inputs.assign(**{name: value}))


def test_indicators_are_one_column_a_category_and_of_two_only_the_second(inputs):
    indicators = model_inputs.indicate_categories(inputs)
    names = [
        (name, value)
        for name, values in definitions.CATEGORICAL.items()
        for value in (values[1:] if len(values) == 2 else values)
    ]
    assert indicators.shape == (50, len(names))
    for column, (name, value) in zip(indicators.T, names, strict=True):
        assert column.tolist() == (inputs[name] == value).astype(float).tolist()
