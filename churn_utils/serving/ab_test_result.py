"""Result of an A/B test: what the decisions of both arms were worth once labels have arrived."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pandas as pd

from churn_utils.data import tables
from churn_utils.evaluation.economics import OFFER, decision_value_usd
from churn_utils.inference import log_reading
from churn_utils.registry import versions
from churn_utils.serving import ab_test
from churn_utils.serving.ab_test import CHALLENGER, CHAMPION, SPLIT, AbTest

TOO_FEW, UNDECIDED = "too_few", "undecided"
BETTER, WORSE = "challenger_better", "challenger_worse"
# With 1,600 customers per arm a difference of 65 USD per customer lies outside the interval
# (standard deviation 610).
MIN_LABELLED = 500
LEVEL = 0.95
EVALUATION_SECONDS = 30.0  # pause at least, because the log changes every other second
EVALUATION_SHARE = 0.05  # of the time at most is spent on evaluations, however large the log is
KEY = ["customer_id", "features_as_of"]
LABELLED_COLUMNS = [*KEY, "arm", "decision", "churned"]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AbTestResult:
    """What the decisions of both arms were worth, in USD per customer.

    The difference is challenger minus champion with its confidence interval; the three figures are
    not a number while the verdict is ``too_few``.
    """

    verdict: str
    champion_customers: int
    challenger_customers: int
    champion_usd: float
    challenger_usd: float
    difference_usd: float = np.nan
    lower: float = np.nan
    upper: float = np.nan


def read_labelled_predictions(test: AbTest, as_of: pd.Timestamp) -> pd.DataFrame:
    """Read the predictions of both arms whose labels had arrived by a date.

    A customer served by the other arm than the one it belongs to is left out: until the API has
    noticed the A/B test, the champion serves all.

    Returns:
        ``customer_id, features_as_of, arm, decision, churned``, one row per customer and month: the
        first prediction that was returned.
    """
    if not tables.exists("churn_labels"):
        return pd.DataFrame(columns=LABELLED_COLUMNS)
    labels = tables.read("churn_labels")
    labels = labels[labels["label_date"] <= as_of]
    labels = labels.rename(columns={"snapshot_date": "features_as_of"})
    predictions = log_reading.read_shown_predictions(
        datetime.fromisoformat(test.started_at),
        labels["features_as_of"].dt.date.unique(),
        [*KEY, "arm", "decision", "model_version"],
    )
    predictions = _keep_own_arm(predictions, test).drop_duplicates(KEY)
    return predictions.merge(labels[[*KEY, "churned"]], on=KEY)[LABELLED_COLUMNS]


def _keep_own_arm(predictions: pd.DataFrame, test: AbTest) -> pd.DataFrame:
    """Keep the rows of the two versions whose arm is the one that the customer belongs to."""
    version_of_arm = {CHAMPION: test.champion, CHALLENGER: test.version}
    of_this_test = predictions["arm"].map(version_of_arm) == predictions["model_version"]
    predictions = predictions[of_this_test]
    customers = predictions["customer_id"].unique()
    in_share = {customer_id for customer_id in customers if test.includes(customer_id)}
    belongs_to_challenger = predictions["customer_id"].isin(in_share)
    served_by_challenger = predictions["arm"] == CHALLENGER
    return predictions[served_by_challenger == belongs_to_challenger]


def evaluate(test: AbTest, as_of: pd.Timestamp, minimum: int = MIN_LABELLED) -> AbTestResult:
    """Compare what the decisions of both arms were worth once labels have arrived.

    The interval holds however often it is looked at (``bound_difference``), over the customers'
    mean values. A verdict needs ``minimum`` customers in each arm; with fewer it is ``too_few`` and
    the difference is not a number.

    Args:
        test: running or stopped.
        as_of: labels that arrived later do not count.
        minimum: customers that each arm must have.

    Returns:
        The figures and the verdict: ``challenger_better`` or ``challenger_worse`` when the interval
        does not contain 0.
    """
    rows = read_labelled_predictions(test, as_of)
    values = _value_customers(rows, test)
    champion, challenger = values[CHAMPION], values[CHALLENGER]
    smaller_arm = min(len(champion), len(challenger))
    result = AbTestResult(
        TOO_FEW, len(champion), len(challenger), champion.mean(), challenger.mean()
    )
    if smaller_arm < max(minimum, 2):  # a variance needs two customers
        return result
    lower, upper = bound_difference(champion.to_numpy(), challenger.to_numpy())
    verdict = UNDECIDED
    if lower > 0:
        verdict = BETTER
    elif upper < 0:
        verdict = WORSE
    return replace(
        result,
        verdict=verdict,
        difference_usd=challenger.mean() - champion.mean(),
        lower=lower,
        upper=upper,
    )


def bound_difference(
    champion: np.ndarray, challenger: np.ndarray, level: float = LEVEL
) -> tuple[float, float]:
    """Bound the difference of two arms' means, challenger minus champion, at every look.

    A fixed interval that is looked at whenever labels arrive excludes a true difference sooner or
    later. This one is a confidence sequence: with probability ``level`` it contains the difference
    at all looks together. It is the asymptotic one of Waudby-Smith et al., "Time-uniform central
    limit theory and asymptotic confidence sequences" (Annals of Statistics, 2024), narrowest at
    twice ``MIN_LABELLED`` customers in all, with the arms' own variances.

    Args:
        champion: values of its customers, USD each.
        challenger: likewise; each arm has at least two.
        level: probability that the bounds hold.
    """
    alpha = 1 - level
    customers = len(champion) + len(challenger)
    narrowest_at = 2 * MIN_LABELLED
    log_term = -2 * np.log(alpha)
    rho_squared = (log_term + np.log(log_term + 1)) / narrowest_at
    scaled = customers * rho_squared
    errors = np.sqrt(2 * (scaled + 1) / scaled * np.log(np.sqrt(scaled + 1) / alpha))
    champion_variance = champion.var(ddof=1) / len(champion)
    challenger_variance = challenger.var(ddof=1) / len(challenger)
    half_width = errors * np.sqrt(champion_variance + challenger_variance)
    difference = challenger.mean() - champion.mean()
    return difference - half_width, difference + half_width


def _value_customers(rows: pd.DataFrame, test: AbTest) -> dict[str, pd.Series]:
    """Return per arm the mean value in USD of the decisions on each of its customers."""
    economics = versions.read_version(test.version).economics
    offered = (rows["decision"] == OFFER).to_numpy(dtype=float)
    churned = rows["churned"].to_numpy(dtype=float)
    rows = rows.assign(value=decision_value_usd(churned, offered, economics))
    values = {}
    for arm in (CHAMPION, CHALLENGER):
        of_arm = rows[rows["arm"] == arm]
        values[arm] = of_arm.groupby("customer_id")["value"].mean()
    return values


def stop_if_worse(test: AbTest, as_of: pd.Timestamp, minimum: int = MIN_LABELLED) -> AbTestResult:
    """Evaluate an A/B test and stop it if the challenger is clearly worse."""
    result = evaluate(test, as_of, minimum)
    if result.verdict == WORSE:
        reason = (
            f"worth {-result.difference_usd:.0f} USD a customer less than version {test.champion} "
            f"({LEVEL:.0%} interval {result.lower:.0f} to {result.upper:.0f} USD, "
            f"as of {as_of:%Y-%m-%d})"
        )
        ab_test.stop(test.version, reason)
    return result


@dataclass(frozen=True)
class Evaluation:
    """The last evaluation of a split."""

    log_marker: int = 0  # change marker of the inference log that it read
    next_at: float = 0.0  # earliest time of the next one, in seconds of time.monotonic

    def is_due(self, running: AbTest | None) -> bool:
        """Tell whether predictions of a split were logged since, and long enough ago."""
        if running is None or running.mode != SPLIT or time.monotonic() < self.next_at:
            return False
        return tables.read_change_marker("inference_log") != self.log_marker


def evaluate_split(running: AbTest, as_of: pd.Timestamp) -> tuple[str, Evaluation]:
    """Evaluate a split and stop it if its challenger is clearly worse.

    Returns:
        The verdict, as ``evaluate`` gives it, and when to evaluate again.
    """
    log_marker = tables.read_change_marker("inference_log")
    started = time.monotonic()
    result = stop_if_worse(running, as_of)
    ended = time.monotonic()
    seconds = ended - started
    pause = max(EVALUATION_SECONDS, seconds / EVALUATION_SHARE)
    if result.verdict == WORSE:
        log.warning(
            "the A/B test of version %d was stopped: clearly worse than the champion",
            running.version,
        )
    return result.verdict, Evaluation(log_marker, ended + pause)
