"""Checks of a challenger's record, and of the data behind it: labels and leakage."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from churn_utils.data import tables
from churn_utils.errors import ModelError
from churn_utils.features import definitions
from churn_utils.registry import artifacts, lineage, provenance, versions
from churn_utils.validation.challenger import Challenger
from churn_utils.validation.finding import Finding

ARTIFACTS = [artifacts.FEATURE_CONTRACT, "figures.html", "importance.json"]
DOCUMENTED = ["data", "purpose", "threshold"]
MAX_LABEL_AGE_DAYS = 31  # labels come monthly: older means that a month of them is missing
MIN_LABELLED_SHARE = 0.95  # of a month's customers; a quarantined row has features later or never
# ROC AUC of one input alone from which it is no feature but the answer; the best here has 0.75.
ONE_INPUT_AUC = 0.9
CEILING_AUC = 0.97  # no model of customers' choices is that good
BINS = 20


def check_documentation(challenger: Challenger) -> Finding:
    """The description speaks of data, purpose and threshold, and the trainer is named.

    Protects from a model that cannot be judged later, and from trainers who approve their own.
    """
    trainer = challenger.info.trained_by
    text = challenger.info.description.lower()
    missing = [word for word in DOCUMENTED if word not in text]
    if not trainer:
        missing.append("trained_by")
    detail = f"missing: {', '.join(missing)}" if missing else f"trained by {trainer}"
    requirement = f"description names {', '.join(DOCUMENTED)}; trainer recorded"
    return Finding.of(not missing, requirement, detail)


def check_signature(challenger: Challenger) -> Finding:
    """The signature names exactly the inputs of its feature contract, in order and type.

    Protects from a model that expects other columns than batch and API give it. They give every
    feature that is defined; a model from before a feature has a contract without it.
    """
    schema = artifacts.read_schema(challenger.version)
    contract = {
        name: definitions.MODEL_INPUTS[name].type.mlflow
        for name in challenger.inputs
        if name in definitions.MODEL_INPUTS
    }
    names = schema.keys() | contract.keys()
    wrong = sorted(name for name in names if schema.get(name) != contract.get(name))
    same = list(schema.items()) == list(contract.items())
    detail = "equal" if same else f"differs in {', '.join(wrong) or 'order'}"
    requirement = f"inputs are the {len(contract)} of the feature contract"
    return Finding.of(same, requirement, detail, len(schema))


def check_artifacts(challenger: Challenger) -> Finding:
    """The training run kept what people need to judge it, and the model runs no code when loaded.

    Protects from a model file that executes what its author likes, and from an undocumented run.
    """
    logged = versions.list_artifacts(challenger.version)
    missing = [name for name in ARTIFACTS if name not in logged]
    problems = []
    if missing:
        problems.append(f"missing: {', '.join(missing)}")
    try:
        artifacts.check_format(challenger.version)
    except ModelError as error:
        problems.append(str(error))
    requirement = f"{', '.join(ARTIFACTS)} logged; the model kept as {artifacts.FORMAT}"
    return Finding.of(not problems, requirement, "; ".join(problems) or "missing: none")


def check_economics(challenger: Challenger) -> Finding:
    """It was trained for the costs that hold now: its threshold follows from them.

    Protects from a model whose decisions rest on the costs of another time.
    """
    own = challenger.info.economics
    now = challenger.economics
    requirement = f"trained for {now.describe()}"
    detail = f"trained for {own.describe()}"
    return Finding.of(own == now, requirement, detail)


def check_lineage(challenger: Challenger) -> Finding:
    """Trained again from its record alone it gives the same probabilities.

    Protects from a model that is not what its record says, such as one that saw the test rows.
    """
    gaps = np.abs(challenger.refitted_probability - challenger.probability)
    largest = float(gaps.max())
    differing = int((gaps > 0).sum())
    detail = f"{differing} of {len(gaps)} probabilities differ, by {largest:.2g} at most"
    changed = provenance.list_changes(challenger.info.params)
    if changed:
        detail += f"; changed since training: {', '.join(changed)}"
    requirement = "a refit from the record gives the same"
    return Finding.of(largest <= lineage.ROUNDING, requirement, detail)


def check_label_freshness(challenger: Challenger) -> Finding:
    """The labels that decide are recent, and nearly all customers of the newest month have one.

    Protects from a verdict on a time that is over, or on the part of a month that arrived first.
    """
    labelled, as_of = challenger.labelled, challenger.as_of
    arrived = labelled["label_date"].max()
    newest = labelled[labelled["label_date"] == arrived]
    month = newest["event_date"].max()
    labelled_count = int((newest["event_date"] == month).sum())
    features = tables.read("customer_features", snapshot_date=month, as_of=as_of)
    customer_count = features["customer_id"].nunique()
    age_days = (as_of - arrived).days
    holds = age_days <= MAX_LABEL_AGE_DAYS and labelled_count >= MIN_LABELLED_SHARE * customer_count
    detail = (
        f"newest labels arrived on {arrived:%Y-%m-%d}, {age_days} days before {as_of:%Y-%m-%d}, "
        f"for {labelled_count} of {customer_count} customers of {month:%Y-%m}"
    )
    requirement = (
        f"labels at most {MAX_LABEL_AGE_DAYS} days old, "
        f"of {MIN_LABELLED_SHARE:.0%} of the month's customers"
    )
    return Finding.of(holds, requirement, detail, age_days)


def check_leakage(challenger: Challenger) -> Finding:
    """No customer is on both sides, no label is from later, no input is the answer itself.

    Protects from figures that are good because the model knows what it could not know.
    """
    learned, rows = challenger.learned, challenger.rows
    problems = []
    both_sides = set(learned["customer_id"]) & set(rows["customer_id"])
    if both_sides:
        problems.append(f"{len(both_sides)} customers in train and test")
    late = int((learned["label_date"] > challenger.as_of).sum())
    if late:
        problems.append(f"{late} rows whose label had not arrived")
    alone = rank_inputs_alone(rows, challenger.inputs)
    for name, auc in alone[alone > ONE_INPUT_AUC].items():
        problems.append(f"{name} alone ranks with {auc:.3f}")
    lower = float(challenger.samples["challenger"]["roc_auc"].quantile(0.025))
    if lower > CEILING_AUC:
        problems.append(f"ROC AUC of {lower:.3f} at least: too good to be true")
    best_auc = float(alone.iloc[0])
    detail = "; ".join(problems) or f"best input alone: {alone.index[0]}, ROC AUC {best_auc:.3f}"
    requirement = f"no input alone above ROC AUC {ONE_INPUT_AUC}"
    return Finding.of(not problems, requirement, detail, best_auc)


def rank_inputs_alone(
    rows: pd.DataFrame, inputs: Iterable[str] = definitions.MODEL_INPUTS
) -> pd.Series:
    """Return the ROC AUC that each input reaches alone on the same rows, best first.

    The score of a row is the churn rate of its category, or of its twentieth of a number. ``rows``
    holds the model inputs and ``churned``.
    """
    from sklearn.metrics import roc_auc_score

    churned = rows["churned"].to_numpy(dtype=float)
    found = {}
    for name in inputs:
        groups = rows[name]
        if name in definitions.NUMERICAL and groups.nunique() > BINS:
            groups = pd.qcut(groups, BINS, labels=False, duplicates="drop")
        rates = pd.Series(churned).groupby(groups.to_numpy()).transform("mean")
        found[name] = float(roc_auc_score(churned, rates))
    return pd.Series(found).sort_values(ascending=False)
