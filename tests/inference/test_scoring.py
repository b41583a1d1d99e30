import numpy as np
import pytest

from churn_utils.errors import FeatureError
from churn_utils.evaluation.economics import Economics, decide
from churn_utils.features import offline
from churn_utils.inference import scoring
from churn_utils.registry import artifacts, versions


@pytest.fixture(scope="module")
def rows(registered_home):
    return offline.training_rows(registered_home["training_set"], "test")


@pytest.fixture(scope="module")
def version(registered_home):
    return versions.read_version(registered_home["version"])


def test_decision_and_value_follow_from_the_costs(version, rows):
    scores = scoring.score_rows(version, rows)
    assert (scores["threshold"] == 0.25).all()
    assert ((scores["decision"] == "offer") == (scores["churn_probability"] >= 0.25)).all()
    assert np.allclose(scores["expected_value_usd"], 2000 * scores["churn_probability"] - 500)


def test_one_customer_gets_the_decision_of_a_batch():
    economics, probabilities = Economics(300.0, 900.0), np.array([0.0, 1 / 3, 0.33, 0.9])
    decisions, values = decide(probabilities, economics)
    assert decisions.tolist() == ["no_offer", "offer", "no_offer", "offer"]
    alone = [decide(float(probability), economics) for probability in probabilities]
    assert alone == list(zip(decisions.tolist(), values.tolist(), strict=True))


def test_order_and_company_of_rows_do_not_matter(version, rows):
    whole = scoring.score_rows(version, rows)["churn_probability"]
    shuffled = rows.sample(frac=1, random_state=1)
    part = scoring.score_rows(version, shuffled.head(50))["churn_probability"]
    assert np.allclose(part, whole.loc[part.index], rtol=0, atol=1e-12)


def test_bad_rows_are_refused_before_the_model(version, rows):
    with pytest.raises(FeatureError, match="unknown contract"):
        scoring.score_rows(version, rows.assign(contract="Weekly"))


def test_reasons_name_what_raises_the_probability(version, rows):
    model = artifacts.load_model(version.version)
    picked = rows[(rows["tenure"] <= 2) & (rows["contract"] == "Month-to-month")].head(20)
    reasons = scoring.explain_rows(model, picked, rows).to_numpy()
    for row in reasons:
        assert any(text.startswith(("tenure", "contract")) for text in row)
        assert all(text == "" or text.endswith(")") for text in row)


def test_an_effect_is_the_mean_fall_with_other_values(version, rows):
    model = artifacts.load_model(version.version)
    one, background = rows.head(1), rows.tail(3)
    text = scoring.explain_rows(model, one, background)["reason_1"].iloc[0]
    feature = text.split(" = ")[0]
    swapped = one.loc[one.index.repeat(3)].assign(**{feature: background[feature].to_numpy()})
    own = scoring.predict_probability(model, one)[0]
    assert text.endswith(f"({own - scoring.predict_probability(model, swapped).mean():+.2f})")
