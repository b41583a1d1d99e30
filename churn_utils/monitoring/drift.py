"""Detect, diagnose, decide: one of ok, alert, quarantine, retrain for each as-of month, with the numbers behind it.

A statistic that crosses a line is worth a look (alert), never a retraining. That one is decided in USD: a quick refit
on the newest labelled months, cross-fitted by customer, against the champion on the same rows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from churn_utils.errors import DataError
from churn_utils.evaluation.economics import Economics, decision_value_usd
from churn_utils.features import definitions
from churn_utils.monitoring import performance
from churn_utils.training import models

OK, ALERT, QUARANTINE, RETRAIN = "ok", "alert", "quarantine", "retrain"
DECISIONS = (OK, ALERT, QUARANTINE, RETRAIN)
NONE, DATA_QUALITY, COVARIATE, PRIOR, CONCEPT = (
    "none",
    "data quality",
    "covariate",
    "prior",
    "concept",
)
# The newest month finds what came at once; three together have the power for what comes slowly.
WINDOW_MONTHS = (1, 3)
REFIT_PARAMS = {"family": "logistic_regression", **models.DEFAULTS["logistic_regression"]}
COLUMNS = [
    "as_of_date",
    "feature_month",
    "labels_from",
    "labels_to",
    "decision",
    "diagnosis",
    "why",
    "evidence",
]


@dataclass(frozen=True)
class Limits:
    """Where evidence becomes a decision; set by judgement before the first drill (``benchmarks/drill.py``)."""

    quarantined_share: float = 0.05  # of a delivery; fewer bad rows cannot move what the rest shows
    psi: float = 0.1  # beyond chance: the usual bound of a moderate shift
    use: float = 0.01  # share of the champion's use from which a feature's shift matters
    gain_usd: float = 5.0  # per customer and month that a retraining must surely bring
    confidence: float = 0.98  # two-sided: two windows a month are looked at
    prior_share: float = (
        0.8  # of the gain that moving the intercept alone must bring to be called a prior shift
    )


@dataclass(frozen=True, eq=False)
class Champion:
    """The champion in effect; what is derived is computed when it is first asked for."""

    version: int
    model: object  # has predict_proba over model inputs
    training_rows: pd.DataFrame  # model inputs of its train rows, the reference of every shift
    trained_to: (
        pd.Timestamp
    )  # newest month whose labels it was trained on; later labels are news to it

    @cached_property
    def use(self) -> pd.Series:
        """How much it uses each feature (``monitoring.measure_use``)."""
        return performance.measure_use(self.model, self.training_rows)

    @cached_property
    def reference(self) -> pd.DataFrame:
        """Its training rows with its own scores; any that they carry are those of the champion before it."""
        return self.with_score(self.training_rows.drop(columns=performance.SCORE, errors="ignore"))

    def with_score(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Model inputs of rows and its probability for each; what carries a ``champion_score`` was checked for that."""
        if performance.SCORE not in rows:
            inputs = definitions.select_model_inputs(rows)
            return inputs.assign(**{performance.SCORE: self.model.predict_proba(inputs)[:, 1]})
        if unscored := rows[performance.SCORE].isna().sum():
            raise DataError(
                f"{unscored} of {len(rows)} rows have no {performance.SCORE}; score all rows or none."
            )
        return rows[[*definitions.MODEL_INPUTS, performance.SCORE]]


