import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss, roc_auc_score
from skops.io import dumps, loads

from churn_utils import feature_store, features, training
from churn_utils.tracking import TRUSTED_TYPES
from churn_utils.training import TrainingError

SMALL = {
    "logistic_regression": {"C": 1.0, "n_knots": 4},
    "lightgbm": {"n_estimators": 25, "learning_rate": 0.1, "num_leaves": 4, "min_child_samples": 20},
    "random_forest": {"min_samples_leaf": 4, "max_features": 0.3},
}


@pytest.fixture(scope="module")
def train(first_month):
    return feature_store.training_rows(first_month, "train").head(500)


@pytest.fixture(scope="module")
def validate(first_month):
    return feature_store.training_rows(first_month, "validate").head(500)


@pytest.fixture(scope="module", params=SMALL)
def fitted(request, train, validate):
    """A small calibrated model of every family."""
    return training.fit_calibrated({"family": request.param, **SMALL[request.param]}, train, validate, seed=0)


def probability_of(model, rows):
    return model.predict_proba(features.select_model_inputs(rows))[:, 1]


def run_study(rows, n_trials, name="study", seed=7):
    lines = []
    return training.run_study(rows, n_trials, seed, name, report=lines.append), lines


def repeat_months(rows, months=3):
    """Every customer in several months, shuffled."""
    return pd.concat([rows] * months).sample(frac=1, random_state=0).reset_index(drop=True)


def test_every_family_learns_and_comes_back_from_skops_with_equal_probabilities(fitted, validate):
    probability = probability_of(fitted, validate)
    assert roc_auc_score(validate["churned"], probability) > 0.75
    again = loads(dumps(fitted), trusted=TRUSTED_TYPES)
    assert (probability_of(again, validate) == probability).all()


def test_calibration_makes_the_mean_probability_the_churn_rate_of_validate(fitted, validate):
    assert probability_of(fitted, validate).mean() == pytest.approx(validate["churned"].mean(), abs=0.01)


def test_calibration_is_learned_on_validate_alone(train, validate):
    params = {"family": "logistic_regression", **SMALL["logistic_regression"]}
    honest = training.fit_calibrated(params, train, validate, seed=0)
    inverted = training.fit_calibrated(params, train, validate.assign(churned=~validate["churned"]), seed=0)
    assert roc_auc_score(validate["churned"], probability_of(inverted, validate)) < 0.25
    inputs = features.select_model_inputs(validate)
    assert (inverted.estimator.decision_function(inputs) == honest.estimator.decision_function(inputs)).all()


def test_fitting_twice_gives_the_same_model(fitted, train, validate):
    pipeline = fitted.estimator.estimator
    family = {"Pipeline": "logistic_regression", "LGBMClassifier": "lightgbm"}.get(type(pipeline[-1]).__name__)
    family = family or "random_forest"
    again = training.fit_calibrated({"family": family, **SMALL[family]}, train, validate, seed=0)
    assert probability_of(again, validate) == pytest.approx(probability_of(fitted, validate), rel=1e-12)


def test_codes_are_those_of_the_contract_whatever_the_rows_hold(train):
    women = features.select_model_inputs(train[train["contract"] == "Two year"])
    encoded = training.build_encoder().fit_transform(women)
    assert set(encoded["contract"]) == {features.CATEGORICAL["contract"].index("Two year")}
    assert set(encoded.columns) == set(features.MODEL_INPUTS)
    assert encoded["tenure"].tolist() == women["tenure"].tolist()


@pytest.mark.parametrize("params", [{"family": "crystal_ball"}, {"C": 1.0}])
def test_an_unknown_family_is_refused_with_the_known_ones(params):
    with pytest.raises(TrainingError, match="families are logistic_regression, lightgbm, random_forest"):
        training.build_model(params, seed=0)


