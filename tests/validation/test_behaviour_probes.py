import numpy as np
import pandas as pd
import pytest

from churn_utils.data import tables
from churn_utils.features import definitions, model_inputs, offline
from churn_utils.inference import scoring
from churn_utils.registry import artifacts
from churn_utils.validation import behaviour_probes


@pytest.fixture(scope="module")
def rows(registered_home):
    return offline.training_rows(registered_home["training_set"], "test")


@pytest.fixture(scope="module")
def model(registered_home):
    return artifacts.load_model(registered_home["version"])


def test_a_sound_version_passes_every_probe(registered_home, rows):
    results = behaviour_probes.run_behaviour_probes(registered_home["version"], rows, 100)
    expected = scoring.predict_probability(registered_home["model"], rows)
    assert np.allclose(results.probability, expected, rtol=0, atol=1e-12)
    assert results.largest_gap_by_id < 1e-12
    assert results.not_refused == []
    assert results.defects == len(definitions.MODEL_INPUTS) + len(definitions.CATEGORICAL) + len(
        definitions.NUMERICAL
    )
    assert all(0 <= low <= high <= 1 for low, high in results.extremes.values())
    assert 0 <= results.flipped_share < 0.05
    assert 0 < results.compiled_cpu_ms < results.batch_cpu_ms
    assert results.compile_error == ""


def find_unrefused(model, row):
    return behaviour_probes.find_unrefused(model, row, behaviour_probes.list_defects())


def test_a_path_that_scores_or_crashes_is_found(registered_home, rows, monkeypatch):
    real = model_inputs.select_model_inputs

    def lenient(frame, names):
        if frame["senior_citizen"].isna().any():
            raise KeyError("senior_citizen")
        contract = frame["contract"].fillna("One year").replace("?", "One year")
        return real(frame.assign(contract=contract), names)

    inputs = real(rows.head(1))
    monkeypatch.setattr(model_inputs, "select_model_inputs", lenient)
    assert find_unrefused(registered_home["model"], inputs) == [
        "senior_citizen missing (KeyError)",
        "contract missing",
        "unknown contract",
    ]


class CarelessModel:
    """Takes a new category for the first one that it knows, and predicts NaN for infinity."""

    def __init__(self, model):
        self.model = model

    def predict_proba(self, frame):
        known = frame.copy()
        for name, categories in definitions.CATEGORICAL.items():
            known[name] = frame[name].where(frame[name].isin(categories), categories[0])
        numbers = known[definitions.NUMERICAL].astype(float)
        if np.isinf(numbers).any(axis=None) or numbers.isna().any(axis=None):
            return np.full((len(frame), 2), np.nan)
        return self.model.predict_proba(known)


def test_a_model_that_scores_unknown_values_is_found(registered_home, rows):
    row = model_inputs.select_model_inputs(rows.head(1))
    found = find_unrefused(CarelessModel(registered_home["model"]), row)
    assert "unknown contract, by the model itself" in found
    assert "tenure infinite, by the model itself" in found
    assert "contract missing, by the model itself" not in found
    assert "unknown contract" not in found


def test_late_features_are_compared_as_known_then(rows, model):
    """A month whose features came late is scored with those of the month before."""
    late = rows.assign(event_date=rows["event_date"] + pd.DateOffset(months=1))
    assert (late["features_as_of"] < late["event_date"]).all()
    assert behaviour_probes.compare_by_id(model, late) < 1e-12


def test_features_that_differ_in_the_store_are_found(rows, model, monkeypatch):
    real = tables.read

    def read_otherwise(*arguments, **options):
        return real(*arguments, **options).assign(tenure=1, total_charges=50.0)

    monkeypatch.setattr(tables, "read", read_otherwise)
    assert behaviour_probes.compare_by_id(model, rows) > 0.05


def test_decisions_that_change_with_the_bill_count(rows, monkeypatch):
    def jump(model, frame):
        return (100 * frame["monthly_charges"]).astype(int).to_numpy() % 2

    monkeypatch.setattr(scoring, "predict_probability", jump)
    inputs = model_inputs.select_model_inputs(rows)
    assert behaviour_probes.measure_flips(None, inputs, 0.5) > 0.3


def test_time_of_other_processes_does_not_count(rows, monkeypatch):
    def wait(model, frame):
        behaviour_probes.time.sleep(0.02)

    monkeypatch.setattr(scoring, "predict_probability", wait)
    assert behaviour_probes.measure_batch(None, model_inputs.select_model_inputs(rows)) < 10


def test_cpu_time_counts_for_a_thousand_rows(rows, monkeypatch):
    scored = []

    def compute(model, frame):
        scored.append(len(frame))
        end = behaviour_probes.time.process_time() + 0.02
        while behaviour_probes.time.process_time() < end:
            pass

    monkeypatch.setattr(scoring, "predict_probability", compute)
    assert behaviour_probes.measure_batch(None, model_inputs.select_model_inputs(rows)) >= 20
    assert set(scored) == {1000}


def test_a_model_that_cannot_be_compiled_says_why():
    time_ms, error = behaviour_probes.measure_compiled(object(), pd.DataFrame())
    assert time_ms is None
    assert "has no compiled form" in error
