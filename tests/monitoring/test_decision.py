import json

import pandas as pd

from churn_utils.monitoring.decision import COLUMNS, OK, Decision, Evidence, Shift
from churn_utils.monitoring.retraining_value import WindowGain
from churn_utils.settings import month_start

GAIN = {
    "from": "2025-04-01",
    "to": "2025-04-01",
    "rows": 4200,
    "gain_usd": 40.0,
    "lower": 20.0,
    "upper": 60.0,
    "newest_gain_usd": 39.0,
    "prior_gain_usd": 5.0,
}
STORED = {
    "champion_version": 3,
    "delivered": 7043,
    "quarantined": 2,
    "shifts": {"tenure": {"psi": 0.3, "use": 0.1}},
    "weighted_psi": 0.03,
    "new_shifts": ["tenure"],
    "standing": {"tenure": 0.3},
    "gains": [GAIN],
    "passed": [],
}


def decide_ok(evidence):
    return Decision(month_start(5), OK, "none", "for a reason", evidence)


def test_evidence_is_stored_in_the_form_of_the_table():
    assert Evidence.model_validate(STORED).to_json() == json.dumps(STORED)


def test_evidence_of_an_older_home_can_be_read():
    older = {name: value for name, value in STORED.items() if name != "passed"}
    evidence = Evidence.model_validate_json(json.dumps(older))
    assert evidence.passed == [] and evidence.shifts == {
        "tenure": Shift(psi=0.3, feature_reliance=0.1)
    }


def test_a_stored_decision_is_read_back_as_it_was():
    decision = decide_ok(Evidence.model_validate(STORED))
    row = decision.to_frame()
    assert list(row.columns) == COLUMNS and len(row) == 1
    assert row[["as_of_date", "feature_month"]].eq(month_start(5)).all(axis=None)
    assert row[["labels_from", "labels_to"]].eq(month_start(3)).all(axis=None)
    assert Decision.from_row(next(row.itertuples())) == decision


def test_the_best_window_has_the_highest_lower_bound():
    gains = [WindowGain(**GAIN | {"lower": lower, "rows": lower}) for lower in (3, 7, 5)]
    evidence = Evidence(champion_version=1, delivered=9, quarantined=0, gains=gains)
    assert evidence.best_window.rows == 7


def test_without_new_labels_there_is_no_window():
    decision = decide_ok(Evidence(champion_version=1, delivered=9, quarantined=0))
    assert decision.evidence.best_window is decision.labels_from is decision.labels_to is None
    assert pd.isna(decision.to_frame()["labels_from"].item())
