"""Trials of a challenger on live traffic: who may, who is asked, what the labels say, and when it is stopped.

In a *split* the challenger answers a share of the customers, always the same ones; it needs a passed gate and an
approval of scope ``trial`` or ``champion``. In the *shadow* it is asked beside the champion and its answers are
recorded, never shown; any version may run there. A trial is a tag of the version, so the API finds it in the registry.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from scipy.stats import norm

from churn_utils.data import tables
from churn_utils.errors import UsageError
from churn_utils.evaluation.economics import OFFER, decision_value_usd
from churn_utils.inference import log as inference_log
from churn_utils.registry import approvals, deployments, versions

SPLIT, SHADOW = "split", "shadow"
VERSION = "model_version"
RUNNING, STOPPED = "running", "stopped"
MIN_LABELLED = 500  # customers per arm; a difference of 65 USD a customer is found with 700 (standard deviation 610)
LEVEL = 0.95
STOP_LEVEL = 0.99  # stricter, because it is looked at whenever labels or answers arrive
TOO_FEW, UNDECIDED, BETTER, WORSE = "too_few", "undecided", "challenger_better", "challenger_worse"


@dataclass(frozen=True)
class Trial:
    """A challenger beside the champion: ``share`` of the customers in a split, all of them in the shadow."""

    version: int
    champion: int
    mode: str
    share: float
    started: str  # simulated date
    started_at: str  # time of day in UTC: what was answered before is not of this trial
    status: str = RUNNING
    reason: str = ""

    def picks(self, customer_id: str) -> bool:
        """Tell whether a customer belongs to the challenger's share; the same one always does, in this trial."""
        salt = f"{self.champion}:{self.version}".encode()  # another trial mixes the customers anew
        digest = hashlib.blake2b(customer_id.encode(), digest_size=8, key=salt).digest()
        return int.from_bytes(digest) < self.share * 2**64


def check_share(share: float) -> None:
    """Check that a share of the customers can be given to a challenger.

    Raises:
        UsageError: it is not above 0, or above 0.5.
    """
    if not 0 < share <= 0.5:
        raise UsageError(
            f"share is {share}; it must be above 0 and at most 0.5, so that most stay with the champion."
        )


def start_trial(version: int, as_of: pd.Timestamp, share: float = 0.1, mode: str = SPLIT) -> Trial:
    """Start a trial of a version against the champion in effect; it becomes the challenger.

    Args:
        version: the challenger.
        as_of: simulated today.
        share: of the customers, above 0 and at most 0.5; without meaning in the shadow.
        mode: ``split`` or ``shadow``.

    Raises:
        UsageError: no champion, the champion itself, an unknown mode, or a share out of range.
        DeploymentError: a split without passed gate or valid approval, or on evidence that would not let it take over.
    """
    champion = deployments.version_in_effect()
    if champion is None or champion == version:
        raise UsageError(
            f"version {version} has no other champion to be tried against (champion: {champion})."
        )
    if mode not in (SPLIT, SHADOW):
        raise UsageError(
            f"there is no mode {mode!r}; a trial is a {SPLIT} or runs in the {SHADOW}."
        )
    check_share(share)
    if mode == SPLIT:
        deployments.check_may_replace(version, check_may_answer(version, as_of)[1], as_of)
    trial = Trial(
        version, champion, mode, share, f"{as_of:%Y-%m-%d}", datetime.now(UTC).isoformat()
    )
    versions.set_tags(version, {"trial": json.dumps(asdict(trial))})
    versions.set_challenger(version)
    return trial


def check_may_answer(version: int, as_of: pd.Timestamp) -> tuple[dict, dict]:
    """Check that a challenger may answer customers on a date; return its approval and its evidence.

    Raises:
        DeploymentError: no passed gate, or no valid approval of scope ``trial`` or ``champion``.
    """
    scopes = (versions.TRIAL, versions.CHAMPION)
    return approvals.check_newest(versions.read_version(version), as_of, scopes)


def read_trial() -> Trial | None:
    """The running trial of the challenger against the champion in effect, or None."""
    version = versions.version_with_alias(versions.CHALLENGER)
    if version is None:
        return None
    trial = read_trial_of(version)
    running = (
        trial is not None
        and trial.status == RUNNING
        and trial.champion == deployments.version_in_effect()
    )
    return trial if running else None


def read_trial_of(version: int) -> Trial | None:
    """The last trial of a version, running or not; None when there was none."""
    text = versions.read_version(version).tags.get("trial")
    return Trial(**json.loads(text)) if text else None


