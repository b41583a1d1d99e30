"""The gate's checks: each takes a candidate and returns a verdict with the evidence behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile

import numpy as np
import pandas as pd

from churn_utils import deployments, evaluation, feature_store, features, registry, scoring
from churn_utils.evaluation import decision_value_usd
from churn_utils.features import SLICES

PASS, FAIL, NOT_EVALUATED = "pass", "fail", "not_evaluated"
AUC_FLOOR = 0.6
AUC_MARGIN, USD_MARGIN = (
    0.01,
    15.0,
)  # how much worse on one measure a challenger may be when it wins on the other
CALIBRATION_LOSS = 0.01  # nats that a perfect recalibration may still save
MIN_SLICE_ROWS = 50
ARTIFACTS = ["feature_contract.json", "figures.html", "importance.json"]
DOCUMENTED = ["data", "purpose", "threshold"]


@dataclass(frozen=True)
class Candidate:
    """A challenger on the rows that decide about it; parts are computed when a check first asks for them."""

    version: int
    as_of: pd.Timestamp
    since: pd.Timestamp | None
    draws: int
    seed: int

    @cached_property
    def info(self) -> dict:
        """Registry entry of the challenger."""
        return registry.read_version(self.version)

    @cached_property
    def economics(self):
        """Economics that it was trained for."""
        return scoring.read_economics(self.version)

    @cached_property
    def champion(self) -> int | None:
        """Champion in effect, None when there is none or it is this very version."""
        found = deployments.champion_at(self.as_of)
        return None if found == self.version else found

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Test rows labelled by ``as_of``, from ``since`` on."""
        labelled = feature_store.build_training_set(self.as_of, since=self.since)
        return feature_store.training_rows(labelled, "test")

    @cached_property
    def probability(self) -> np.ndarray:
        """The challenger's probabilities on ``rows``."""
        return scoring.predict_probability(scoring.load_model(self.version), self.rows)

    @cached_property
    def champion_probability(self) -> np.ndarray:
        """The champion's probabilities on the same rows."""
        return scoring.predict_probability(scoring.load_model(self.champion), self.rows)

    @cached_property
    def samples(self) -> dict[str, pd.DataFrame]:
        """Bootstrap metrics over customers, paired where there is a champion."""
        models = {"challenger": self.probability}
        if self.champion is not None:
            models["champion"] = self.champion_probability
        return evaluation.bootstrap_metrics(
            self.rows["churned"], models, self.rows["customer_id"], self.economics, self.draws, self.seed
        )


def _finding(holds: bool, requirement: str, detail: str, value=None, lower=None, upper=None) -> dict:
    return {
        "verdict": PASS if holds else FAIL, "value": value, "lower": lower, "upper": upper,
        "requirement": requirement, "detail": detail,
    }  # fmt: skip


def check_documentation(candidate: Candidate) -> dict:
    """The description speaks of data, purpose and threshold, and the trainer is named."""
    text = candidate.info["description"].lower()
    missing = [word for word in DOCUMENTED if word not in text]
    missing += [] if candidate.info["trained_by"] else ["trained_by"]
    return _finding(
        not missing, f"description names {', '.join(DOCUMENTED)}; trainer recorded",
        f"missing: {', '.join(missing)}" if missing else f"trained by {candidate.info['trained_by']}",
    )  # fmt: skip


def check_signature(candidate: Candidate) -> dict:
    """The signature names exactly the contract's inputs, in order."""
    names = registry.read_signature(candidate.version)
    wrong = sorted(set(names) ^ set(features.MODEL_INPUTS))
    same = names == list(features.MODEL_INPUTS)
    detail = "equal" if same else f"differs in {', '.join(wrong) or 'order'}"
    return _finding(same, f"inputs are the {len(features.MODEL_INPUTS)} of the feature contract", detail, len(names))


def check_artifacts(candidate: Candidate) -> dict:
    """The training run kept what people need to judge it."""
    there = registry.list_artifacts(candidate.version)
    missing = [name for name in ARTIFACTS if name not in there]
    return _finding(not missing, f"{', '.join(ARTIFACTS)} logged", f"missing: {', '.join(missing) or 'none'}")


def check_prediction(candidate: Candidate) -> dict:
    """It loads and gives every test row a probability, not the same one to all."""
    p = candidate.probability
    valid = bool(np.isfinite(p).all() and (p >= 0).all() and (p <= 1).all() and len(np.unique(p)) > 1)
    detail = f"{len(p)} rows, {len(np.unique(p))} distinct probabilities"
    return _finding(valid, "a probability for every row, not all equal", detail, float(np.mean(p)))


def check_auc_floor(candidate: Candidate) -> dict:
    """ROC AUC is clearly above the floor."""
    lower, upper = candidate.samples["challenger"]["roc_auc"].quantile([0.025, 0.975])
    value = evaluation.score_metrics(candidate.rows["churned"], candidate.probability, candidate.economics)["roc_auc"][
        0
    ]
    detail = f"{len(candidate.rows)} test rows"
    return _finding(lower > AUC_FLOOR, f"ROC AUC interval above {AUC_FLOOR}", detail, value, lower, upper)