@models.one_thread
def decide(
    as_of: pd.Timestamp,
    delivery: dict[str, int],
    current: pd.DataFrame,
    labelled: pd.DataFrame,
    champion: Champion,
    history: pd.DataFrame | None = None,
    economics: Economics | None = None,
    limits: Limits | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Decide what an as-of month calls for.

    Args:
        as_of: the month; its snapshot has been taken in and checked.
        delivery: ``delivered`` and ``quarantined`` rows of that snapshot, as ``publish_snapshot`` counts them.
        current: its accepted rows with all model inputs; may be empty. Rows, here and in ``labelled``, may carry the
            champion's probability as ``champion_score``, which saves computing it and checking the inputs.
        labelled: labelled rows known at ``as_of``: ``customer_id, event_date, churned, split`` and the model inputs.
            Only ``train`` rows are used; what the gate reads stays unseen.
        champion: the one in effect.
        history: rows of ``decisions``; only earlier ones are read, so deciding twice decides the same.
        economics, limits, seed: of decisions in USD, of this decision, of the folds.

    Returns:
        One row with ``COLUMNS``. ``labels_from`` and ``labels_to`` are the labelled months that decided: with
        ``retrain`` those to train on, empty (NaT) when no label was news to the champion. ``evidence`` is JSON.

    Raises:
        DataError: nothing was delivered, or labels of a month that is not over.
    """
    economics, limits = economics or Economics(), limits or Limits()
    _check(as_of, delivery, labelled)
    news = labelled[(labelled["split"] == "train") & (labelled["event_date"] > champion.trained_to)]
    if is_broken(delivery, limits):
        current = current.iloc[
            :0
        ]  # what is left of a broken delivery says nothing about the customers
    evidence = {
        "champion_version": champion.version,
        "delivered": int(delivery["delivered"]),
        "quarantined": int(delivery["quarantined"]),
        **gather_shifts(current, champion, last_standing(history, as_of, champion.version), limits),
        "gains": measure_gains(news, champion, economics, limits, seed),
    }
    best = best_window(evidence["gains"])
    evidence["passed"] = (
        list_passed(news, evidence["shifts"], champion, limits)
        if _is_worth_it(best, limits)
        else []
    )
    decision, diagnosis, why = judge(evidence, limits)
    row = {
        "as_of_date": as_of,
        "feature_month": as_of,
        "labels_from": pd.to_datetime(best and best["from"]),
        "labels_to": pd.to_datetime(best and best["to"]),
        "decision": decision,
        "diagnosis": diagnosis,
        "why": why,
        "evidence": json.dumps(evidence),
    }
    return pd.DataFrame([row], columns=COLUMNS).astype(
        {"labels_from": "datetime64[ns]", "labels_to": "datetime64[ns]"}
    )


def is_broken(delivery: dict[str, int], limits: Limits | None = None) -> bool:
    """Tell whether too many of the ``delivered`` rows were ``quarantined`` for the rest to be trusted."""
    return delivery["quarantined"] > (limits or Limits()).quarantined_share * delivery["delivered"]


def _check(as_of: pd.Timestamp, delivery: dict[str, int], labelled: pd.DataFrame) -> None:
    if delivery["delivered"] < 1:
        raise DataError(
            f"no row of {as_of:%Y-%m-%d} was delivered; ask upstream for the snapshot, then decide."
        )
    if early := (labelled["event_date"] >= as_of).sum():
        problem = f"{early} label(s) belong to {as_of:%Y-%m-%d} or later, which is not over"
        raise DataError(f"{problem}; read labels as of the date on which you decide.")


def last_standing(
    history: pd.DataFrame | None, as_of: pd.Timestamp, version: int
) -> dict[str, float]:
    """Shifts that were alerted before ``as_of`` under this champion and stood at the last decision: PSI by feature."""
    if history is None or (earlier := history[history["as_of_date"] < as_of]).empty:
        return {}
    evidence = json.loads(earlier.sort_values("as_of_date")["evidence"].iloc[-1])
    return evidence["standing"] if evidence["champion_version"] == version else {}


def gather_shifts(
    current: pd.DataFrame, champion: Champion, standing: dict[str, float], limits: Limits
) -> dict:
    """Compare the month's features and scores with the champion's training data.

    Returns:
        ``shifts`` (feature: PSI beyond chance, and its share of the champion's use), ``weighted_psi`` (their products
        summed), ``new_shifts`` (those to alert) and ``standing`` (PSI at the alert, of those that still stand).
    """
    if current.empty:
        return {"shifts": {}, "weighted_psi": None, "new_shifts": [], "standing": standing}
    psi = _psi_that_matters(champion.with_score(current), champion, limits)
    new = [
        name
        for name, value in psi.items()
        if value >= limits.psi and _is_new(value, standing.get(name), limits)
    ]
    visible = {name: value for name, value in psi.items() if value >= limits.psi / 2}
    kept = {name: then for name, then in standing.items() if name in visible}
    if new:  # what moves along belongs to the same alert: chance must not lift it over the line next month
        kept = visible | kept | {name: psi[name] for name in new}
    use = {name: float(champion.use.get(name, 1.0)) for name in psi}
    return {
        "shifts": {
            name: {"psi": round(value, 4), "use": round(use[name], 4)}
            for name, value in psi.items()
        },
        "weighted_psi": round(
            sum(value * champion.use.get(name, 0.0) for name, value in psi.items()), 5
        ),
        "new_shifts": new,
        "standing": kept,
    }


def list_passed(news: pd.DataFrame, shifts: dict, champion: Champion, limits: Limits) -> list[str]:
    """Features that had moved in the newest labelled month and are by now back where the champion learned them."""
    if not shifts or news.empty:
        return []
    then = _psi_that_matters(news[news["event_date"] == news["event_date"].max()], champion, limits)
    return [
        name
        for name, psi in then.items()
        if psi >= limits.psi and shifts[name]["psi"] < limits.psi / 2
    ]


def _psi_that_matters(rows: pd.DataFrame, champion: Champion, limits: Limits) -> dict[str, float]:
    """PSI beyond chance of every feature that the champion uses and, where the rows have it, of its score."""
    names = [name for name, share in champion.use.items() if share >= limits.use]
    names += [performance.SCORE] if performance.SCORE in rows else []
    return performance.measure_shift(rows[names], champion.reference[names])[
        "psi_beyond_chance"
    ].to_dict()


def _is_new(psi: float, alerted: float | None, limits: Limits) -> bool:
    """A shift that stands is news again only when it has doubled, and by more than a moderate shift."""
    return alerted is None or psi >= max(2 * alerted, alerted + limits.psi)


def measure_gains(
    news: pd.DataFrame, champion: Champion, economics: Economics, limits: Limits, seed: int = 0
) -> list[dict]:
    """Measure what a refit on the newest labelled months (``news``) would have been worth on them, by window.

    The refit is a plain logistic regression, cross-fitted so that it judges no customer whom it saw: less than what
    a real retraining brings.

    Returns:
        For each window in ``WINDOW_MONTHS`` that there is: ``from, to, rows`` and in USD per customer ``gain_usd,
        lower, upper``, ``newest_gain_usd`` (of the same refit in the newest month alone) and ``prior_gain_usd`` (of
        the champion with nothing but its intercept moved).
    """
    months, gains = sorted(news["event_date"].unique()), []
    lengths = [length for length in WINDOW_MONTHS if length <= len(months)]
    longest = news[news["event_date"].isin(months[-max(lengths, default=1) :])]
    if not lengths or not _can_be_fitted(longest):
        return []
    design, old = _encode(longest, champion)
    for length in lengths:
        inside = longest["event_date"].isin(months[-length:]).to_numpy()
        window = longest[inside]
        if not _can_be_fitted(window):
            continue
        refit, moved = _gain_per_row(window, design[inside], old[inside], economics, seed)
        lower, upper = performance.interval_by_customer(
            refit, window["customer_id"], limits.confidence
        )
        newest = window["event_date"] == months[-1]
        figures = {
            "gain_usd": refit.mean(),
            "lower": lower,
            "upper": upper,
            "newest_gain_usd": refit[newest].mean(),
            "prior_gain_usd": moved.mean(),
        }
        span = {
            "from": f"{months[-length]:%Y-%m-%d}",
            "to": f"{months[-1]:%Y-%m-%d}",
            "rows": len(window),
        }
        gains.append(span | {name: round(float(value), 2) for name, value in figures.items()})
    return gains


def _can_be_fitted(window: pd.DataFrame) -> bool:
    """Every fold needs customers who left and customers who stayed."""
    return (
        window["churned"].value_counts().reindex([False, True], fill_value=0).min()
        >= performance.MIN_LABELLED
    )


def _encode(rows: pd.DataFrame, champion: Champion) -> tuple[np.ndarray, np.ndarray]:
    """Design matrix of the refit, and the champion's probabilities; knots and scales need no label, so no fold."""
    inputs = champion.with_score(rows)
    numbers = (
        models.build_estimator(REFIT_PARAMS, seed=0)[0]
        .set_params(one_hot="drop")
        .fit_transform(inputs)
    )
    design = np.hstack([definitions.indicate_categories(inputs), numbers])
    return design, inputs[performance.SCORE].clip(1e-6, 1 - 1e-6).to_numpy()


def _gain_per_row(
    window: pd.DataFrame, design: np.ndarray, old: np.ndarray, economics: Economics, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """USD that the refit, and the champion with its intercept moved, win over the champion (``old``) on each row."""
    churned, refit, moved = (
        window["churned"].to_numpy(dtype=float),
        np.empty(len(window)),
        np.empty(len(window)),
    )
    # each fold starts where the last one ended: half the steps, and the tolerance leaves no trace of whom that one saw
    model = models.build_estimator(REFIT_PARAMS, seed)[-1].set_params(warm_start=True, tol=1e-6)
    for fit, held_out in models.make_folds(window, seed):
        refit[held_out] = model.fit(design[fit], churned[fit]).predict_proba(design[held_out])[:, 1]
        moved[held_out] = performance.move_intercept(old[fit], churned[fit], old[held_out])
    own, with_refit, with_move = (
        decision_value_usd(churned, p >= economics.threshold, economics)
        for p in (old, refit, moved)
    )
    return with_refit - own, with_move - own


def best_window(gains: list[dict]) -> dict | None:
    """The window that says most for a retraining: the highest lower bound, None without any."""
    return max(gains, key=lambda gain: gain["lower"], default=None)


def judge(evidence: dict, limits: Limits) -> tuple[str, str, str]:
    """Turn evidence into ``(decision, diagnosis, why)``: data first, then labels, then features."""
    if is_broken(evidence, limits):
        share = evidence["quarantined"] / evidence["delivered"]
        why = f"{evidence['quarantined']} of {evidence['delivered']} delivered rows ({share:.1%}) break the contract"
        return QUARANTINE, DATA_QUALITY, f"{why}; have the delivery corrected before it is scored"
    gain = best_window(evidence["gains"])
    if _is_worth_it(gain, limits):
        return _judge_gain(gain, evidence, limits)
    return _judge_shifts(evidence, _describe_gain(gain))


def _is_worth_it(gain: dict | None, limits: Limits) -> bool:
    return gain is not None and gain["lower"] > limits.gain_usd


def _judge_gain(gain: dict, evidence: dict, limits: Limits) -> tuple[str, str, str]:
    if gain["newest_gain_usd"] <= limits.gain_usd:
        return _judge_shifts(
            evidence, f"{_describe_gain(gain)}, but no longer in the newest labelled month"
        )
    if evidence["passed"]:
        return _judge_shifts(
            evidence, f"{_describe_gain(gain)}, but {', '.join(evidence['passed'])} is back by now"
        )
    intercept_is_enough = gain["prior_gain_usd"] >= limits.prior_share * gain["gain_usd"]
    return RETRAIN, PRIOR if intercept_is_enough else CONCEPT, _describe_gain(gain)


def _judge_shifts(evidence: dict, labels_say: str) -> tuple[str, str, str]:
    if evidence["new_shifts"]:
        names = ", ".join(
            f"{name} (PSI {evidence['shifts'][name]['psi']:.2f})" for name in evidence["new_shifts"]
        )
        return ALERT, COVARIATE, f"moved since training: {names}; {labels_say}"
    if evidence["standing"]:
        return (
            OK,
            COVARIATE,
            f"alerted and unchanged: {', '.join(evidence['standing'])}; {labels_say}",
        )
    return OK, NONE, f"no used feature moved; {labels_say}"


def _describe_gain(gain: dict | None) -> str:
    if gain is None:
        return "no labels since the champion's training"
    worth = f"{gain['gain_usd']:+.1f} USD a customer [{gain['lower']:+.1f}, {gain['upper']:+.1f}]"
    return f"a refit on {gain['from'][:7]} to {gain['to'][:7]} would be worth {worth}"
