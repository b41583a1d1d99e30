import numpy as np
import pandas as pd
import pytest

from churn_utils.data import tables
from churn_utils.features import definitions, offline
from churn_utils.inference import scoring
from churn_utils.registry import artifacts
from churn_utils.validation import behaviour_probes


@pytest.fixture(scope="module")
def rows(registered_home):
    return offline.training_rows(registered_home["training_set"], "test")


@pytest.fixture(scope="module")
def answers(registered_home, rows):
    return behaviour_probes.ask(registered_home["version"], rows, 100)


def test_a_sound_version_answers_every_question(answers, rows, registered_home):
    expected = scoring.predict_probability(registered_home["model"], rows)
    assert np.allclose(answers["probability"], expected, rtol=0, atol=1e-12)
    assert answers["by_id"] < 1e-12 and answers["answered"] == []
    assert answers["defects"] == len(definitions.MODEL_INPUTS) + len(definitions.CATEGORICAL) + len(
        definitions.NUMERICAL
    )
    assert all(0 <= low <= high <= 1 for low, high in answers["extremes"].values())
    assert 0 <= answers["flips"] < 0.05
    assert (
        0 < answers["compiled_cpu_ms"] < answers["batch_cpu_ms"] and answers["not_compiled"] == ""
    )


def test_a_path_that_answers_or_crashes_where_it_should_refuse_is_found(
    registered_home, rows, monkeypatch
):
    real = definitions.select_model_inputs

    def lenient(frame):
        if frame["senior_citizen"].isna().any():
            raise KeyError("senior_citizen")
        return real(
            frame.assign(contract=frame["contract"].fillna("One year").replace("?", "One year"))
        )

    model, inputs = registered_home["model"], real(rows.head(1))
    monkeypatch.setattr(definitions, "select_model_inputs", lenient)
    answered, _ = behaviour_probes._offer_defects(model, inputs)
    assert answered == ["senior_citizen missing (KeyError)", "contract missing", "unknown contract"]


def test_a_model_that_answers_for_what_it_never_saw_is_found(rows, registered_home):
    """Its encoder takes any new category for the first one it knows, and its estimator knows no infinity."""

    class Careless:
        def predict_proba(self, frame):
            known = frame.assign(
                **{
                    n: frame[n].where(frame[n].isin(c), c[0])
                    for n, c in definitions.CATEGORICAL.items()
                }
            )
            finite = (
                known[definitions.NUMERICAL]
                .astype(float)
                .replace(np.inf, np.nan)
                .notna()
                .all(axis=None)
            )
            return (
                registered_home["model"].predict_proba(known)
                if finite
                else np.full((len(frame), 2), np.nan)
            )

    answered, _ = behaviour_probes._offer_defects(
        Careless(), definitions.select_model_inputs(rows.head(1))
    )
    assert (
        "unknown contract, by the model itself" in answered
        and "tenure infinite, by the model itself" in answered
    )
    assert (
        "contract missing, by the model itself" not in answered
        and "unknown contract" not in answered
    )


def test_a_month_whose_features_came_late_is_compared_with_what_was_known(rows, registered_home):
    """Its customers are judged by the month before, so that month must be looked up; none has both."""
    late = rows.assign(event_date=rows["event_date"] + pd.DateOffset(months=1))
    assert (late["features_as_of"] < late["event_date"]).all()
    assert (
        behaviour_probes._compare_by_id(artifacts.load_model(registered_home["version"]), late)
        < 1e-12
    )


def test_features_that_the_store_tells_otherwise_are_found(registered_home, rows, monkeypatch):
    real = tables.read
    monkeypatch.setattr(
        tables, "read", lambda *a, **k: real(*a, **k).assign(tenure=1, total_charges=50.0)
    )
    assert (
        behaviour_probes._compare_by_id(artifacts.load_model(registered_home["version"]), rows)
        > 0.05
    )


def test_jumpy_decisions_are_counted(registered_home, rows, monkeypatch):
    def jump(model, frame):
        return (100 * frame["monthly_charges"]).astype(int).to_numpy() % 2

    monkeypatch.setattr(scoring, "predict_probability", jump)
    assert behaviour_probes._count_flips(None, definitions.select_model_inputs(rows), 0.5) > 0.3


def test_time_in_which_others_use_the_processor_does_not_count(registered_home, rows, monkeypatch):
    inputs = definitions.select_model_inputs(rows)
    monkeypatch.setattr(
        scoring, "predict_probability", lambda model, frame: behaviour_probes.time.sleep(0.02)
    )
    assert behaviour_probes.measure_batch(None, inputs) < 10


def test_cpu_of_a_slow_model_counts_for_a_thousand_rows(rows, monkeypatch):
    asked = []

    def compute(model, frame):
        asked.append(len(frame))
        end = behaviour_probes.time.process_time() + 0.02
        while behaviour_probes.time.process_time() < end:
            pass

    monkeypatch.setattr(scoring, "predict_probability", compute)
    assert behaviour_probes.measure_batch(None, definitions.select_model_inputs(rows)) >= 20
    assert set(asked) == {1000}


def test_a_model_that_the_api_cannot_compile_is_said():
    assert (
        "has no compiled form" in behaviour_probes._measure_compiled(object(), None)["not_compiled"]
    )
