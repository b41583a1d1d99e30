import numpy as np
import pytest

from churn_utils.errors import FeatureError
from churn_utils.features import offline
from churn_utils.inference import scoring
from churn_utils.registry import artifacts, versions


@pytest.fixture(scope="module")
def rows(registered_home):
    return offline.training_rows(registered_home["training_set"], "test")


def test_decision_and_value_follow_from_probability_and_costs(registered_home, rows):
    scores = scoring.score_rows(versions.read_version(registered_home["version"]), rows)
    assert (scores["threshold"] == 0.25).all()
    assert ((scores["decision"] == "offer") == (scores["churn_probability"] >= 0.25)).all()
    assert np.allclose(scores["expected_value_usd"], 2000 * scores["churn_probability"] - 500)


def test_the_order_and_company_of_rows_do_not_matter(registered_home, rows):
    whole = scoring.score_rows(versions.read_version(registered_home["version"]), rows)[
        "churn_probability"
    ]
    shuffled = rows.sample(frac=1, random_state=1)
    part = scoring.score_rows(versions.read_version(registered_home["version"]), shuffled.head(50))[
        "churn_probability"
    ]
    assert np.allclose(part, whole.loc[part.index], rtol=0, atol=1e-12)


def test_bad_rows_are_refused_before_the_model_sees_them(registered_home, rows):
    with pytest.raises(FeatureError, match="unknown contract"):
        scoring.score_rows(
            versions.read_version(registered_home["version"]), rows.assign(contract="Weekly")
        )


def test_reasons_name_what_raises_the_probability_most(registered_home, rows):
    model = artifacts.load_model(registered_home["version"])
    picked = rows[(rows["tenure"] <= 2) & (rows["contract"] == "Month-to-month")].head(20)
    reasons = scoring.explain_rows(model, picked, rows)
    named = set(reasons.to_numpy().ravel().astype(str))
    assert all(
        any(text.startswith(("tenure", "contract")) for text in row) for row in reasons.to_numpy()
    )
    assert all(text == "" or text.endswith(")") for text in named)


def test_a_reasons_effect_is_the_mean_fall_when_that_feature_is_another_customers(
    registered_home, rows
):
    model = artifacts.load_model(registered_home["version"])
    one, background = rows.head(1), rows.tail(3)
    text = scoring.explain_rows(model, one, background)["reason_1"].iloc[0]
    feature = text.split(" = ")[0]
    swapped = one.loc[one.index.repeat(3)].assign(**{feature: background[feature].to_numpy()})
    own = scoring.predict_probability(model, one)[0]
    assert text.endswith(f"({own - scoring.predict_probability(model, swapped).mean():+.2f})")
