"""The gate's checks: of the figures on unseen rows, and the list of all checks in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile

import numpy as np
import pandas as pd
from scipy.stats import binom

from churn_utils.evaluation import metrics
from churn_utils.evaluation.economics import decision_value_usd
from churn_utils.features.definitions import SLICES
from churn_utils.validation import behaviour_checks, record_checks
from churn_utils.validation.challenger import FAIL, NOT_EVALUATED, PASS, Candidate, make_finding

__all__ = ["CHECKS", "FAIL", "NOT_EVALUATED", "PASS", "Candidate"]

AUC_FLOOR = 0.6
AUC_MARGIN, USD_MARGIN = (
    0.01,
    15.0,
)  # how much worse on one measure a challenger may be when it wins on the other
CALIBRATION_LOSS = 0.01  # nats that a perfect recalibration may still save
OVERFITTING_GAP = 0.17  # ROC AUC by which a model may do better on the rows that it learned from; forests reach 0.14
MIN_SLICE_ROWS = 50


def check_auc_floor(candidate: Candidate) -> dict:
    """ROC AUC is clearly above the floor."""
    lower, upper = candidate.samples["challenger"]["roc_auc"].quantile([0.025, 0.975])
    value = metrics.score_metrics(
        candidate.rows["churned"], candidate.probability, candidate.economics
    )["roc_auc"][0]
    detail = f"{len(candidate.rows)} test rows"
    return make_finding(
        lower > AUC_FLOOR, f"ROC AUC interval above {AUC_FLOOR}", detail, value, lower, upper
    )


def check_value_floor(candidate: Candidate) -> dict:
    """Its decisions are clearly worth more than making the offer to all, or to none."""
    y = candidate.rows["churned"].to_numpy(dtype=float)
    own = decision_value_usd(
        y, candidate.probability >= candidate.economics.threshold, candidate.economics
    )
    weights, lowest = candidate.weights, {}
    for name, treated in (("all", 1.0), ("none", 0.0)):
        gain = own - decision_value_usd(y, treated, candidate.economics)
        lowest[name] = (
            gain.mean(),
            *np.quantile(weights @ gain / weights.sum(axis=1), [0.025, 0.975]),
        )
    rival = min(lowest, key=lambda name: lowest[name][1])
    value, lower, upper = lowest[rival]
    detail = f"value {own.mean():.0f} USD a customer; the closer rival is the offer to {rival}"
    return make_finding(
        lower > 0,
        "USD gain over treating all and none: interval above 0",
        detail,
        value,
        lower,
        upper,
    )


def check_calibration(candidate: Candidate) -> dict:
    """A perfect sigmoid recalibration on these rows would hardly lower the log loss."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    p = np.clip(candidate.probability, 1e-6, 1 - 1e-6)
    logit = np.log(p / (1 - p))[:, None]
    best = (
        LogisticRegression(C=np.inf)
        .fit(logit, candidate.rows["churned"])
        .predict_proba(logit)[:, 1]
    )
    saved = log_loss(candidate.rows["churned"], p) - log_loss(candidate.rows["churned"], best)
    requirement = f"recalibration saves at most {CALIBRATION_LOSS} nats"
    return make_finding(
        saved <= CALIBRATION_LOSS,
        requirement,
        f"mean {p.mean():.3f}, observed {candidate.rows['churned'].mean():.3f}",
        saved,
    )


def check_overfitting(candidate: Candidate) -> dict:
    """It has learned rules, not rows: on unseen customers it ranks nearly as well as on those it learned from."""
    learned, unseen = (
        metrics.score_metrics(rows["churned"], probability, candidate.economics)["roc_auc"][0]
        for rows, probability in (
            (candidate.learned, candidate.learned_probability),
            (candidate.rows, candidate.probability),
        )
    )
    gap = learned - unseen
    detail = f"ROC AUC {learned:.3f} on the rows that it learned from, {unseen:.3f} on unseen ones"
    return make_finding(
        gap <= OVERFITTING_GAP, f"ROC AUC at most {OVERFITTING_GAP} apart", detail, gap
    )


def check_slices(candidate: Candidate) -> dict:
    """No group is clearly worse off than without the model: with no offers, or under the champion (exact, Holm)."""
    treated, rival = candidate.probability >= candidate.economics.threshold, "no offers"
    before = np.zeros_like(treated)
    if candidate.champion is not None:
        before = candidate.champion_probability >= candidate.champion_threshold
        rival = f"champion {candidate.champion}"
    groups = sorted(_compare_groups(candidate, treated, before))
    tests_left = range(
        len(groups), 0, -1
    )  # Holm: the smallest share has to pass the strictest bound
    clearly = [
        group
        for group, _ in takewhile(
            lambda pair: pair[0][0] < 0.025 / pair[1], zip(groups, tests_left, strict=True)
        )
    ]
    weakest = min(groups, key=lambda g: g[2])
    detail = f"{len(groups)} groups against {rival}; lowest {weakest[1]} ({weakest[2]:+.0f} USD)"
    if clearly:
        detail = f"clearly worse than under {rival}: {', '.join(name for _, name, _ in clearly)}"
    unequal = equal_opportunity_difference(candidate.rows, treated)
    detail += "; equal opportunity gap " + ", ".join(
        f"{name} {gap:.2f}" for name, gap in unequal.items()
    )
    return make_finding(not clearly, "no group clearly worse (Holm)", detail, weakest[2])