def check_value_floor(candidate: Candidate) -> dict:
    """Its decisions are clearly worth more than making the offer to all, or to none."""
    y = candidate.rows["churned"].to_numpy(dtype=float)
    own = decision_value_usd(y, candidate.probability >= candidate.economics.threshold, candidate.economics)
    weights = evaluation.resample(candidate.rows["customer_id"], candidate.draws, candidate.seed)
    lowest = {}
    for name, treated in (("all", 1.0), ("none", 0.0)):
        gain = own - decision_value_usd(y, treated, candidate.economics)
        lowest[name] = (gain.mean(), *np.quantile(weights @ gain / weights.sum(axis=1), [0.025, 0.975]))
    rival = min(lowest, key=lambda name: lowest[name][1])
    value, lower, upper = lowest[rival]
    detail = f"value {own.mean():.0f} USD a customer; the closer rival is the offer to {rival}"
    return _finding(lower > 0, "USD gain over treating all and none: interval above 0", detail, value, lower, upper)


def check_calibration(candidate: Candidate) -> dict:
    """A perfect sigmoid recalibration on these rows would hardly lower the log loss."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    p = np.clip(candidate.probability, 1e-6, 1 - 1e-6)
    logit = np.log(p / (1 - p))[:, None]
    best = LogisticRegression(C=np.inf).fit(logit, candidate.rows["churned"]).predict_proba(logit)[:, 1]
    saved = log_loss(candidate.rows["churned"], p) - log_loss(candidate.rows["churned"], best)
    requirement = f"recalibration saves at most {CALIBRATION_LOSS} nats"
    return _finding(
        saved <= CALIBRATION_LOSS,
        requirement,
        f"mean {p.mean():.3f}, observed {candidate.rows['churned'].mean():.3f}",
        saved,
    )


def check_slices(candidate: Candidate) -> dict:
    """No group is clearly worse off than without the model: with no offers, or under the champion (Holm)."""
    y = candidate.rows["churned"].to_numpy(dtype=float)
    gain = decision_value_usd(y, candidate.probability >= candidate.economics.threshold, candidate.economics)
    rival = "no offers"
    if candidate.champion is not None:
        rival = f"champion {candidate.champion}"
        gain = gain - decision_value_usd(
            y, candidate.champion_probability >= candidate.economics.threshold, candidate.economics
        )
    weights = evaluation.resample(candidate.rows["customer_id"], candidate.draws, candidate.seed)
    groups = []  # (share of draws in which the group is not worse off, its name, its mean gain)
    for column in SLICES:
        for group, rows in candidate.rows.groupby(column).groups.items():
            if len(rows) >= MIN_SLICE_ROWS:
                means = weights[:, rows] @ gain[rows]
                groups.append((float(np.mean(means >= 0)), f"{column} = {group}", gain[rows].mean()))
    groups.sort()
    tests_left = range(len(groups), 0, -1)  # Holm: the smallest share has to pass the strictest bound
    clearly = [
        group for group, _ in takewhile(lambda pair: pair[0][0] < 0.025 / pair[1], zip(groups, tests_left, strict=True))
    ]
    weakest = min(groups, key=lambda g: g[2])
    detail = f"{len(groups)} groups against {rival}; lowest: {weakest[1]} ({weakest[2]:+.0f} USD)"
    if clearly:
        detail = f"clearly worse than under {rival}: {', '.join(name for _, name, _ in clearly)}"
    return _finding(not clearly, "no group clearly worse (Holm)", detail, weakest[2])


def check_champion(candidate: Candidate) -> dict:
    """It clearly beats the champion on ROC AUC or on USD and is not clearly worse on the other."""
    difference = candidate.samples["challenger"] - candidate.samples["champion"]
    two_routes = evaluation.interval(difference, level=1 - 0.05 / 2)
    plain = evaluation.interval(difference)
    wins = [name for name in ("roc_auc", "value_usd") if two_routes.loc[name, "lower"] > 0]
    harmless = plain.loc["roc_auc", "lower"] > -AUC_MARGIN and plain.loc["value_usd", "lower"] > -USD_MARGIN
    auc = difference["roc_auc"].mean()
    detail = (
        f"against version {candidate.champion}: ROC AUC {auc:+.4f} [{plain.loc['roc_auc', 'lower']:+.4f}, "
        f"{plain.loc['roc_auc', 'upper']:+.4f}], {len(candidate.rows)} rows; wins on {', '.join(wins) or 'nothing'}"
    )
    return _finding(
        bool(wins) and harmless,
        f"clearly better in ROC AUC or USD; neither below -{AUC_MARGIN}, -{USD_MARGIN:.0f} USD", detail,
        difference["value_usd"].mean(), *plain.loc["value_usd"],
    )  # fmt: skip


CHECKS: dict[str, Callable[[Candidate], dict]] = {
    "documentation": check_documentation,
    "signature": check_signature,
    "artifacts": check_artifacts,
    "prediction": check_prediction,
    "auc_floor": check_auc_floor,
    "value_floor": check_value_floor,
    "calibration": check_calibration,
    "slices": check_slices,
    "champion": check_champion,
}