def test_folds_cover_each_row_once_and_keep_a_customers_months_together(train):
    rows = repeat_months(train)
    folds = training.make_folds(rows, seed=0)
    assert len(folds) == 5
    assert sorted(np.concatenate([held_out for _, held_out in folds])) == list(range(len(rows)))
    for fit, held_out in folds:
        assert sorted([*fit, *held_out]) == list(range(len(rows)))
        assert not set(rows["customer_id"].iloc[fit]) & set(rows["customer_id"].iloc[held_out])


def test_folds_hold_the_same_share_of_churners_and_follow_the_seed(train):
    rows = repeat_months(train)
    rates = [rows["churned"].iloc[held_out].mean() for _, held_out in training.make_folds(rows, seed=0)]
    assert max(rates) - min(rates) < 0.015
    first, same, other = (training.make_folds(rows, seed)[0][1].tolist() for seed in (0, 0, 1))
    assert first == same != other


def test_a_customer_who_churned_in_one_month_counts_as_a_churner_in_all(train):
    rows = repeat_months(train.head(100))
    rows["churned"] = ~rows.duplicated("customer_id") & rows["customer_id"].isin(train["customer_id"].head(10))
    churners = [
        rows.loc[held_out].query("churned")["customer_id"].nunique() for _, held_out in training.make_folds(rows, 0)
    ]
    assert churners == [2] * 5


@pytest.fixture(scope="module")
def searches(tmp_path_factory, train):
    """A search of four trials that went on to six, and one of four in another home."""
    rows = train.head(250)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHURN_HOME", str(tmp_path_factory.mktemp("resumed")))
        study, lines = run_study(rows, 4)
        before = training.trials_table(study)
        resumed, _ = run_study(rows, 6)
        again, silence = run_study(rows, 6)
        patch.setenv("CHURN_HOME", str(tmp_path_factory.mktemp("elsewhere")))
        elsewhere, _ = run_study(rows, 4)
    assert len(again.trials) == 6 and silence == []
    return {"before": before, "lines": lines, "resumed": resumed, "elsewhere": elsewhere}


def test_the_search_starts_with_each_familys_default(searches):
    assert [trial.params for trial in searches["resumed"].trials[:3]] == [
        {"family": family, **params} for family, params in training.DEFAULTS.items()
    ]


def test_a_warm_start_is_tried_first_and_once(home, train):
    known = {"family": "logistic_regression", "C": 3.0, "n_knots": 3}
    study = training.run_study(train, 4, 7, "warm", report=lambda line: None, warm_start=known)
    assert study.trials[0].params == known
    default = {"family": "lightgbm", **training.DEFAULTS["lightgbm"]}
    study = training.run_study(train, 3, 7, "warm default", report=lambda line: None, warm_start=default)
    assert [trial.params for trial in study.trials].count(default) == 1 and len(study.trials) == 3


def test_every_new_best_is_reported(searches):
    before, lines = searches["before"], searches["lines"]
    assert len(lines) == before["best_so_far"].nunique() >= 1
    best = before.loc[before["log_loss"].idxmin()]
    assert lines[-1] == f"trial {best['trial']:>3} of 4: log loss {best['log_loss']:.4f}  {best['family']}"


def test_the_same_seed_finds_the_same_in_two_homes(searches):
    before, elsewhere = searches["before"], searches["elsewhere"]
    tried = [trial.params for trial in searches["resumed"].trials[:4]]
    assert [trial.params for trial in elsewhere.trials] == tried
    losses = training.trials_table(elsewhere)["log_loss"].tolist()
    assert losses == pytest.approx(before["log_loss"].tolist(), nan_ok=True)
    assert training.best_params(elsewhere) == tried[before["log_loss"].idxmin()]


def test_a_study_goes_on_where_it_stopped(searches):
    after = training.trials_table(searches["resumed"])
    assert len(searches["before"]) == 4 and len(after) == 6
    pd.testing.assert_frame_equal(after.head(4), searches["before"])
    assert set(after["state"]) <= {"complete", "pruned"}


def test_a_study_that_goes_on_tries_something_new(searches):
    tried = [str(sorted(trial.params.items())) for trial in searches["resumed"].trials]
    assert len(set(tried)) == 6


