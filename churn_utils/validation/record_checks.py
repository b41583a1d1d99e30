"""Checks of what is on record: description, signature, artifacts, costs, and a refit from it."""

from __future__ import annotations

import numpy as np

from churn_utils.errors import ModelError
from churn_utils.evaluation.economics import Economics
from churn_utils.features import definitions
from churn_utils.registry import artifacts, lineage, provenance, versions
from churn_utils.validation.challenger import Challenger
from churn_utils.validation.finding import Finding

ARTIFACTS = ["feature_contract.json", "figures.html", "importance.json"]
DOCUMENTED = ["data", "purpose", "threshold"]
ORIGIN = ["code_sha256", "lock_sha256"]


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
    """The signature names exactly the contract's inputs, in order and type.

    Protects from a model that expects other columns than batch and API give it.
    """
    schema = artifacts.read_schema(challenger.version)
    contract = {name: feature.type.mlflow for name, feature in definitions.MODEL_INPUTS.items()}
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
    requirement = f"trained for {_describe_costs(now)}"
    return Finding.of(own == now, requirement, f"trained for {_describe_costs(own)}")


def _describe_costs(economics: Economics) -> str:
    return (
        f"{economics.offer_cost_usd:,.0f} USD an offer, "
        f"{economics.churner_value_usd:,.0f} USD a churner"
    )


def check_lineage(challenger: Challenger) -> Finding:
    """Trained again from its record alone it gives the same probabilities.

    Protects from a model that is not what its record says, such as one that saw the test rows.
    """
    gaps = np.abs(challenger.refitted_probability - challenger.probability)
    largest = float(gaps.max())
    differing = int((gaps > 0).sum())
    detail = f"{differing} of {len(gaps)} probabilities differ, by {largest:.2g} at most"
    now = provenance.describe_origin()
    params = challenger.info.params
    changed = [name for name in ORIGIN if params.get(name) != now[name]]
    if changed:
        detail += f"; changed since training: {', '.join(changed)}"
    requirement = "a refit from the record gives the same"
    return Finding.of(largest <= lineage.ROUNDING, requirement, detail)
