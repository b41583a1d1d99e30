"""Fingerprints of stages: what each depends on, so that it runs again when that changes."""

from __future__ import annotations

import hashlib
import json

import pandas as pd

from churn_utils.pipeline.parameters import Notebooks
from churn_utils.pipeline.plan import Plan, Values
from churn_utils.pipeline.stages import (
    FEATURES,
    PRODUCTION,
    Stage,
)
from churn_utils.pipeline.state import RunState
from churn_utils.upstream import months

NOT_FINGERPRINTED = ("APPROVER", "REASON")


def fingerprint_stages(
    plan: Plan,
    stages: list[Stage],
    parameters: dict[str, Values],
    run_state: RunState,
    notebooks: Notebooks,
) -> dict[str, str]:
    """Return by ``stage.name`` a hash of its notebook, parameters and the stages that it needs.

    Who approves is left out: another caller does not give a standing approval again. Months that
    ended in a retraining are the same however long the run goes on. A delivery that a person has
    let pass since, or whose file is another one, makes the stage that ingests it run again.
    """
    from churn_utils.registry import deployments  # which --help need not wait for

    accepted = deployments.list_accepted()
    source = plan.source
    fingerprints: dict[str, str] = {}
    for stage in stages:
        content: object = notebooks[stage.kind].cells
        if stage.kind == PRODUCTION:
            content = _describe_months(plan, stage, run_state)
        values = dict(parameters[stage.name])
        for name in NOT_FINGERPRINTED:
            values.pop(name, None)
        before = [fingerprints[name] for name in stage.needs]
        parts: list[object] = [content, values, before]
        ingested = _months_ingested(plan, stage, run_state)
        let_pass = [delivery for delivery in accepted if delivery[0] in ingested]
        if let_pass:
            parts.append(let_pass)
        arrivals = months.list_arrivals(source, ingested)
        if arrivals:
            parts.append(arrivals)
        text = json.dumps(parts, sort_keys=True)
        fingerprints[stage.name] = hashlib.sha256(text.encode()).hexdigest()
    return fingerprints


def _months_ingested(plan: Plan, stage: Stage, run_state: RunState) -> set[str]:
    """Return the months, such as 2025-04, whose deliveries a stage ingests."""
    if stage.kind == FEATURES:
        return {f"{plan.first_month:%Y-%m}", f"{plan.second_month:%Y-%m}"}
    if stage.kind != PRODUCTION:
        return set()
    retraining = run_state.retraining_after(stage.name)
    last = f"{plan.end:%Y-%m}" if retraining is None else retraining.month
    first = stage.month or f"{plan.second_month:%Y-%m}"
    span = pd.period_range(first, last, freq="M").astype(str)
    return set(span[1:])


def _describe_months(plan: Plan, stage: Stage, run_state: RunState) -> dict[str, object]:
    """Return what the months of a stage of production depend on."""
    retraining = run_state.retraining_after(stage.name)
    has_ended = retraining is not None and pd.Timestamp(retraining.as_of) <= plan.end
    return plan.identity.facts | {"months": None if has_ended else plan.months}
