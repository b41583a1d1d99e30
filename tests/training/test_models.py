import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from skops.io import dumps, loads

from churn_utils.errors import DataError
from churn_utils.features import definitions, model_inputs, offline
from churn_utils.registry.artifacts import TRUSTED_TYPES
from churn_utils.training import models

SMALL = {
    "logistic_regression": {"C": 1.0, "n_knots": 4},
    "lightgbm": {
        "n_estimators": 25,
        "learning_rate": 0.1,
        "num_leaves": 4,
        "min_child_samples": 20,
    },
    "random_forest": {"min_samples_leaf": 4, "max_features": 0.3},
}


@pytest.fixture(scope="module")
def train(first_month):
    return offline.training_rows(first_month, "train").head(500)


@pytest.fixture(scope="module")
def validate(first_month):
    return offline.training_rows(first_month, "validate").head(500)


@pytest.fixture(scope="module", params=SMALL)
def fitted(request, train, validate):
    """A small calibrated model of every family."""
    return models.fit_calibrated(
        {"family": request.param, **SMALL[request.param]}, train, validate, seed=0
    )


def probability_of(model, rows):
    return model.predict_proba(model_inputs.select_model_inputs(rows))[:, 1]


def repeat_months(rows, months=3):
    """Every customer in several months, shuffled."""
    return pd.concat([rows] * months).sample(frac=1, random_state=0).reset_index(drop=True)


def test_every_family_learns_and_survives_skops(fitted, validate):
    probability = probability_of(fitted, validate)
    assert roc_auc_score(validate["churned"], probability) > 0.75
    again = loads(dumps(fitted), trusted=TRUSTED_TYPES)
    assert (probability_of(again, validate) == probability).all()


def test_calibrated_mean_is_the_churn_rate_of_validate(fitted, validate):
    assert probability_of(fitted, validate).mean() == pytest.approx(
        validate["churned"].mean(), abs=0.01
    )


def test_calibration_is_learned_on_validate_alone(train, validate):
    params = {"family": "logistic_regression", **SMALL["logistic_regression"]}
    honest = models.fit_calibrated(params, train, validate, seed=0)
    inverted = models.fit_calibrated(
        params, train, validate.assign(churned=~validate["churned"]), seed=0
    )
    assert roc_auc_score(validate["churned"], probability_of(inverted, validate)) < 0.25
    inputs = model_inputs.select_model_inputs(validate)
    assert (
        inverted.estimator.decision_function(inputs) == honest.estimator.decision_function(inputs)
    ).all()


def test_fitting_twice_gives_the_same_model(fitted, train, validate):
    pipeline = fitted.estimator.estimator
    family = {"Pipeline": "logistic_regression", "LGBMClassifier": "lightgbm"}.get(
        type(pipeline[-1]).__name__
    )
    family = family or "random_forest"
    again = models.fit_calibrated({"family": family, **SMALL[family]}, train, validate, seed=0)
    assert probability_of(again, validate) == pytest.approx(
        probability_of(fitted, validate), rel=1e-12
    )


def test_codes_are_those_of_the_contract_for_any_rows(train):
    women = model_inputs.select_model_inputs(train[train["contract"] == "Two year"])
    encoded = models.build_encoder().fit_transform(women)
    assert set(encoded["contract"]) == {definitions.CATEGORICAL["contract"].index("Two year")}
    assert set(encoded.columns) == set(definitions.MODEL_INPUTS)
    assert encoded["tenure"].tolist() == women["tenure"].tolist()


@pytest.mark.parametrize("params", [{"family": "crystal_ball"}, {"C": 1.0}])
def test_an_unknown_family_is_refused_with_the_known_ones(params):
    with pytest.raises(
        DataError, match="families are logistic_regression, lightgbm, random_forest"
    ):
        models.build_model(params, seed=0)


