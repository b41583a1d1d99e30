"""The stages of the pipeline: their names, what they need, and the tables that they write."""

from __future__ import annotations

from dataclasses import dataclass

from churn_utils.errors import UsageError
from churn_utils.pipeline.plan import Value

OVERVIEW, FEATURES = "00_overview", "01_feature_engineering"
SEARCH, REGISTRY = "02_hyperparameter_optimisation", "03_model_registry"
GATE, APPROVAL = "04a_challenger_validation", "04b_challenger_approval"
BATCH, SERVING = "05_batch_inference", "06_real_time_serving"
MONITORING, DRIFT = "07_model_monitoring", "08_drift_detection"
PRODUCTION = "production"  # months that the package runs; it has no notebook

# Tables that a stage changes; they are rewound when it is repeated. The table `audit` is not one
# of them: it records what happened to the home, and that a stage was repeated happened too.
WRITES = {
    FEATURES: ("customers", "quarantine", "customer_features", "churn_labels"),
    APPROVAL: ("deployments",),
    BATCH: ("predictions",),
    PRODUCTION: (
        "customers",
        "quarantine",
        "customer_features",
        "churn_labels",
        "predictions",
        "monitoring_metrics",
        "decisions",
    ),
}
NEEDS_CHAMPION = (BATCH, SERVING, PRODUCTION, MONITORING, DRIFT)


def name_stage(kind: str, month: str = "") -> str:
    """Return the name of a stage: its kind, and for a retraining its month (``…_2025-05``)."""
    return f"{kind}_{month}" if month else kind


@dataclass(frozen=True)
class Stage:
    """A notebook at a place in simulated time, or months of production.

    Attributes:
        kind: name of its notebook, or ``production``.
        month: month of the retraining that it belongs to (``2025-05``); empty in the first round.
        needs: names of the stages whose results it reads.
        parameters: notebook parameters that its place in time sets, as pairs of name and value.
    """

    kind: str
    month: str = ""
    needs: tuple[str, ...] = ()
    parameters: tuple[tuple[str, Value], ...] = ()

    @property
    def name(self) -> str:
        """Its kind, and for a retraining its month: ``04a_challenger_validation_2025-05``."""
        return name_stage(self.kind, self.month)

    @property
    def writes(self) -> tuple[str, ...]:
        """Tables that it changes."""
        return WRITES.get(self.kind, ())


FIRST_ROUND = (
    Stage(OVERVIEW),
    Stage(FEATURES),
    Stage(SEARCH, needs=(FEATURES,)),
    Stage(REGISTRY, needs=(SEARCH,)),
    Stage(GATE, needs=(REGISTRY,)),
    Stage(APPROVAL, needs=(GATE,)),
    Stage(BATCH, needs=(APPROVAL,)),
    Stage(SERVING, needs=(BATCH,)),
)
NOTEBOOKS = [*(stage.kind for stage in FIRST_ROUND), MONITORING, DRIFT]


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
