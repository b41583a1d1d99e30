"""What the command ``ab-test`` does: start, describe and stop A/B tests, in sentences."""

from __future__ import annotations

import pandas as pd

from churn_utils.errors import UsageError
from churn_utils.features import offline
from churn_utils.registry import aliases, deployments, versions
from churn_utils.serving import ab_test, ab_test_result
from churn_utils.serving.ab_test import AbTest

VERDICTS = {
    ab_test_result.TOO_FEW: (
        "none yet: too few customers whose labels have arrived, "
        f"{ab_test_result.MIN_LABELLED} are needed in each arm."
    ),
    ab_test_result.UNDECIDED: "undecided: the interval of the difference holds 0.",
    ab_test_result.BETTER: "the challenger's decisions are worth more than the champion's.",
    ab_test_result.WORSE: "the challenger's decisions are worth less than the champion's.",
}


def start(
    version: int, as_of: pd.Timestamp | None, share: float = 0.1, mode: str = ab_test.SPLIT
) -> str:
    """Start an A/B test as ``ab_test.start`` does; describe it.

    Simulated today is the day of the newest features if ``as_of`` is None.

    Raises:
        UsageError: another version's A/B test runs, or ``ab_test.start`` refuses it.
        ModelError: no such version.
        DeploymentError: as of ``ab_test.start``.
    """
    versions.read_version(version)
    running = ab_test.read_running()
    if running is not None and running.version != version:
        raise UsageError(f"an A/B test of version {running.version} runs; stop it first.")
    before = aliases.version_with_alias(aliases.CHALLENGER)
    started = ab_test.start(version, as_of or offline.newest_features(), share, mode)
    message = describe(started)
    if before not in (None, version):
        message += f"\nVersion {before} is no longer the challenger."
    return message


def stop(version: int, reason: str) -> str:
    """Stop a version's A/B test and say so.

    Raises:
        UsageError: it has none, or it was stopped before (its reason is kept).
    """
    test = ab_test.read_last(version)
    if test is not None and test.status == ab_test.STOPPED:
        raise UsageError(f"the A/B test of version {version} was stopped before: {test.reason}")
    stopped = ab_test.stop(version, reason)
    return f"The A/B test of version {version} is stopped: {stopped.reason}"


def describe(test: AbTest) -> str:
    """Return a sentence on what an A/B test does."""
    if test.mode == ab_test.SPLIT:
        action = f"answers for {100 * test.share:g}% of the customers"
    else:
        action = "scores beside the champion, and its predictions are recorded, never shown"
    return (
        f"Version {test.version} is in an A/B test against version {test.champion} "
        f"since {test.started}: it {action}."
    )


def describe_status(as_of: pd.Timestamp | None) -> str:
    """Say which A/B test runs, and what the labels that had arrived by a date say of it.

    The date is the day of the newest features if ``as_of`` is None.
    """
    test = ab_test.read_running()
    if test is None:
        champion = deployments.version_in_effect()
        return f"No A/B test runs; the champion is version {champion}.{_describe_ended()}"
    if test.mode == ab_test.SHADOW:
        return f"{describe(test)}\nA shadow has no verdict: its predictions caused no offer."
    as_of = as_of or offline.newest_features()
    return f"{describe(test)}\n{_describe_verdict(test, as_of)}"


def _describe_verdict(test: AbTest, as_of: pd.Timestamp) -> str:
    """Return the verdict with size and worth of each arm and the interval of their difference."""
    result = ab_test_result.evaluate(test, as_of)
    lines = [
        f"Verdict as of {as_of:%Y-%m-%d}: {VERDICTS[result.verdict]}",
        _describe_arm("champion", test.champion, result.champion_customers, result.champion_usd),
        _describe_arm(
            "challenger", test.version, result.challenger_customers, result.challenger_usd
        ),
    ]
    if result.verdict != ab_test_result.TOO_FEW:
        lines.append(
            f"  difference  {result.difference_usd:+.2f} USD per customer, "
            f"{ab_test_result.LEVEL:.0%} interval {result.lower:+.2f} to {result.upper:+.2f}"
        )
    return "\n".join(lines)


def _describe_arm(arm: str, version: int, customers: int, usd: float) -> str:
    """Return a line on the customers of an arm and what its decisions were worth."""
    line = f"  {arm:<10}  version {version}: {customers:,} customers with labels"
    if not customers:
        return line
    return f"{line}, {usd:.2f} USD per customer"


def _describe_ended() -> str:
    """Return a line for each version's A/B test that has ended, the newest version first."""
    lines = []
    for version in versions.list_versions()["version"]:
        test = ab_test.read_last(int(version))
        if test is None:
            continue
        ending = "ended when the champion changed"
        if test.status == ab_test.STOPPED:
            ending = f"stopped: {test.reason}"
        lines.append(
            f"\n  version {test.version} was tested from {test.started} "
            f"against version {test.champion}; {ending}"
        )
    return "".join(lines)
