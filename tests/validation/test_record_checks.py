import dataclasses

import factories
import pandas as pd
import pytest

from churn_utils import settings
from churn_utils.evaluation.economics import Economics
from churn_utils.features import definitions
from churn_utils.registry import artifacts, versions
from churn_utils.validation import record_checks


def test_an_empty_description_fails(registered_home, sound_challenger):
    bare = factories.register_model(
        registered_home["training_set"], registered_home["model"], "A model."
    )
    challenger = dataclasses.replace(sound_challenger, version=bare)
    found = record_checks.check_documentation(challenger)
    assert found.verdict == "fail" and "data, purpose, threshold" in found.detail


def test_a_missing_artifact_fails(sound_challenger, monkeypatch):
    logged = ["feature_contract.json", "importance.json"]
    monkeypatch.setattr(versions, "list_artifacts", lambda version: logged)
    found = record_checks.check_artifacts(sound_challenger)
    assert found.verdict == "fail" and "figures.html" in found.detail


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        (lambda schema: schema | {"shoe_size": "double"}, "differs in shoe_size"),
        (lambda schema: schema | {"tenure": "double"}, "differs in tenure"),
        (lambda schema: dict(reversed(schema.items())), "differs in order"),
    ],
    ids=["name", "type", "order"],
)
def test_other_inputs_fail_the_signature(sound_challenger, monkeypatch, change, detail):
    schema = artifacts.read_schema(sound_challenger.version)
    assert [schema[name] for name in ("tenure", "contract", "monthly_charges")] == [
        *("long", "string", "double")
    ]
    monkeypatch.setattr(artifacts, "read_schema", lambda version: change(schema))
    found = record_checks.check_signature(sound_challenger)
    assert found.verdict == "fail" and found.detail == detail


def test_a_model_that_differs_from_its_record_fails(sound_challenger):
    assert record_checks.check_lineage(sound_challenger).verdict == "pass"
    other = sound_challenger.with_parts(probability=sound_challenger.probability + 1e-4)
    found = record_checks.check_lineage(other)
    assert found.verdict == "fail" and "1373 of 1373 probabilities differ" in found.detail


def test_code_changed_since_training_is_named(sound_challenger, monkeypatch):
    monkeypatch.setattr(record_checks.provenance, "hash_code", lambda: "other")
    found = record_checks.check_lineage(sound_challenger)
    assert "changed since training: code_sha256" in found.detail


def test_other_costs_than_todays_are_refused(sound_challenger):
    assert record_checks.check_economics(sound_challenger).verdict == "pass"
    dearer = sound_challenger.with_parts(economics=Economics(1000.0, 2000.0))
    found = record_checks.check_economics(dearer)
    assert found.verdict == "fail"
    assert found.requirement == "trained for 1,000 USD an offer, 2,000 USD a churner"


# --- the data behind it


def test_labels_of_the_last_month_must_be_there(sound_challenger):
    march = sound_challenger.with_parts(as_of=settings.month_start(2))
    april = sound_challenger.with_parts(as_of=settings.month_start(3))
    assert record_checks.check_label_freshness(sound_challenger).verdict == "pass"
    assert record_checks.check_label_freshness(march).verdict == "pass"  # 28 days
    assert record_checks.check_label_freshness(april).verdict == "fail"


@pytest.mark.parametrize(("days", "verdict"), [(31, "pass"), (32, "fail")])
def test_labels_may_be_31_days_old(sound_challenger, days, verdict):
    later = sound_challenger.with_parts(as_of=factories.AS_OF + pd.Timedelta(days=days))
    assert record_checks.check_label_freshness(later).verdict == verdict


def test_a_month_with_just_enough_labels_is_fresh(sound_challenger, monkeypatch):
    monkeypatch.setattr(record_checks, "MIN_LABELLED_SHARE", 1.0)
    found = record_checks.check_label_freshness(sound_challenger)
    assert found.verdict == "pass" and "for 7043 of 7043 customers" in found.detail


def test_a_month_that_lacks_labels_is_not_fresh(sound_challenger):
    part = sound_challenger.labelled.groupby("split").head(1300)
    found = record_checks.check_label_freshness(sound_challenger.with_parts(labelled=part))
    assert found.verdict == "fail"
    assert f"for {len(part)} of 7043 customers of 2025-01" in found.detail


def test_a_customer_on_both_sides_is_a_leak(sound_challenger):
    assert record_checks.check_leakage(sound_challenger).verdict == "pass"
    both = pd.concat([sound_challenger.learned, sound_challenger.rows.head(3)])
    found = record_checks.check_leakage(sound_challenger.with_parts(learned=both))
    assert found.verdict == "fail" and "3 customers in train and test" in found.detail


def test_a_label_from_the_future_is_a_leak(sound_challenger):
    late = sound_challenger.learned.assign(label_date=settings.month_start(4))
    found = record_checks.check_leakage(sound_challenger.with_parts(learned=late))
    assert found.verdict == "fail" and "whose label had not arrived" in found.detail


def test_an_input_that_is_the_answer_is_a_leak(sound_challenger):
    """The value lies in the middle of the range: no ranking by size would find it."""
    rows = sound_challenger.rows
    values = rows["monthly_charges"].where(~rows["churned"], 77.77)
    leaky = sound_challenger.with_parts(rows=rows.assign(monthly_charges=values))
    found = record_checks.check_leakage(leaky)
    assert found.verdict == "fail" and "monthly_charges alone ranks" in found.detail


def test_a_figure_too_good_to_be_true_is_a_leak(sound_challenger):
    perfect = 0.1 + 0.8 * sound_challenger.rows["churned"].to_numpy()
    found = record_checks.check_leakage(sound_challenger.with_parts(probability=perfect))
    assert found.verdict == "fail" and "too good to be true" in found.detail


def test_inputs_are_ranked_by_what_they_say_alone(sound_challenger):
    alone = record_checks.rank_inputs_alone(sound_challenger.rows)
    assert list(alone.index[:2]) == ["contract", "tenure"] or set(alone.index[:3]) >= {
        "contract",
        "tenure",
    }
    assert set(alone.index) == set(definitions.MODEL_INPUTS)
    assert alone.between(0.5, 0.8).all() and alone["gender"] < 0.53
