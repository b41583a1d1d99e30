"""The gate's checks of what is on record: description, signature, artifacts, lineage, labels, leakage."""

from __future__ import annotations

import numpy as np
import pandas as pd

from churn_utils.data import tables
from churn_utils.errors import ModelError
from churn_utils.features import definitions
from churn_utils.registry import artifacts, lineage, provenance, versions
from churn_utils.validation.challenger import Candidate, make_finding

ARTIFACTS = ["feature_contract.json", "figures.html", "importance.json"]
DOCUMENTED = ["data", "purpose", "threshold"]
MAX_LABEL_AGE_DAYS = 31  # labels come monthly: older means that a month of them is missing
MIN_LABELLED_SHARE = 0.95  # of a month's customers; a quarantined row has features later or never
ONE_INPUT_AUC = (
    0.9  # one input alone that ranks so well is no feature but the answer; the best here has 0.75
)
CEILING_AUC = 0.97  # no model of customers' choices is that good


def check_documentation(candidate: Candidate) -> dict:
    """The description speaks of data, purpose and threshold, and the trainer is named."""
    text = candidate.info.description.lower()
    missing = [word for word in DOCUMENTED if word not in text]
    missing += [] if candidate.info.trained_by else ["trained_by"]
    return make_finding(
        not missing,
        f"description names {', '.join(DOCUMENTED)}; trainer recorded",
        f"missing: {', '.join(missing)}" if missing else f"trained by {candidate.info.trained_by}",
    )


def check_signature(candidate: Candidate) -> dict:
    """The signature names exactly the contract's inputs, in order and type."""
    schema = artifacts.read_schema(candidate.version)
    contract = {name: feature.type.mlflow for name, feature in definitions.MODEL_INPUTS.items()}
    wrong = sorted(
        name for name in schema.keys() | contract.keys() if schema.get(name) != contract.get(name)
    )
    same = list(schema.items()) == list(contract.items())
    detail = "equal" if same else f"differs in {', '.join(wrong) or 'order'}"
    return make_finding(
        same, f"inputs are the {len(contract)} of the feature contract", detail, len(schema)
    )


def check_artifacts(candidate: Candidate) -> dict:
    """The training run kept what people need to judge it, and the model in a format that runs no code."""
    there = versions.list_artifacts(candidate.version)
    missing = [name for name in ARTIFACTS if name not in there]
    problems = [f"missing: {', '.join(missing)}"] if missing else []
    try:
        artifacts.check_format(candidate.version)
    except ModelError as error:
        problems.append(str(error))
    requirement = f"{', '.join(ARTIFACTS)} logged; the model kept as {artifacts.FORMAT}"
    return make_finding(not problems, requirement, "; ".join(problems) or "missing: none")


def check_lineage(candidate: Candidate) -> dict:
    """Trained again from its record alone it gives the same probabilities: it is what it is said to be."""
    gaps = np.abs(candidate.refitted - candidate.probability)
    here = provenance.describe_origin()
    changed = [
        name
        for name in ("code_sha256", "lock_sha256")
        if candidate.info.params.get(name) != here[name]
    ]
    detail = (
        f"{int((gaps > 0).sum())} of {len(gaps)} probabilities differ, by {gaps.max():.2g} at most"
    )
    detail += f"; changed since training: {', '.join(changed)}" if changed else ""
    return make_finding(
        bool(gaps.max() <= lineage.ROUNDING), "a refit from the record gives the same", detail
    )


def check_economics(candidate: Candidate) -> dict:
    """It was trained for the costs that hold now: its threshold and its promises follow from them."""
    own, now = candidate.info.economics, candidate.economics
    costs = [
        f"{e.offer_cost_usd:,.0f} USD an offer, {e.churner_value_usd:,.0f} USD a churner"
        for e in (own, now)
    ]
    return make_finding(own == now, f"trained for {costs[1]}", f"trained for {costs[0]}")


def check_label_freshness(candidate: Candidate) -> dict:
    """The labels that decide are recent, and the newest month has nearly all of its own."""
    newest = candidate.labelled[
        candidate.labelled["label_date"] == candidate.labelled["label_date"].max()
    ]
    arrived, month = newest["label_date"].iloc[0], newest["event_date"].max()
    age, count = (candidate.as_of - arrived).days, int((newest["event_date"] == month).sum())
    known = tables.read("customer_features", snapshot_date=month, as_of=candidate.as_of)[
        "customer_id"
    ].nunique()
    detail = f"newest labels arrived on {arrived:%Y-%m-%d}, {age} days before {candidate.as_of:%Y-%m-%d}, for {count} "
    detail += f"of {known} customers of {month:%Y-%m}"
    holds = age <= MAX_LABEL_AGE_DAYS and count >= MIN_LABELLED_SHARE * known
    requirement = f"labels at most {MAX_LABEL_AGE_DAYS} days old, of {MIN_LABELLED_SHARE:.0%} of the month's customers"
    return make_finding(holds, requirement, detail, age)


def check_leakage(candidate: Candidate) -> dict:
    """Nothing that could not be known: no customer on both sides, no later label, no input that is the answer."""
    learned, rows = candidate.learned, candidate.rows
    both = len(set(learned["customer_id"]) & set(rows["customer_id"]))
    late = int((learned["label_date"] > candidate.as_of).sum())
    alone = rank_inputs_alone(rows)
    own = float(candidate.samples["challenger"]["roc_auc"].quantile(0.025))
    problems = [f"{both} customers in train and test"] if both else []
    problems += [f"{late} rows whose label had not arrived"] if late else []
    problems += [
        f"{name} alone ranks with {found:.3f}"
        for name, found in alone.items()
        if found > ONE_INPUT_AUC
    ]
    problems += [f"ROC AUC of {own:.3f} at least: too good to be true"] if own > CEILING_AUC else []
    detail = (
        "; ".join(problems) or f"best input alone: {alone.index[0]}, ROC AUC {alone.iloc[0]:.3f}"
    )
    return make_finding(
        not problems, f"no input alone above ROC AUC {ONE_INPUT_AUC}", detail, float(alone.iloc[0])
    )


def rank_inputs_alone(rows: pd.DataFrame) -> pd.Series:
    """ROC AUC that the churn rate by category, or by twentieth of a number, reaches on the same rows; best first."""
    from sklearn.metrics import roc_auc_score

    churned, found = rows["churned"].to_numpy(dtype=float), {}
    for name in definitions.MODEL_INPUTS:
        groups = rows[name]
        if name in definitions.NUMERICAL and groups.nunique() > 20:
            groups = pd.qcut(groups, 20, labels=False, duplicates="drop")
        rates = pd.Series(churned).groupby(groups.to_numpy()).transform("mean")
        found[name] = float(roc_auc_score(churned, rates))
    return pd.Series(found).sort_values(ascending=False)
