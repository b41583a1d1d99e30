import numpy as np
import pandas as pd
import pytest
from factories import make_scored

from churn_utils import settings
from churn_utils.evaluation.economics import Economics
from churn_utils.monitoring import estimation, performance

ECONOMICS = Economics()
AS_OF = settings.month_start(3)


def estimate(scored, as_of=AS_OF):
    return estimation.estimate_performance(scored, as_of, "2025-03", ECONOMICS)


def measure(scored):
    return performance.measure_performance(scored, AS_OF, "2025-03", ECONOMICS, draws=100)


def compare(*tables):
    return estimation.compare_estimate(pd.concat(tables)).set_index("metric")


def test_the_estimate_agrees_with_labels_of_a_calibrated_model():
    scored = make_scored()
    estimated = estimate(scored.drop(columns="churned"))
    assert list(estimated.columns) == performance.COLUMNS
    assert (estimated["rows_labelled"] == 0).all() and (estimated["rows"] == 4000).all()
    both = compare(estimated, measure(scored))
    assert both.loc[["roc_auc", "value_usd", "brier", "recall"], "inside"].all()
    probability = scored["churn_probability"]
    treated = probability >= ECONOMICS.threshold
    expected = (treated * ECONOMICS.expected_value_usd(probability)).mean()
    value = estimated.set_index("metric").loc["estimated_value_usd", "value"]
    assert value == pytest.approx(expected)


def test_labels_show_what_the_estimate_cannot_see():
    scored = make_scored()
    changed = np.where(np.arange(len(scored)) % 3 == 0, 1.0, scored["churned"])
    both = compare(estimate(scored), measure(scored.assign(churned=changed)))
    assert not both.loc[["roc_auc", "value_usd", "log_loss"], "inside"].any()


def test_the_first_estimate_is_the_forecast():
    scored = make_scored(600)
    later = estimate(scored.assign(churn_probability=0.5), settings.month_start(4))
    both = compare(later, estimate(scored), measure(scored))
    assert (
        both.loc["value_usd", "estimated"]
        != later.set_index("metric").loc["estimated_value_usd", "value"]
    )
    assert len(both) == len(performance.METRICS) - 1  # the calibration error has no estimate


def test_nothing_scored_gives_no_estimate():
    assert estimate(make_scored(1).head(0)).empty
