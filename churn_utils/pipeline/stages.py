"""The stages of the pipeline, what they need and write, and their order in simulated time."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from churn_utils.errors import UsageError
from churn_utils.features import offer_policy
from churn_utils.pipeline.plan import Plan, Value
from churn_utils.pipeline.state import Retraining, RunState

OVERVIEW, FEATURES = "00_overview", "01_feature_engineering"
SEARCH, REGISTRY = "02_hyperparameter_optimisation", "03_model_registry"
GATE, APPROVAL = "04a_challenger_validation", "04b_challenger_approval"
BATCH, SERVING = "05_batch_inference", "06_real_time_serving"
MONITORING, DRIFT = "07_model_monitoring", "08_drift_detection"
CONTROL = "09_offers_and_control"
PRODUCTION = "production"  # months that the package runs; it has no notebook

# Tables that a stage changes; they are rewound when it is repeated. The table `audit` is not one
# of them: it records what happened to the home, and that a stage was repeated happened too.
INGESTED = ("customers", "quarantine", "customer_features", "churn_labels", "offers")
WRITES = {
    FEATURES: INGESTED,
    APPROVAL: ("deployments",),
    BATCH: ("predictions", "offers"),
    PRODUCTION: (*INGESTED, "predictions", "monitoring_metrics", "decisions"),
}
NEEDS_CHAMPION = (BATCH, SERVING, PRODUCTION, MONITORING, DRIFT, CONTROL)

# Few trials: the champion's settings and every family's defaults are tried first.
RETRAINING_TRIALS = 6


def name_stage(kind: str, month: str = "") -> str:
    """Return the name of a stage: its kind, and for a retraining its month (``…_2025-05``)."""
    if not month:
        return kind
    return f"{kind}_{month}"


@dataclass(frozen=True)
class Stage:
    """A notebook at a place in simulated time, or months of production."""

    kind: str  # name of its notebook, or "production"
    month: str = ""  # of its retraining, such as 2025-05; empty in the first round
    needs: tuple[str, ...] = ()  # stages whose results it reads
    parameters: tuple[tuple[str, Value], ...] = ()  # that its place in time sets

    @property
    def name(self) -> str:
        """Its kind, and for a retraining its month: ``04a_challenger_validation_2025-05``."""
        return name_stage(self.kind, self.month)

    @property
    def writes(self) -> tuple[str, ...]:
        """Tables that it changes."""
        return WRITES.get(self.kind, ())


NOTEBOOKS = [
    *(OVERVIEW, FEATURES, SEARCH, REGISTRY, GATE, APPROVAL, BATCH, SERVING),
    *(MONITORING, DRIFT, CONTROL),
]


def find_stage(text: str, stages: list[Stage]) -> str:
    """Resolve a stage's name, or a beginning of it such as ``04a`` that only one stage has.

    Where a stage of the first round and one of a retraining begin alike, the first round's counts.

    Raises:
        UsageError: no stage or several begin so; the message lists the valid ones.
    """
    names = [stage.name for stage in stages]
    if text in names:
        return text
    found = [stage for stage in stages if stage.name.startswith(text)]
    found = [stage for stage in found if not stage.month] or found
    if len(found) != 1:
        raise UsageError(
            f"there is no stage {text!r}; the stages are {', '.join(names)} "
            "(a beginning such as 04a will do)."
        )
    return found[0].name


def expand_timeline(plan: Plan, run_state: RunState) -> list[Stage]:
    """List the stages in order of simulated time, as far as the months have shown them.

    Production stops where drift asks for a retraining, as its result says. The stages of that
    retraining follow, and then production again.
    """
    timeline = _list_first_round(plan)
    production = Stage(PRODUCTION, needs=(BATCH,))
    while True:
        timeline.append(production)
        retraining = run_state.retraining_after(production.name)
        if retraining is None or pd.Timestamp(retraining.as_of) > plan.end:
            break
        timeline += _expand_retraining(production, retraining)
        batch = name_stage(BATCH, retraining.month)
        production = Stage(PRODUCTION, retraining.month, needs=(batch,))
    end = f"{plan.end:%Y-%m-%d}"
    offers = Stage(CONTROL, needs=(production.name,), parameters=(("AS_OF", end),))
    return [*timeline, *_monitor(production, end), offers]


def _list_first_round(plan: Plan) -> list[Stage]:
    """Return the stages up to the first champion: 01 ingests two months, 05 scores the second."""
    first, second = f"{plan.first_month:%Y-%m-%d}", f"{plan.second_month:%Y-%m-%d}"
    as_of: tuple[tuple[str, Value], ...] = (("AS_OF", second),)
    dates = (("SNAPSHOT", first), ("LABELS_ARRIVE", second))
    if plan.offers == offer_policy.MADE:
        as_of = (*as_of, ("SAVE_RATE", offer_policy.ASSUMED_SAVE_RATE))
    return [
        Stage(OVERVIEW),
        Stage(FEATURES, parameters=dates),
        Stage(SEARCH, needs=(FEATURES,), parameters=as_of),
        Stage(REGISTRY, needs=(SEARCH,), parameters=as_of),
        Stage(GATE, needs=(REGISTRY,), parameters=as_of),
        Stage(APPROVAL, needs=(GATE,), parameters=as_of),
        Stage(BATCH, needs=(APPROVAL,), parameters=(*as_of, ("SNAPSHOT", second))),
        Stage(SERVING, needs=(BATCH,), parameters=as_of),
    ]


def _monitor(production: Stage, as_of: str, month: str = "") -> list[Stage]:
    """Return the two notebooks that look at the months run so far."""
    needs = (production.name,)
    parameters = (("AS_OF", as_of), ("PLAY_MONTHS", False))
    return [Stage(kind, month, needs, parameters) for kind in (MONITORING, DRIFT)]


def _expand_retraining(production: Stage, retraining: Retraining) -> list[Stage]:
    """Return the stages of one retraining: what asked for it, then search to batch scoring."""
    month = retraining.month
    as_of = ("AS_OF", retraining.as_of)
    since = ("SINCE", retraining.since)
    snapshot = ("SNAPSHOT", retraining.as_of)
    few_trials = ("N_TRIALS", RETRAINING_TRIALS)
    monitoring, drift = _monitor(production, retraining.as_of, month)
    measured: tuple[tuple[str, Value], ...] = ()
    if retraining.save_rate is not None:
        measured = (("SAVE_RATE", retraining.save_rate),)
    search = Stage(SEARCH, month, (production.name,), (as_of, since, few_trials, *measured))
    registry = Stage(REGISTRY, month, (search.name,), (as_of,))
    gate = Stage(GATE, month, (registry.name,), (as_of, since, *measured))
    # The approver reads what asked for the retraining; and 07 and 08 must see the old champion.
    before_approval = (gate.name, monitoring.name, drift.name)
    approval = Stage(APPROVAL, month, before_approval, (as_of,))
    batch = Stage(BATCH, month, (approval.name,), (as_of, snapshot))
    return [monitoring, drift, search, registry, gate, approval, batch]
