"""Checks of a challenger's figures on unseen rows: against floors, and against the champion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import logit

from churn_utils.evaluation import bootstrap, metrics
from churn_utils.evaluation.economics import Economics, decision_value_usd
from churn_utils.features import offers
from churn_utils.validation.challenger import Challenger
from churn_utils.validation.finding import Finding

AUC_FLOOR = 0.6
CALIBRATION_LOSS = 0.01  # nats that a perfect recalibration may still save
# ROC AUC by which a model may do better on the rows that it learned from; forests reach 0.14.
OVERFITTING_GAP = 0.17
# How much worse on one measure a challenger may be when it wins on the other.
MARGINS = {"roc_auc": 0.01, "value_usd": 15.0}
ERROR_RATE = 0.05  # of a promotion by chance, over both measures together


def check_auc_floor(challenger: Challenger) -> Finding:
    """ROC AUC is clearly above the floor.

    Protects from a model that ranks customers no better than chance.
    """
    value = _measure_auc(challenger.rows, challenger.probability, challenger.economics)
    lower, upper = bootstrap.percentile_bounds(challenger.samples["challenger"]["roc_auc"])
    detail = f"{len(challenger.rows)} test rows"
    requirement = f"ROC AUC interval above {AUC_FLOOR}"
    return Finding.of(lower > AUC_FLOOR, requirement, detail, value, lower, upper)


def check_value_floor(challenger: Challenger) -> Finding:
    """Its decisions are clearly worth more than making the offer to all customers, or to none.

    Protects from a model that costs more than the simplest rule without a model.
    """
    economics = challenger.economics
    churned = challenger.rows["churned"].to_numpy(dtype=float)
    own = decision_value_usd(churned, challenger.treated, economics)
    gains = {
        "all": own - decision_value_usd(churned, np.ones_like(churned), economics),
        "none": own - decision_value_usd(churned, np.zeros_like(churned), economics),
    }
    totals = challenger.weights.sum(axis=1)
    intervals = {}
    for name, gain in gains.items():
        means = challenger.weights @ gain / totals
        intervals[name] = bootstrap.percentile_bounds(means).tolist()
    rival = min(intervals, key=lambda name: intervals[name][0])
    lower, upper = intervals[rival]
    value = np.average(own, weights=challenger.row_weights)
    gain = np.average(gains[rival], weights=challenger.row_weights)
    detail = f"value {value:.0f} USD a customer; the closer rival is the offer to {rival}"
    requirement = "USD gain over treating all and none: interval above 0"
    return Finding.of(lower > 0, requirement, detail, gain, lower, upper)


def check_calibration(challenger: Challenger) -> Finding:
    """A perfect sigmoid recalibration on these rows would hardly lower the log loss.

    Protects from probabilities that rank well but are too high or too low: the threshold and the
    expected values are computed from them.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    churned = challenger.rows["churned"]
    probability = np.clip(challenger.probability, 1e-6, 1 - 1e-6)
    log_odds = logit(probability).reshape(-1, 1)
    weights = challenger.row_weights
    sigmoid = LogisticRegression(C=np.inf).fit(log_odds, churned, sample_weight=weights)
    recalibrated = sigmoid.predict_proba(log_odds)[:, 1]
    loss = log_loss(churned, probability, sample_weight=weights)
    saved = loss - log_loss(churned, recalibrated, sample_weight=weights)
    mean, observed = (np.average(each, weights=weights) for each in (probability, churned))
    detail = f"mean {mean:.3f}, observed {observed:.3f}"
    requirement = f"recalibration saves at most {CALIBRATION_LOSS} nats"
    return Finding.of(saved <= CALIBRATION_LOSS, requirement, detail, saved)


def check_overfitting(challenger: Challenger) -> Finding:
    """On unseen customers it ranks nearly as well as on those that it learned from.

    Protects from a model that has learned rows by heart instead of rules.
    """
    economics = challenger.economics
    learned = _measure_auc(challenger.learned, challenger.learned_probability, economics)
    unseen = _measure_auc(challenger.rows, challenger.probability, economics)
    gap = learned - unseen
    detail = f"ROC AUC {learned:.3f} on the rows that it learned from, {unseen:.3f} on unseen ones"
    requirement = f"ROC AUC at most {OVERFITTING_GAP} apart"
    return Finding.of(gap <= OVERFITTING_GAP, requirement, detail, gap)


def _measure_auc(rows: pd.DataFrame, probability: np.ndarray, economics: Economics) -> float:
    weights = offers.sample_weights(rows)
    weightings = None if weights is None else weights[None, :]
    scored = metrics.score_metrics(rows["churned"].to_numpy(), probability, economics, weightings)
    return float(scored["roc_auc"].iloc[0])


@dataclass(frozen=True)
class PairedComparison:
    """The gate's rule applied to challenger less champion."""

    wins: list[str]  # measures on which the challenger is clearly better
    is_harmless: bool  # whether it is clearly worse on no measure
    intervals: pd.DataFrame  # of 95 %; index measure, columns ``lower, upper``

    @property
    def beats_champion(self) -> bool:
        """Whether the challenger may take over."""
        has_won = bool(self.wins)
        return has_won and self.is_harmless


def check_champion(challenger: Challenger) -> Finding:
    """It clearly beats the champion on ROC AUC or on USD and is not clearly worse on the other.

    Protects from a change for nothing: "too close to call" keeps the champion. Each model decides
    by its own threshold, and both are valued under the costs that hold now.
    """
    samples = challenger.samples
    difference = samples["challenger"] - samples["champion"]
    comparison = compare_paired(difference)
    auc_lower, auc_upper = comparison.intervals.loc["roc_auc", ["lower", "upper"]]
    usd_lower, usd_upper = comparison.intervals.loc["value_usd", ["lower", "upper"]]
    detail = (
        f"against version {challenger.champion}: ROC AUC {difference['roc_auc'].mean():+.4f} "
        f"[{auc_lower:+.4f}, {auc_upper:+.4f}], {len(challenger.rows)} rows; "
        f"wins on {', '.join(comparison.wins) or 'nothing'}"
    )
    requirement = (
        "clearly better in ROC AUC or USD; "
        f"neither below -{MARGINS['roc_auc']}, -{MARGINS['value_usd']:.0f} USD"
    )
    gain_usd = difference["value_usd"].mean()
    return Finding.of(
        comparison.beats_champion, requirement, detail, gain_usd, usd_lower, usd_upper
    )


def compare_paired(difference: pd.DataFrame) -> PairedComparison:
    """Apply the rule of the gate to the paired bootstrap, challenger less champion.

    There are two routes to a promotion, so each must be won at half the error rate (Bonferroni).
    ``difference`` has a row per draw; of its columns ``roc_auc`` and ``value_usd`` decide.
    """
    corrected = bootstrap.interval(difference, level=1 - ERROR_RATE / len(MARGINS))
    plain = bootstrap.interval(difference, level=1 - ERROR_RATE)
    wins = [measure for measure in MARGINS if corrected.loc[measure, "lower"] > 0]
    is_harmless = all(plain.loc[measure, "lower"] > -margin for measure, margin in MARGINS.items())
    return PairedComparison(wins, is_harmless, plain)