def stop_trial(version: int, reason: str) -> Trial:
    """Stop a version's trial, say why, and clear the challenger alias.

    Raises:
        UsageError: it has none.
    """
    trial = read_trial_of(version)
    if trial is None:
        raise UsageError(f"version {version} has no trial to stop.")
    stopped = replace(trial, status=STOPPED, reason=reason)
    versions.set_tags(version, {"trial": json.dumps(asdict(stopped))})
    versions.clear_challenger(version)
    return stopped


def read_labelled_answers(trial: Trial, as_of: pd.Timestamp) -> pd.DataFrame:
    """Answers of both arms whose labels had arrived, one per customer and month (the first that was shown).

    Returns:
        ``customer_id, features_as_of, arm, decision, churned``. Customers who were answered by both arms, because
        the share was changed under way, are left out.
    """
    wanted = ["customer_id", "features_as_of", "arm", "decision", "churned"]
    if not tables.exists("churn_labels"):
        return pd.DataFrame(columns=wanted)
    labels = tables.read("churn_labels")
    labels = labels[labels["label_date"] <= as_of].rename(
        columns={"snapshot_date": "features_as_of"}
    )
    months = labels["features_as_of"].dt.date.unique()
    answers = inference_log.read_shown_predictions(
        datetime.fromisoformat(trial.started_at), months, [*wanted[:4], VERSION]
    )
    version_of_arm = {"champion": trial.champion, "challenger": trial.version}
    answers = answers[answers["arm"].map(version_of_arm) == answers[VERSION]]
    # until the API took the trial up, the champion also answered those who are the challenger's
    picked = {name for name in answers["customer_id"].unique() if trial.picks(name)}
    answers = answers[(answers["arm"] == "challenger") == answers["customer_id"].isin(picked)]
    answers = answers.drop_duplicates(["customer_id", "features_as_of"])
    return answers.merge(labels[["customer_id", "features_as_of", "churned"]], on=wanted[:2])[
        wanted
    ]


def judge_trial(
    trial: Trial, as_of: pd.Timestamp, minimum: int = MIN_LABELLED, level: float = LEVEL
) -> dict:
    """Compare what the decisions of both arms were worth, in USD per customer, once labels have arrived.

    Args:
        trial: as ``read_trial`` returns it.
        as_of: no label that arrived later counts.
        minimum: customers that each arm must have; below it the verdict is ``too_few``.
        level: of the interval (Welch, over customers' mean values).

    Returns:
        ``verdict, champion_customers, challenger_customers, champion_usd, challenger_usd, difference_usd, lower,
        upper``; the verdict is ``challenger_better`` or ``challenger_worse`` when the interval does not hold 0.
    """
    rows = read_labelled_answers(trial, as_of)
    economics = versions.read_version(trial.version).economics
    treated = (rows["decision"] == OFFER).to_numpy(dtype=float)
    rows = rows.assign(
        value=decision_value_usd(rows["churned"].to_numpy(dtype=float), treated, economics)
    )
    arms = {
        arm: rows[rows["arm"] == arm].groupby("customer_id")["value"].mean()
        for arm in ("champion", "challenger")
    }
    sizes = {f"{arm}_customers": len(values) for arm, values in arms.items()}
    result = {
        "verdict": TOO_FEW,
        **sizes,
        **{f"{arm}_usd": values.mean() for arm, values in arms.items()},
        "difference_usd": np.nan,
        "lower": np.nan,
        "upper": np.nan,
    }
    if min(sizes.values()) < max(minimum, 2):
        return result
    difference = result["challenger_usd"] - result["champion_usd"]
    spread = norm.ppf((1 + level) / 2) * np.sqrt(
        sum(values.var() / len(values) for values in arms.values())
    )
    lower, upper = difference - spread, difference + spread
    verdict = BETTER if lower > 0 else WORSE if upper < 0 else UNDECIDED
    return {
        **result,
        "verdict": verdict,
        "difference_usd": difference,
        "lower": lower,
        "upper": upper,
    }


def stop_if_worse(trial: Trial, as_of: pd.Timestamp, minimum: int = MIN_LABELLED) -> dict:
    """Judge a trial at the stricter level and stop it when the challenger is clearly worse; return the verdict."""
    verdict = judge_trial(trial, as_of, minimum, STOP_LEVEL)
    if verdict["verdict"] == WORSE:
        stop_trial(
            trial.version,
            f"worth {-verdict['difference_usd']:.0f} USD a customer less than version {trial.champion} "
            f"({STOP_LEVEL:.0%} interval {verdict['lower']:.0f} to {verdict['upper']:.0f} USD, as of {as_of:%Y-%m-%d})",
        )
    return verdict
