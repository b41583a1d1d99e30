import dataclasses

import factories
import pandas as pd
import pytest

from churn_utils import settings
from churn_utils.evaluation.economics import Economics
from churn_utils.features import definitions
from churn_utils.registry import artifacts
from churn_utils.validation import performance_checks, record_checks


@pytest.fixture(scope="module")
def candidate(registered_home):
    return performance_checks.Candidate(
        registered_home["version"], factories.AS_OF, None, draws=100, seed=0
    )


def fill(candidate, **parts):
    """The candidate with some of its parts replaced."""
    other = candidate.with_probability(candidate.probability)
    other.__dict__.update(parts)
    return other


def test_other_types_than_the_contracts_fail_the_signature(candidate, monkeypatch):
    schema = artifacts.read_schema(candidate.version)
    assert (
        schema["tenure"] == "long"
        and schema["contract"] == "string"
        and schema["monthly_charges"] == "double"
    )
    monkeypatch.setattr(artifacts, "read_schema", lambda version: schema | {"tenure": "double"})
    found = record_checks.check_signature(candidate)
    assert found["verdict"] == "fail" and found["detail"] == "differs in tenure"
    monkeypatch.setattr(artifacts, "read_schema", lambda version: dict(reversed(schema.items())))
    assert record_checks.check_signature(candidate)["detail"] == "differs in order"


def test_a_model_that_is_not_what_its_record_says_fails_the_lineage(candidate):
    assert record_checks.check_lineage(candidate)["verdict"] == "pass"
    found = record_checks.check_lineage(fill(candidate, probability=candidate.probability + 1e-4))
    assert found["verdict"] == "fail" and "1373 of 1373 probabilities differ" in found["detail"]


def test_code_that_changed_since_training_is_named(candidate, monkeypatch):
    monkeypatch.setattr(record_checks.provenance, "hash_code", lambda: "other")
    assert "changed since training: code_sha256" in record_checks.check_lineage(candidate)["detail"]


def test_labels_of_the_last_month_must_be_there(candidate):
    assert record_checks.check_label_freshness(candidate)["verdict"] == "pass"
    march = dataclasses.replace(candidate, as_of=settings.month_start(2))
    april = dataclasses.replace(candidate, as_of=settings.month_start(3))
    assert record_checks.check_label_freshness(march)["verdict"] == "pass"  # 28 days
    assert record_checks.check_label_freshness(april)["verdict"] == "fail"


def test_a_month_that_lacks_labels_is_not_fresh(candidate):
    part = candidate.labelled.groupby("split").head(1300)
    found = record_checks.check_label_freshness(fill(candidate, labelled=part))
    assert (
        found["verdict"] == "fail"
        and f"for {len(part)} of 7043 customers of 2025-01" in found["detail"]
    )


def test_other_costs_than_those_that_hold_are_refused(candidate):
    assert record_checks.check_economics(candidate)["verdict"] == "pass"
    dearer = dataclasses.replace(candidate, economics=Economics(1000.0, 2000.0))
    found = record_checks.check_economics(dearer)
    assert (
        found["verdict"] == "fail"
        and found["requirement"] == "trained for 1,000 USD an offer, 2,000 USD a churner"
    )


def test_a_customer_on_both_sides_is_a_leak(candidate):
    assert record_checks.check_leakage(candidate)["verdict"] == "pass"
    both = pd.concat([candidate.learned, candidate.rows.head(3)])
    found = record_checks.check_leakage(fill(candidate, learned=both))
    assert found["verdict"] == "fail" and "3 customers in train and test" in found["detail"]


def test_a_label_from_the_future_is_a_leak(candidate):
    late = candidate.learned.assign(label_date=settings.month_start(4))
    found = record_checks.check_leakage(fill(candidate, learned=late))
    assert found["verdict"] == "fail" and "whose label had not arrived" in found["detail"]


def test_an_input_that_is_the_answer_is_a_leak_whatever_its_shape(candidate):
    churned = candidate.rows["churned"]
    values = candidate.rows["monthly_charges"].where(
        ~churned, 77.77
    )  # in the middle: no ranking by size would find it
    found = record_checks.check_leakage(
        fill(candidate, rows=candidate.rows.assign(monthly_charges=values))
    )
    assert found["verdict"] == "fail" and "monthly_charges alone ranks" in found["detail"]


def test_a_figure_that_is_too_good_to_be_true_is_a_leak(candidate):
    perfect = 0.1 + 0.8 * candidate.rows["churned"].to_numpy()
    found = record_checks.check_leakage(candidate.with_probability(perfect))
    assert found["verdict"] == "fail" and "too good to be true" in found["detail"]


def test_inputs_are_ranked_by_what_they_say_alone(candidate):
    alone = record_checks.rank_inputs_alone(candidate.rows)
    assert list(alone.index[:2]) == ["contract", "tenure"] or set(alone.index[:3]) >= {
        "contract",
        "tenure",
    }
    assert set(alone.index) == set(definitions.MODEL_INPUTS)
    assert alone.between(0.5, 0.8).all() and alone["gender"] < 0.53
