"""A/B tests of a challenger on live traffic: start, find and stop one.

In a *split* the challenger serves a share of the customers, always the same ones. It needs a passed
gate and an approval of scope ``trial`` or ``champion``. In the *shadow* it scores every customer
beside the champion; its scores are logged and never returned, so any version may run there.

An A/B test is stored as a tag of its version, so the API finds it in the registry. The tag and the
approval scope are called ``trial``.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

import pandas as pd

from churn_utils.data import home_ledger
from churn_utils.data.home_ledger import VERSION
from churn_utils.errors import DeploymentError, UsageError
from churn_utils.registry import aliases, approval_checks, deployments, replacement, versions
from churn_utils.registry.approval_checks import Approval
from churn_utils.registry.gate_evidence import GateEvidence

SPLIT, SHADOW = "split", "shadow"  # modes; a shadow's predictions are logged as an arm of that name
CHAMPION, CHALLENGER = "champion", "challenger"  # arms
RUNNING, STOPPED = "running", "stopped"
TAG = "trial"
LARGEST_SHARE = 0.5


@dataclass(frozen=True)
class AbTest:
    """A challenger that runs beside the champion; the fields are those of the stored tag."""

    version: int  # the challenger
    champion: int  # the version that it is compared with
    mode: str  # split or shadow
    share: float  # of the customers that the challenger serves in a split: 0 < share <= 0.5
    started: str  # simulated date of the start, YYYY-MM-DD
    started_at: str  # real time of the start in UTC; earlier predictions do not count
    status: str = RUNNING
    reason: str = ""  # why it was stopped

    def includes(self, customer_id: str) -> bool:
        """Tell whether a customer belongs to the challenger's share; it never changes in a test."""
        salt = f"{self.champion}:{self.version}".encode()  # another test draws other customers
        digest = hashlib.blake2b(customer_id.encode(), digest_size=8, key=salt).digest()
        drawn = int.from_bytes(digest)
        return drawn < self.share * 2**64


def check_share(share: float) -> None:
    """Raise UsageError unless a share of the customers is above 0 and at most 0.5."""
    if not 0 < share <= LARGEST_SHARE:
        raise UsageError(
            f"share is {share}; it must be above 0 and at most {LARGEST_SHARE}, so that most "
            "customers stay with the champion."
        )


def start(version: int, as_of: pd.Timestamp, share: float = 0.1, mode: str = SPLIT) -> AbTest:
    """Start an A/B test of a version against the champion in effect; it becomes the challenger.

    Args:
        version: the challenger.
        as_of: simulated today.
        share: of the customers, above 0 and at most 0.5; without meaning in the shadow.
        mode: ``split`` or ``shadow``.

    Raises:
        UsageError: no champion, the champion itself, an unknown mode, or a share out of range.
        DeploymentError: a split without a passed gate or a valid approval, or on evidence that
            would not allow a promotion.
    """
    champion = deployments.version_in_effect()
    if champion is None or champion == version:
        raise UsageError(
            f"version {version} has no other champion to be tested against (champion: {champion})."
        )
    if mode not in (SPLIT, SHADOW):
        raise UsageError(
            f"there is no mode {mode!r}; an A/B test is a {SPLIT} or runs in the {SHADOW}."
        )
    check_share(share)
    if mode == SPLIT:
        _, evidence = check_may_serve(version, as_of)
        info = versions.read_version(version)
        history = deployments.list_deployments()
        replacement.check_may_replace(info, evidence, as_of, history)
    started = AbTest(
        version=version,
        champion=champion,
        mode=mode,
        share=share,
        started=f"{as_of:%Y-%m-%d}",
        started_at=datetime.now(UTC).isoformat(),
    )
    _store(started)
    aliases.set_challenger(version)
    return started


def check_may_serve(version: int, as_of: pd.Timestamp) -> tuple[Approval, GateEvidence]:
    """Check that a challenger may serve customers on a date.

    Returns:
        Its approval and its evidence, as ``approval_checks.check_newest`` returns them.

    Raises:
        DeploymentError: no passed gate, or no valid approval of scope ``trial`` or ``champion``.
    """
    scopes = (versions.TRIAL, aliases.CHAMPION)
    return approval_checks.check_newest(versions.read_version(version), as_of, scopes)


def read_running() -> AbTest | None:
    """Return the running A/B test of the challenger against the champion in effect, or None."""
    version = aliases.version_with_alias(aliases.CHALLENGER)
    if version is None:
        return None
    found = read_last(version)
    if found is None or found.status != RUNNING:
        return None
    if found.champion != deployments.version_in_effect():
        return None
    return found


def read_last(version: int) -> AbTest | None:
    """Return the last A/B test of a version, running or not; None if there was none."""
    text = versions.read_version(version).tags.get(TAG)
    if not text:
        return None
    facts = json.loads(text)
    home_ledger.check(VERSION, version, TAG, facts, DeploymentError)
    return AbTest(**facts)


def stop(version: int, reason: str) -> AbTest:
    """Stop a version's A/B test, store the reason, and clear the challenger alias.

    Raises:
        UsageError: it has none.
    """
    found = read_last(version)
    if found is None:
        raise UsageError(f"version {version} has no A/B test to stop.")
    stopped = replace(found, status=STOPPED, reason=reason)
    _store(stopped)
    aliases.clear_challenger(version)
    return stopped


def _store(test: AbTest) -> None:
    home_ledger.record(VERSION, test.version, TAG, asdict(test))
    text = json.dumps(asdict(test))
    versions.set_tags(test.version, {TAG: text})
