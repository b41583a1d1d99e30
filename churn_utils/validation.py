"""The gate: checks with evidence that pass, fail or could not be evaluated; approval bound to that evidence."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from churn_utils import evaluation, feature_store, features, registry, scoring
from churn_utils.evaluation import decision_value_usd
from churn_utils.settings import ChurnError

PASS, FAIL, NOT_EVALUATED = "pass", "fail", "not_evaluated"
AUC_FLOOR = 0.6
AUC_MARGIN, USD_MARGIN = 0.01, 15.0  # how much worse on one measure a challenger may be when it wins on the other
CALIBRATION_LOSS = 0.01  # nats that a perfect recalibration may still save
SLICES = ["contract", "senior_citizen", "internet_service"]
MIN_SLICE_ROWS = 50
ARTIFACTS = ["feature_contract.json", "figures.html", "importance.json"]
DOCUMENTED = ["data", "purpose", "threshold"]
APPROVAL_DAYS = 31
AUTOMATIC = "policy:all-checks-passed"  # the named policy of unattended runs; never a person


class ApprovalError(ChurnError):
    """An approval that may not be given."""


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
        found = registry.champion_at(self.as_of)
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
        f"missing: {', '.join(missing)}" if missing else f"{len(text.split())} words, trained by {candidate.info['trained_by']}",
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
    value = evaluation.score_metrics(candidate.rows["churned"], candidate.probability, candidate.economics)["roc_auc"][0]
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
    return _finding(saved <= CALIBRATION_LOSS, requirement, f"mean {p.mean():.3f}, observed {candidate.rows['churned'].mean():.3f}", saved)


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
    worse = []
    for column in SLICES:
        for group, rows in candidate.rows.groupby(column).groups.items():
            if len(rows) >= MIN_SLICE_ROWS:
                part = weights[:, rows]
                means = (part @ gain[rows]) / np.maximum(part.sum(axis=1), 1)
                worse.append((np.mean(means >= 0), f"{column} = {group}", gain[rows].mean()))
    worse.sort()
    clearly = [w for rank, w in enumerate(worse) if all(p < 0.025 / (len(worse) - i) for i, (p, *_) in enumerate(worse[: rank + 1]))]
    weakest = min(worse, key=lambda w: w[2])
    names = ", ".join(name for _, name, _ in clearly)
    detail = f"{len(worse)} groups against {rival}; lowest: {weakest[1]} ({weakest[2]:+.0f} USD)"
    return _finding(not clearly, "no group clearly worse (Holm)", f"clearly worse: {names}" if clearly else detail, weakest[2])


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
        bool(wins) and harmless, f"clearly better in ROC AUC or USD, neither below -{AUC_MARGIN} or -{USD_MARGIN:.0f} USD",
        detail, difference["value_usd"].mean(), *plain.loc["value_usd"],
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


def run_gate(
    version: int, as_of: pd.Timestamp, since: pd.Timestamp | None = None, draws: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Put a version through every check, keep the evidence with it and tag it with the verdict.

    Args:
        version: the challenger.
        as_of: simulated date; only labels that had arrived count.
        since: only labels of months from this date on (those after a detected change).
        draws: bootstrap draws.
        seed: of the draws.

    Returns:
        One row per check: ``check, verdict, value, lower, upper, requirement, detail``. A check that raises is
        ``not_evaluated`` with the error in ``detail``. ``champion`` is left out while there is no champion.

    Raises:
        RegistryError: no such version.
    """
    candidate = Candidate(version, as_of, since, draws, seed)
    findings = evaluate_checks(candidate)
    verdict = overall_verdict(findings)
    evidence = {
        "version": version, "run_id": candidate.info["run_id"], "as_of": f"{as_of:%Y-%m-%d}",
        "champion": candidate.champion, "verdict": verdict, "draws": draws, "seed": seed,
        "checks": json.loads(findings.to_json(orient="records")),
    }  # fmt: skip
    digest = registry.write_evidence(version, evidence)
    registry.set_tags(version, {"gate": verdict, "gate_evidence_sha256": digest})
    return findings


def evaluate_checks(candidate: Candidate) -> pd.DataFrame:
    """Run every check that applies and return the findings, as ``run_gate`` does, without keeping them."""
    names = [name for name in CHECKS if name != "champion" or candidate.champion is not None]
    findings = pd.DataFrame([{"check": name, **_run_check(CHECKS[name], candidate)} for name in names])
    return findings.astype({"value": float, "lower": float, "upper": float}).round(6)


def check_impostor(candidate: Candidate, probability: np.ndarray) -> pd.DataFrame:
    """Run the checks as if the candidate had given these probabilities; nothing is kept."""
    impostor = dataclasses.replace(candidate)
    impostor.__dict__["probability"] = probability  # fills the cached property
    return evaluate_checks(impostor)


def compare_verdicts(findings: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Verdict of each check (columns) for each of several models (index)."""
    table = pd.DataFrame({name: found.set_index("check")["verdict"] for name, found in findings.items()}).T
    return table.loc[list(findings)]


def _run_check(check: Callable[[Candidate], dict], candidate: Candidate) -> dict:
    try:
        return check(candidate)
    except Exception as error:  # noqa: BLE001 - whatever a challenger raises, it has not passed
        return {
            "verdict": NOT_EVALUATED, "value": None, "lower": None, "upper": None,
            "requirement": check.__doc__.strip(), "detail": f"{type(error).__name__}: {error}",
        }  # fmt: skip


def overall_verdict(findings: pd.DataFrame) -> str:
    """``pass`` only when there are checks and all pass; ``fail`` when one fails; else ``not_evaluated``."""
    verdicts = set(findings["verdict"])
    if verdicts == {PASS}:
        return PASS
    return FAIL if FAIL in verdicts else NOT_EVALUATED


def approve(version: int, approver: str, reason: str, as_of: pd.Timestamp, scope: str = registry.CHAMPION) -> dict:
    """Approve a version that passed the gate, bound to the evidence as it stands now.

    Returns:
        The approval: ``approver, reason, scope, evidence_sha256, approved, expires`` (31 simulated days later).

    Raises:
        ApprovalError: no name or reason, the gate was not passed, the evidence was changed since, or the approver
            is the trainer.
    """
    approver, reason = approver.strip(), reason.strip()
    if not approver or not reason:
        raise ApprovalError("an approval needs the approver's name and a reason.")
    info = registry.read_version(version)
    evidence, digest = registry.read_evidence(version)
    if info["tags"].get("gate") != PASS or evidence["verdict"] != PASS:
        raise ApprovalError(f"version {version} has not passed the gate (verdict: {evidence['verdict']}).")
    if digest != info["tags"].get("gate_evidence_sha256"):
        raise ApprovalError(f"the evidence of version {version} was changed after the gate; run the gate again.")
    if approver == info["trained_by"]:
        raise ApprovalError(f"{approver} trained version {version} and may not approve it; another person must.")
    approval = {
        "approver": approver, "reason": reason, "scope": scope, "evidence_sha256": digest,
        "approved": f"{as_of:%Y-%m-%d}", "expires": f"{as_of + pd.Timedelta(days=APPROVAL_DAYS):%Y-%m-%d}",
    }  # fmt: skip
    registry.set_tags(version, {"approval": json.dumps(approval)})
    return approval


def refuse(version: int) -> None:
    """Clear the challenger alias of a version that did not pass, and say so in its tags."""
    registry.set_tags(version, {"status": "refused"})
    registry.clear_challenger(version)
