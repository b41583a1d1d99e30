import math

import factories
import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.isotonic import IsotonicRegression

from churn_utils.errors import ModelError
from churn_utils.features import definitions, model_inputs, offline
from churn_utils.inference import compiled as compiled_form
from churn_utils.inference import compiled_families, scoring
from churn_utils.registry import artifacts, versions
from churn_utils.training import models as training_models

FAMILIES = list(training_models.DEFAULTS)


@pytest.fixture(scope="module")
def models(first_month):
    return {
        name: factories.fit_model(first_month, {"family": name, **training_models.DEFAULTS[name]})
        for name in FAMILIES
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_a_compiled_form_predicts_as_its_model(models, first_month, family):
    inputs = model_inputs.select_model_inputs(first_month)
    compiled = compiled_form.compile_model(models[family])
    fast = [compiled(values) for values in compiled_form.rows_as_tuples(inputs)]
    own = scoring.predict_probability(models[family], inputs)
    assert len(fast) == 7043 and np.abs(own - fast).max() <= 1e-12


@pytest.mark.parametrize("family", FAMILIES)
def test_it_agrees_beyond_the_trained_range(models, first_month, family):
    compiled = compiled_form.compile_model(models[family])
    assert (
        compiled_form.compare_forms(models[family], compiled, first_month.head(5), seed=7) <= 1e-12
    )


@pytest.mark.parametrize("family", ["lightgbm", "random_forest"])
def test_it_survives_the_registry(registered_home, models, family):
    params = {"family": family, **training_models.DEFAULTS[family]}
    version = factories.register_model(
        registered_home["training_set"], models[family], params=params
    )
    row = compiled_form.draw_random_rows(1, 3)
    compiled = compiled_form.load_compiled(versions.read_version(version))
    assert (
        compiled(compiled_form.rows_as_tuples(row)[0])
        == scoring.predict_probability(models[family], row)[0]
    )


@pytest.mark.parametrize("wrong", [lambda p: p + 2e-6, lambda p: 1 - p, lambda p: math.nan])
def test_a_form_that_differs_is_refused(models, first_month, wrong):
    compiled = compiled_form.compile_model(models["logistic_regression"])
    with pytest.raises(ModelError, match="differs by up to"):
        compiled_form.compare_forms(
            models["logistic_regression"],
            lambda values: wrong(compiled(values)),
            first_month.head(5),
        )


def test_a_difference_on_the_example_alone_is_found(models, first_month):
    model, example = models["logistic_regression"], first_month.head(1)
    compiled = compiled_form.compile_model(model)
    own = compiled_form.rows_as_tuples(model_inputs.select_model_inputs(example))[0]
    with pytest.raises(ModelError):
        compiled_form.compare_forms(
            model, lambda values: compiled(values) + (values == own), example
        )


def test_a_model_without_a_compiled_form_is_refused(models):
    with pytest.raises(ModelError, match="DummyClassifier has no compiled form"):
        compiled_form.compile_model(DummyClassifier())
    calibrated = models["random_forest"].calibrated_classifiers_[0]
    kept, calibrated.calibrators = calibrated.calibrators, [IsotonicRegression()]
    with pytest.raises(ModelError, match="has no compiled form"):
        compiled_form.compile_model(models["random_forest"])
    calibrated.calibrators = kept


def read_additive_parts(model):
    """Return the encoder, one-hot part and splines of a logistic regression, with their inputs."""
    pipeline = model.calibrated_classifiers_[0].estimator.estimator
    parts = {name: (part, inputs) for name, part, inputs in pipeline[-1][0].transformers_}
    return pipeline[0], parts["one_hot"], parts["splines"]


def test_weights_that_do_not_fit_the_categories_are_refused(models):
    encoder, (one_hot, names), _ = read_additive_parts(models["logistic_regression"])
    codes = compiled_families.read_codes(encoder)
    for count in (1, 100):
        with pytest.raises(ModelError, match=f"categories and {count} weights"):
            compiled_families.category_terms(one_hot, names, np.ones(count), codes)


def test_splines_that_grow_beyond_the_data_are_refused(models, monkeypatch):
    _, _, (transformer, names) = read_additive_parts(models["logistic_regression"])
    monkeypatch.setattr(transformer[-1], "extrapolation", "linear")
    with pytest.raises(ModelError, match="extrapolation 'linear'"):
        compiled_families.spline_terms(transformer, names, np.ones(100))


def test_random_rows_span_the_contract():
    rows = compiled_form.draw_random_rows(500, 1)
    assert list(rows) == list(definitions.MODEL_INPUTS)
    assert all(set(rows[name]) == set(known) for name, known in definitions.CATEGORICAL.items())
    assert rows["tenure"].min() == 0 and rows["monthly_charges"].max() > 400


def test_the_logged_example_is_read(registered_home):
    example = artifacts.read_example(registered_home["version"])
    train = offline.training_rows(registered_home["training_set"], "train")
    assert example["tenure"].tolist() == train["tenure"].head(5).tolist()
