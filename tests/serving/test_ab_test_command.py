import factories
import pytest

from churn_utils import cli, settings
from churn_utils.registry import approvals, promotion, versions
from churn_utils.serving import ab_test, ab_test_result
from churn_utils.serving.ab_test_result import AbTestResult


@pytest.fixture
def run(serving_home, monkeypatch, capsys):
    """Run ``ab-test`` in a home with an approved challenger; return exit code, output, errors."""
    monkeypatch.setenv("CHURN_TODAY", "2025-02-01")

    def call(*arguments):
        code = cli.main(["ab-test", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_an_ab_test_is_started_shown_and_stopped(run, serving_home):
    ours, champion = serving_home.challenger, serving_home.predecessor
    code, said, _ = run("start", ours, "--share", 0.2)
    assert (code, ab_test.read_running().share, ab_test.read_running().mode) == (
        0,
        0.2,
        ab_test.SPLIT,
    )
    assert said == (
        f"Version {ours} is in an A/B test against version {champion} since 2025-02-01: "
        "it answers for 20% of the customers.\n"
    )
    code, said, _ = run("status")
    assert (
        code == 0
        and "Verdict as of 2025-02-01: none yet: too few customers" in said
        and "500 are needed" in said
    )
    assert f"challenger  version {ours}: 0 customers with labels" in said and "nan" not in said
    assert run("stop", ours, "--reason", "enough") == (
        0,
        f"The A/B test of version {ours} is stopped: enough\n",
        "",
    )
    assert ab_test.read_running() is None
    code, said, _ = run("status")
    assert said.startswith(
        f"No A/B test runs; the champion is version {champion}.\n  version {ours} was tested from"
    )
    assert code == 0 and "stopped: enough" in said
    code, _, said = run("stop", ours, "--reason", "again")
    assert (
        code == 1
        and "was stopped before: enough" in said
        and ab_test.read_last(ours).reason == "enough"
    )


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            AbTestResult(ab_test_result.WORSE, 9000, 1000, 100.0, 70.5, -30.0, -50.0, -10.0),
            "are worth less",
        ),
        (
            AbTestResult(ab_test_result.BETTER, 9000, 1000, 100.0, 70.5, 30.0, 10.0, 50.0),
            "are worth more",
        ),
        (
            AbTestResult(ab_test_result.UNDECIDED, 9000, 1000, 100.0, 70.5, 3.0, -10.0, 16.0),
            "undecided",
        ),
    ],
)
def test_a_verdict_is_shown_in_words_and_numbers(run, serving_home, monkeypatch, found, words):
    run("start", serving_home.challenger)
    asked = []
    monkeypatch.setattr(
        ab_test_result, "evaluate", lambda test, as_of: asked.append(as_of) or found
    )
    code, said, _ = run("status", "--as-of", "2025-06-01")
    assert code == 0 and words in said and asked == [settings.as_of_date("2025-06-01")]
    assert (
        "9,000 customers with labels, 100.00 USD" in said
        and "1,000 customers with labels, 70.50 USD" in said
    )
    assert (
        f"{found.difference_usd:+.2f} USD per customer, 95% interval {found.lower:+.2f} to" in said
    )


def test_without_a_passed_gate_only_a_shadow_runs(run, serving_home):
    versions.set_tags(serving_home.challenger, {"gate": "fail"})
    code, _, said = run("start", serving_home.challenger)
    assert code == 1 and "has not passed the gate" in said and said.count("\n") == 1
    code, said, _ = run("shadow", serving_home.challenger)
    assert (
        code == 0
        and "recorded, never shown" in said
        and ab_test.read_running().mode == ab_test.SHADOW
    )
    assert "A shadow has no verdict" in run("status")[1]


def test_refusals_give_the_reason(run, serving_home):
    for arguments, message in (
        (("start", serving_home.predecessor), "no other champion"),
        (("shadow", 99), "there is no version 99"),
        (("stop", serving_home.predecessor, "--reason", "x"), "no A/B test to stop"),
    ):
        code, _, said = run(*arguments)
        assert code == 1 and said.startswith("error: ") and message in said


def test_a_running_ab_test_is_not_replaced(run, serving_home):
    run("shadow", serving_home.challenger)
    code, _, said = run("shadow", serving_home.predecessor)
    assert (
        code == 1
        and f"an A/B test of version {serving_home.challenger} runs; stop it first" in said
    )


def test_status_lists_an_ab_test_ended_by_a_promotion(run, serving_home):
    run("start", serving_home.challenger)
    approvals.approve(serving_home.challenger, "Ada", "good", factories.AS_OF)
    promotion.promote(serving_home.challenger, factories.AS_OF)
    assert "ended when the champion changed" in run("status")[1]


def test_today_defaults_to_the_newest_features(run, serving_home, monkeypatch):
    monkeypatch.delenv("CHURN_TODAY")
    run("shadow", serving_home.challenger)
    assert ab_test.read_running().started == "2025-01-01"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["start"],
        ["start", "two"],
        ["stop", "2"],
        ["status", "--as-of", "soon"],
        ["start", "2", "--share", "half"],
        ["start", "2", "--share", "0.7"],
        ["start", "2", "--share", "0"],
        ["start", "2", "--share", "nan"],
        ["stop", "2", "--reason", " "],
    ],
)
def test_wrong_usage_ends_with_2(arguments, home, capsys):
    assert cli.main(["ab-test", *arguments]) == 2
    assert capsys.readouterr().err.startswith("error: ")
