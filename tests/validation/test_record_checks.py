import dataclasses

import factories
import pytest

from churn_utils.evaluation.economics import Economics
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
