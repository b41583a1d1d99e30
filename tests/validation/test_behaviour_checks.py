import dataclasses

import pytest

from churn_utils.validation import behaviour_checks


def with_results(challenger, **changes):
    """Return the challenger as if its probes had found something else."""
    results = dataclasses.replace(challenger.probe_results, **changes)
    return challenger.with_parts(probe_results=results)


@pytest.mark.parametrize("name", ["prediction", "robustness", "latency"])
def test_a_sound_version_behaves(sound_challenger, name):
    check = getattr(behaviour_checks, f"check_{name}")
    assert check(sound_challenger).verdict == "pass"


@pytest.mark.parametrize("gap", [0.01, float("nan")])
def test_other_predictions_by_id_fail(sound_challenger, gap):
    changed = with_results(sound_challenger, largest_gap_by_id=gap)
    found = behaviour_checks.check_prediction(changed)
    assert found.verdict == "fail"
    assert "by id it predicts otherwise" in found.detail


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"not_refused": ["tenure missing"]}, "scored instead of refused: tenure missing"),
        ({"extremes": {"twenty years": (0.1, float("nan"))}}, "no probability for twenty years"),
        ({"extremes": {"first day": (-0.1, 0.5)}}, "no probability for first day"),
        ({"flipped_share": 0.2}, "1 % on the bill changes 20.0% of decisions"),
    ],
)
def test_a_lack_of_robustness_is_named(sound_challenger, changes, named):
    found = behaviour_checks.check_robustness(with_results(sound_challenger, **changes))
    assert found.verdict == "fail"
    assert named in found.detail


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"compiled_cpu_ms": 260.0}, "one customer takes 260.0 ms of CPU, at most 5"),
        ({"batch_cpu_ms": 900.0}, "1,000 rows take 900 ms of CPU, at most 250"),
        (
            {"compiled_cpu_ms": None, "compile_error": "no form"},
            "the API cannot answer with it: no form",
        ),
    ],
)
def test_slow_models_fail_with_figure_and_limit(sound_challenger, changes, detail):
    found = behaviour_checks.check_latency(with_results(sound_challenger, **changes))
    assert found.verdict == "fail"
    assert found.detail == detail


def test_cpu_times_within_limits_leave_evidence_alone(sound_challenger):
    slow = with_results(sound_challenger, batch_cpu_ms=9.1)
    fast = with_results(sound_challenger, batch_cpu_ms=3.3)
    assert behaviour_checks.check_latency(slow) == behaviour_checks.check_latency(fast)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("prediction", {"largest_gap_by_id": behaviour_checks.SAME}),
        ("robustness", {"flipped_share": behaviour_checks.MOST_FLIPS}),
        ("robustness", {"extremes": {"first day": (0.0, 1.0)}}),
        ("latency", {"compiled_cpu_ms": behaviour_checks.MOST_COMPILED_MS}),
        ("latency", {"batch_cpu_ms": behaviour_checks.MOST_BATCH_MS}),
    ],
)
def test_what_lies_at_a_limit_passes(sound_challenger, name, changes):
    check = getattr(behaviour_checks, f"check_{name}")
    assert check(with_results(sound_challenger, **changes)).verdict == "pass"


def test_certain_answers_are_probabilities(sound_challenger):
    probability = sound_challenger.probability.copy()
    probability[:2] = [0.0, 1.0]
    found = behaviour_checks.check_prediction(sound_challenger.with_parts(probability=probability))
    assert found.verdict == "pass"
