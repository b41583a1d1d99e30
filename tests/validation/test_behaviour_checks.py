import factories
import pytest

from churn_utils.validation import behaviour_checks, performance_checks


@pytest.fixture(scope="module")
def candidate(registered_home):
    return performance_checks.Candidate(
        registered_home["version"], factories.AS_OF, None, draws=100, seed=0
    )


def answer(candidate, **changed):
    """The candidate, had it answered otherwise."""
    other = candidate.with_probability(candidate.probability)
    other.__dict__["answers"] = candidate.answers | changed
    return other


def test_a_sound_version_passes(candidate):
    for check in (
        behaviour_checks.check_prediction,
        behaviour_checks.check_robustness,
        behaviour_checks.check_latency,
    ):
        assert check(candidate)["verdict"] == "pass"


@pytest.mark.parametrize("by_id", [0.01, float("nan")])
def test_other_answers_by_id_fail(candidate, by_id):
    found = behaviour_checks.check_prediction(answer(candidate, by_id=by_id))
    assert found["verdict"] == "fail" and "by id it answers otherwise" in found["detail"]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"answered": ["tenure missing"]}, "answered instead of refused: tenure missing"),
        ({"extremes": {"twenty years": [0.1, float("nan")]}}, "no probability for twenty years"),
        ({"extremes": {"first day": [-0.1, 0.5]}}, "no probability for first day"),
        ({"flips": 0.2}, "1 % on the bill turns 20.0% of decisions"),
    ],
)
def test_what_is_not_robust_is_named(candidate, changed, named):
    found = behaviour_checks.check_robustness(answer(candidate, **changed))
    assert found["verdict"] == "fail" and named in found["detail"]


@pytest.mark.parametrize(
    ("measured", "named"),
    [
        ({"compiled_cpu_ms": 260.0}, "one customer takes 260.0 ms of CPU, at most 5"),
        ({"batch_cpu_ms": 900.0}, "1,000 rows take 900 ms of CPU, at most 250"),
        (
            {"compiled_cpu_ms": None, "not_compiled": "no form"},
            "the API cannot answer with it: no form",
        ),
    ],
)
def test_slow_answers_fail_with_figure_and_limit(candidate, measured, named):
    found = behaviour_checks.check_latency(answer(candidate, **measured))
    assert found["verdict"] == "fail" and found["detail"] == named


def test_fast_answers_leave_the_evidence_the_same(candidate):
    fast, faster = (
        behaviour_checks.check_latency(answer(candidate, batch_cpu_ms=ms)) for ms in (9.1, 3.3)
    )
    assert fast == faster