def _compare_groups(
    candidate: Candidate, treated: np.ndarray, before: np.ndarray
) -> list[tuple[float, str, float]]:
    """Of each group: p-value of "not worse off", its name, its mean gain in USD."""
    y, economics = candidate.rows["churned"].to_numpy(dtype=bool), candidate.economics
    gain = decision_value_usd(y.astype(float), treated, economics)
    gain = gain - decision_value_usd(y.astype(float), before, economics)
    return [
        (
            p_value_of_harm(y[rows], treated[rows], before[rows], economics.threshold),
            f"{column} = {group}",
            gain[rows].mean(),
        )
        for column in SLICES
        for group, rows in candidate.rows.groupby(column).groups.items()
        if len(rows) >= MIN_SLICE_ROWS
    ]


def p_value_of_harm(
    churned: np.ndarray, treated: np.ndarray, before: np.ndarray, threshold: float
) -> float:
    """Probability of outcomes as bad as these, if the decisions that changed were worth nothing: exact, one-sided.

    A changed decision is worth nothing on average where customers churn with probability cost / value, for that is
    where an offer earns what it costs. So offers that hit a churner and left-out offers that spared a stayer are sums
    of Bernoulli variables. (A bootstrap is sure of a loss after six offers without a churner: luck one time in six.)
    """
    made, left = churned[treated & ~before], churned[~treated & before]
    right = int(made.sum() + (~left).sum())
    hits = binom.pmf(np.arange(len(made) + 1), len(made), threshold)
    spared = binom.pmf(np.arange(len(left) + 1), len(left), 1 - threshold)
    return float(np.convolve(hits, spared)[: right + 1].sum())


def equal_opportunity_difference(rows: pd.DataFrame, treated: np.ndarray) -> dict[str, float]:
    """Largest difference between groups in the share of churners who get the offer, by protected attribute.

    Hardt, Price, Srebro: Equality of Opportunity in Supervised Learning (2016). Reported, not bounded: a bound on it is
    a decision of policy, and these groups hold some 50 churners each.
    """
    churners = rows[["gender", "senior_citizen"]].assign(treated=treated)[
        rows["churned"].to_numpy(dtype=bool)
    ]
    found = {}
    for column in ("gender", "senior_citizen"):
        rates = churners.groupby(column)["treated"].mean()
        found[column] = float(rates.max() - rates.min())
    return found


def check_champion(candidate: Candidate) -> dict:
    """It clearly beats the champion on ROC AUC or on USD and is not clearly worse on the other."""
    difference = candidate.samples["challenger"] - candidate.samples["champion"]
    wins, harmless, plain = weigh_difference(difference)
    auc = difference["roc_auc"].mean()
    detail = (
        f"against version {candidate.champion}: ROC AUC {auc:+.4f} [{plain.loc['roc_auc', 'lower']:+.4f}, "
        f"{plain.loc['roc_auc', 'upper']:+.4f}], {len(candidate.rows)} rows; wins on {', '.join(wins) or 'nothing'}"
    )
    return make_finding(
        bool(wins) and harmless,
        f"clearly better in ROC AUC or USD; neither below -{AUC_MARGIN}, -{USD_MARGIN:.0f} USD",
        detail,
        difference["value_usd"].mean(),
        *plain.loc["value_usd"],
    )


def weigh_difference(difference: pd.DataFrame) -> tuple[list[str], bool, pd.DataFrame]:
    """Apply the rule of the gate to the paired bootstrap, challenger less champion.

    Args:
        difference: one row per draw; columns ``roc_auc, value_usd``, and others that do not decide.

    Returns:
        Measures on which the challenger clearly wins (95 %, corrected for the two routes), whether it is clearly worse
        on neither, and the plain 95 % intervals: index measure, columns ``lower, upper``.
    """
    two_routes, plain = (
        metrics.interval(difference, level=1 - 0.05 / 2),
        metrics.interval(difference),
    )
    wins = [name for name in ("roc_auc", "value_usd") if two_routes.loc[name, "lower"] > 0]
    harmless = (
        plain.loc["roc_auc", "lower"] > -AUC_MARGIN
        and plain.loc["value_usd", "lower"] > -USD_MARGIN
    )
    return wins, bool(harmless), plain


CHECKS: dict[
    str, Callable[[Candidate], dict]
] = {  # those that do not question it first: it takes time to start
    "documentation": record_checks.check_documentation,
    "signature": record_checks.check_signature,
    "artifacts": record_checks.check_artifacts,
    "economics": record_checks.check_economics,
    "label_freshness": record_checks.check_label_freshness,
    "leakage": record_checks.check_leakage,
    "prediction": behaviour_checks.check_prediction,
    "robustness": behaviour_checks.check_robustness,
    "latency": behaviour_checks.check_latency,
    "auc_floor": check_auc_floor,
    "value_floor": check_value_floor,
    "calibration": check_calibration,
    "overfitting": check_overfitting,
    "slices": check_slices,
    "champion": check_champion,
    "lineage": record_checks.check_lineage,  # last: it is trained again while the others compute
}
