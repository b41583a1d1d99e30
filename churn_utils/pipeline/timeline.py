"""The timeline: the stages in order of simulated time, as far as the months have shown them."""

from __future__ import annotations

import pandas as pd

from churn_utils.pipeline.plan import Plan
from churn_utils.pipeline.stages import (
    APPROVAL,
    BATCH,
    DRIFT,
    FIRST_ROUND,
    GATE,
    MONITORING,
    PRODUCTION,
    REGISTRY,
    SEARCH,
    Stage,
    name_stage,
)
from churn_utils.pipeline.state import Retraining, RunState

# Few trials: the champion's settings and every family's defaults are tried first.
RETRAINING_TRIALS = 6


def expand_timeline(plan: Plan, run_state: RunState) -> list[Stage]:
    """List the stages in order of simulated time, as far as it is known what the months call for.

    Production stops where drift asks for a retraining. The stages of that retraining follow, and
    then production again; which months these are is read from the results of production.
    """
    timeline = list(FIRST_ROUND)
    production = Stage(PRODUCTION, needs=(BATCH,))
    while True:
        timeline.append(production)
        retraining = run_state.retraining_after(production.name)
        if retraining is None or pd.Timestamp(retraining.as_of) > plan.end:
            break
        timeline += _expand_retraining(production, retraining)
        batch = name_stage(BATCH, retraining.month)
        production = Stage(PRODUCTION, retraining.month, needs=(batch,))
    return timeline + _monitor(production, f"{plan.end:%Y-%m-%d}")


def _monitor(production: Stage, as_of: str, month: str = "") -> list[Stage]:
    """Return the two notebooks that look at the months run so far."""
    needs = (production.name,)
    parameters = (
        ("AS_OF", as_of),
        ("PLAY_MONTHS", False),
    )
    return [
        Stage(MONITORING, month, needs, parameters),
        Stage(DRIFT, month, needs, parameters),
    ]


def _expand_retraining(production: Stage, retraining: Retraining) -> list[Stage]:
    """Return the stages of one retraining: what asked for it, then search to batch scoring."""
    month = retraining.month
    as_of = ("AS_OF", retraining.as_of)
    since = ("SINCE", retraining.since)
    snapshot = ("SNAPSHOT", retraining.as_of)
    few_trials = ("N_TRIALS", RETRAINING_TRIALS)
    monitoring, drift = _monitor(production, retraining.as_of, month)
    search = Stage(SEARCH, month, (production.name,), (as_of, since, few_trials))
    registry = Stage(REGISTRY, month, (search.name,), (as_of,))
    gate = Stage(GATE, month, (registry.name,), (as_of, since))
    # The approver reads what asked for the retraining; and 07 and 08 must see the old champion.
    before_approval = (gate.name, monitoring.name, drift.name)
    approval = Stage(APPROVAL, month, before_approval, (as_of,))
    batch = Stage(BATCH, month, (approval.name,), (as_of, snapshot))
    return [monitoring, drift, search, registry, gate, approval, batch]