def test_folds_cover_rows_once_and_keep_customers_together(train):
    rows = repeat_months(train)
    folds = models.make_folds(rows, seed=0)
    assert len(folds) == 5
    assert sorted(np.concatenate([held_out for _, held_out in folds])) == list(range(len(rows)))
    for fit, held_out in folds:
        assert sorted([*fit, *held_out]) == list(range(len(rows)))
        assert not set(rows["customer_id"].iloc[fit]) & set(rows["customer_id"].iloc[held_out])


def test_folds_are_stratified_and_follow_the_seed(train):
    rows = repeat_months(train)
    rates = [
        rows["churned"].iloc[held_out].mean() for _, held_out in models.make_folds(rows, seed=0)
    ]
    assert max(rates) - min(rates) < 0.015
    first, same, other = (models.make_folds(rows, seed)[0][1].tolist() for seed in (0, 0, 1))
    assert first == same != other


def test_churn_in_one_month_stratifies_all_of_a_customers(train):
    rows = repeat_months(train.head(100))
    rows["churned"] = ~rows.duplicated("customer_id") & rows["customer_id"].isin(
        train["customer_id"].head(10)
    )
    churners = [
        rows.loc[held_out].query("churned")["customer_id"].nunique()
        for _, held_out in models.make_folds(rows, 0)
    ]
    assert churners == [2] * 5


def test_predict_unseen_is_close_but_not_equal_to_fitted(fitted, validate):
    probability = models.predict_unseen(fitted, validate, seed=0)
    assert roc_auc_score(validate["churned"], probability) > 0.75
    assert probability.mean() == pytest.approx(validate["churned"].mean(), abs=0.02)
    ranks = np.corrcoef(probability, probability_of(fitted, validate))[0, 1]
    assert ranks > 0.98 and (probability != probability_of(fitted, validate)).any()


def test_a_rows_own_label_does_not_reach_its_probability(fitted, validate, monkeypatch):
    folds = models.make_folds(validate, seed=0)
    monkeypatch.setattr(models, "make_folds", lambda rows, seed: folds)  # they are drawn by label
    before, held_out = models.predict_unseen(fitted, validate, seed=0), folds[2][1]
    churned = validate["churned"].to_numpy().copy()
    churned[held_out] = ~churned[held_out]
    after = models.predict_unseen(fitted, validate.assign(churned=churned), seed=0)
    assert (after[held_out] == before[held_out]).all()
    assert (np.delete(after, held_out) != np.delete(before, held_out)).all()


def test_importance_ranks_the_only_informative_feature_first(train, validate):
    def relabel(rows):
        return rows.assign(churned=rows["tenure"] < 12)

    params = {"family": "logistic_regression", **SMALL["logistic_regression"]}
    model = models.fit_calibrated(params, relabel(train), relabel(validate), seed=0)
    table = models.explain_importance(model, relabel(validate), seed=0)
    assert table["feature"].iloc[0] == "tenure"
    assert table["importance"].iloc[0] > 2 * table["importance"].iloc[1]
    assert sorted(table["feature"]) == sorted(definitions.MODEL_INPUTS)
    assert table["importance"].is_monotonic_decreasing and table["spread"].ge(0).all()


@pytest.mark.parametrize("family", SMALL)
def test_weights_reach_fit_and_calibration(train, validate, family):
    def predict(train, validate):
        params = {"family": family, **SMALL[family]}
        model = models.fit_calibrated(params, train, validate, seed=0)
        return model.predict_proba(model_inputs.select_model_inputs(validate))[:, 1]

    def weigh(rows):
        return rows.assign(weight=np.where(rows["churned"], 3.0, 1.0))

    plain = predict(train, validate)
    ones = predict(train.assign(weight=1.0), validate.assign(weight=1.0))
    assert (ones == plain).all(), "a weight of 1 changes nothing, to the last bit"
    weighted = predict(weigh(train), weigh(validate))
    counts = weigh(validate)["weight"]
    rate = np.average(validate["churned"], weights=counts)
    assert abs(np.average(weighted, weights=counts) - rate) < 0.02, "calibrated on other rows"
    assert weighted.mean() > plain.mean() + 0.1
