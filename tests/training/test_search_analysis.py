import factories
import numpy as np
import optuna
import pytest

from churn_utils.features import offline
from churn_utils.training import models, search, search_analysis


@pytest.fixture(scope="module")
def searched(first_month, tmp_path_factory):
    """A small study, the rows that it saw, and others."""
    train = offline.training_rows(first_month, "train").head(400)
    with factories.at_home(tmp_path_factory.mktemp("searched")):
        study = search.run_study(train, 4, 0, "searched", report=lambda line: None)
        yield study, train, offline.training_rows(first_month, "validate").head(500)


def test_gain_is_measured_over_models_without_a_search(searched):
    study, train, validate = searched
    table = search_analysis.measure_gain(study, train, validate, 0, factories.ECONOMICS, draws=100)
    assert table["model"].tolist() == ["chosen by the search", "default lightgbm", "linear"]
    assert table["fits"].tolist() == [search.trials_table(study)["folds"].sum(), 1, 1]
    assert table.loc[0, ["auc_gain", "auc_gain_lower", "usd_gain_upper"]].tolist() == [0, 0, 0]
    gap = table["roc_auc"].iloc[0] - table["roc_auc"].iloc[1]
    assert table["auc_gain"].iloc[1] == pytest.approx(gap, abs=0.003)
    assert (table["usd_gain_lower"] <= table["usd_gain"]).all()


def test_the_hyperparameter_that_matters_is_ranked_first():
    study = optuna.create_study()
    space = {
        "family": optuna.distributions.CategoricalDistribution(list(models.DEFAULTS)),
        "C": optuna.distributions.FloatDistribution(0, 1),
        "n_knots": optuna.distributions.IntDistribution(2, 8),
    }
    draw = np.random.default_rng(0)
    for _ in range(30):
        params = {
            "family": "logistic_regression",
            "C": draw.uniform(),
            "n_knots": int(draw.integers(2, 9)),
        }
        loss = 0.4 + 0.1 * (params["C"] - 0.5) ** 2
        study.add_trial(
            optuna.trial.create_trial(
                params=params, distributions=space, value=loss, intermediate_values={0: loss}
            )
        )
    ranked = search_analysis.rank_hyperparameters(study, seed=0)
    assert (
        ranked["hyperparameter"].tolist() == ["C", "n_knots"] and ranked["importance"].iloc[0] > 0.8
    )
    sliced = search_analysis.slice_space(study)
    assert (
        len(sliced) == 60
        and sliced["behind"].min() == pytest.approx(0)
        and sliced["behind"].max() < 0.03
    )