def test_trials_table_says_what_became_of_each_trial(searches):
    study = searches["resumed"]
    table = training.trials_table(study)
    complete = table["state"] == "complete"
    assert table["trial"].tolist() == [1, 2, 3, 4, 5, 6]
    assert table.loc[complete, "folds"].eq(5).all() and table.loc[~complete, "folds"].between(1, 4).all()
    assert table.loc[complete, "log_loss"].notna().all() and table.loc[~complete, "log_loss"].isna().all()
    assert table["best_so_far"].is_monotonic_decreasing
    assert table["best_so_far"].iloc[-1] == table["log_loss"].min() == study.best_value
    assert table.loc[table["log_loss"].idxmin(), "family"] == training.best_params(study)["family"]


def test_the_best_log_loss_is_that_of_cross_validation(searches, train):
    study = searches["resumed"]
    rows, params = train.head(250), training.best_params(study)
    inputs, churned = features.select_model_inputs(rows), rows["churned"].to_numpy()
    losses = [
        log_loss(
            churned[held_out],
            training.build_model(params, 7).fit(inputs.iloc[fit], churned[fit]).predict_proba(inputs.iloc[held_out]),
        )
        for fit, held_out in training.make_folds(rows, 7)
    ]
    assert study.best_value == pytest.approx(np.mean(losses))


def test_too_few_trials_are_refused_before_anything_is_written(home, train):
    with pytest.raises(TrainingError, match="n_trials is 2; at least 3 are needed"):
        run_study(train, 2)
    assert not home.exists()


def test_out_of_fold_probabilities_are_honest_and_calibrated(fitted, train):
    probability = training.out_of_fold(fitted, train, seed=0)
    rate = train["churned"].mean()
    assert roc_auc_score(train["churned"], probability) > 0.75
    assert probability.mean() == pytest.approx(rate, abs=0.05)
    assert log_loss(train["churned"], probability) < log_loss(train["churned"], np.full(len(train), rate)) - 0.05


def test_out_of_fold_cannot_know_a_rows_own_label_nor_that_of_its_other_months(train, validate):
    customers = train.assign(churned=train["churned"].sample(frac=1, random_state=0).to_numpy())
    rows = repeat_months(customers)
    model = training.fit_calibrated({"family": "random_forest", **SMALL["random_forest"]}, rows, validate, seed=0)
    learned_by_heart = model.estimator.predict_proba(features.select_model_inputs(rows))[:, 1]
    assert roc_auc_score(rows["churned"], learned_by_heart) > 0.95
    assert 0.42 < roc_auc_score(rows["churned"], training.out_of_fold(model, rows, seed=0)) < 0.58


def test_importance_ranks_the_only_informative_feature_first(train, validate):
    def relabel(rows):
        return rows.assign(churned=rows["tenure"] < 12)

    params = {"family": "logistic_regression", **SMALL["logistic_regression"]}
    model = training.fit_calibrated(params, relabel(train), relabel(validate), seed=0)
    table = training.explain_importance(model, relabel(validate), seed=0)
    assert table["feature"].iloc[0] == "tenure"
    assert table["importance"].iloc[0] > 2 * table["importance"].iloc[1]
    assert sorted(table["feature"]) == sorted(features.MODEL_INPUTS)
    assert table["importance"].is_monotonic_decreasing and table["spread"].ge(0).all()


def test_a_search_that_was_killed_in_a_trial_goes_on_to_its_full_number(home, train):
    study = training.run_study(train, 3, 0, "cut off", report=lambda line: None)
    study.ask()  # a trial that nobody will ever finish, as a kill leaves it
    study = training.run_study(train, 5, 0, "cut off", report=lambda line: None)
    assert len(training.trials_table(study)) == 5
    assert all(trial.state.is_finished() for trial in study.trials)
    again = training.run_study(train, 5, 0, "cut off", report=lambda line: None)
    assert len(training.trials_table(again)) == 5
