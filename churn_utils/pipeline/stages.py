"""The stages of the pipeline in simulated time, and their parameters."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import pandas as pd
import yaml

from churn_utils import settings
from churn_utils.errors import StageError, UsageError

PROFILES = {"full": {}, "fast": {"N_TRIALS": 6, "DRAWS": 400, "LIST_SIZE": 50}}
# The simulator's (a test holds the two together): importing it would cost every --help two seconds.
SCENARIOS = ("none", "price_rise", "competitor", "mix_shift", "data_bug")
RETRAINING = {"N_TRIALS": 6}  # the champion's settings and every family's default are tried first
SEARCH, REGISTRY = "02_hyperparameter_optimisation", "03_model_registry"
GATE, APPROVAL, BATCH = "04a_challenger_validation", "04b_challenger_approval", "05_batch_inference"
SERVING, MONITORING, DRIFT = "06_real_time_serving", "07_model_monitoring", "08_drift_detection"
MOST_MONTHS = 120
PRODUCTION = "production"  # months played by the package, no notebook
# What follows from the place in simulated time or from the home's world, and is therefore no -p parameter.
TIMELINE = {
    "SEED": "--seed",
    "SCENARIO": "--scenario",
    "AS_OF": "--months",
    "SINCE": "--months",
    "SNAPSHOT": "--months",
    "LABELS_ARRIVE": "--months",
    "ROLE": "--months",
    "PLAY_MONTHS": "--months",
}
# Tables that a stage changes, to be rewound when it is repeated. Not ``audit``: it tells what happened to the home, and
# that a stage was repeated happened too.
WRITES = {
    "01_feature_engineering": ("customers", "quarantine", "customer_features", "churn_labels"),
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


@dataclass(frozen=True)
class Stage:
    """A notebook at a place in simulated time, or months of production; and the stages whose results it reads.

    ``name`` is the notebook's, and for a retraining its month as well: ``04a_challenger_validation_2025-05``.
    """

    name: str
    needs: tuple[str, ...] = ()
    parameters: tuple[tuple[str, object], ...] = ()  # what its place in time sets

    @property
    def kind(self) -> str:
        """Name of its notebook, or ``production``."""
        return re.sub(r"_\d{4}-\d{2}$", "", self.name)

    @property
    def writes(self) -> tuple[str, ...]:
        """Tables that it changes."""
        return WRITES.get(self.kind, ())


FIRST_ROUND = (
    Stage("00_overview"),
    Stage("01_feature_engineering"),
    Stage(SEARCH, ("01_feature_engineering",)),
    Stage(REGISTRY, (SEARCH,)),
    Stage(GATE, (REGISTRY,)),
    Stage(APPROVAL, (GATE,)),
    Stage(BATCH, (APPROVAL,)),
    Stage(SERVING, (BATCH,)),
)
NOTEBOOKS = [stage.name for stage in FIRST_ROUND] + [MONITORING, DRIFT]


@dataclass
class Plan:
    """What one call of the pipeline is to do."""

    scenario: str = "price_rise"
    months: int = 6
    seed: int = settings.SEED
    profile: str = "full"
    only: tuple[str, ...] = ()
    start: str | None = None
    overrides: dict[str, str] | None = None
    approver: str | None = None
    manual_approval: bool = False
    fresh: bool = False

    def __post_init__(self) -> None:
        """Refuse a timeline that ends before its first production month is labelled."""
        if not 2 <= self.months <= MOST_MONTHS:
            raise UsageError(
                f"--months is {self.months}; valid are whole numbers from 2 to {MOST_MONTHS}."
            )
        if self.seed < 0:
            raise UsageError(f"--seed is {self.seed}; valid are whole numbers from 0 on.")

    @property
    def world(self) -> dict:
        """What a home holds one of."""
        return {"scenario": self.scenario, "seed": self.seed, "profile": self.profile}

    @property
    def run(self) -> str:
        """Name of the run and of its reports folder."""
        return f"{self.scenario}-seed{self.seed}-{self.profile}"

    @property
    def end(self) -> pd.Timestamp:
        """Last as-of month."""
        return settings.month_start(self.months)


def unfold(plan: Plan, state: dict) -> list[Stage]:
    """List the stages in order of simulated time, as far as it is known what the months call for.

    Production stops where drift asks for a retraining; its months then come out of the state, and the stages of that
    retraining follow, and production again.
    """
    timeline = list(FIRST_ROUND)
    production = Stage(PRODUCTION, (BATCH,))
    while True:
        timeline.append(production)
        asked = state["stages"].get(production.name, {}).get("retrain")
        if asked is None or pd.Timestamp(asked["as_of"]) > plan.end:
            break
        timeline += _unfold_retraining(production, asked)
        production = Stage(f"{PRODUCTION}_{asked['as_of'][:7]}", (f"{BATCH}_{asked['as_of'][:7]}",))
    return timeline + _look(production, f"{plan.end:%Y-%m-%d}")


def _look(production: Stage, as_of: str, month: str = "") -> list[Stage]:
    """The notebooks that look at the months played so far."""
    parameters = (("AS_OF", as_of), ("PLAY_MONTHS", False))
    return [Stage(name + month, (production.name,), parameters) for name in (MONITORING, DRIFT)]


def _unfold_retraining(production: Stage, asked: dict) -> list[Stage]:
    """Stages of one retraining: a look at what asked for it, then search to scoring on the months that changed."""
    as_of, month = ("AS_OF", asked["as_of"]), f"_{asked['as_of'][:7]}"
    since = ("SINCE", asked["since"])
    looks = _look(production, asked["as_of"], month)
    return [
        *looks,
        Stage(SEARCH + month, (production.name,), (as_of, since, *RETRAINING.items())),
        Stage(REGISTRY + month, (SEARCH + month,), (as_of,)),
        Stage(GATE + month, (REGISTRY + month,), (as_of, since)),
        # whoever approves has seen what asked for it; and the looks see the champion before
        Stage(APPROVAL + month, (GATE + month, *(stage.name for stage in looks)), (as_of,)),
        Stage(BATCH + month, (APPROVAL + month,), (as_of, ("SNAPSHOT", asked["as_of"]))),
    ]


def find_stage(text: str, timeline: list[Stage]) -> str:
    """Resolve a stage's name or an unambiguous beginning of it, such as ``04a``; the first round goes before others.

    Raises:
        UsageError: no or several stages begin so; the message lists the valid ones.
    """
    names = [stage.name for stage in timeline]
    found = [name for name in names if name == text] or [
        name for name in names if name.startswith(text)
    ]
    found = [name for name in found if not name[-7:-5].isdigit()] or found
    if len(found) != 1:
        raise UsageError(
            f"there is no stage {text!r}; the stages are {', '.join(names)} (a beginning such as 04a will do)."
        )
    return found[0]


@dataclass(frozen=True)
class Notebook:
    """A notebook as it was read: sources of its cells, and parameters (name to ``{"default": …, "help": …}``)."""

    cells: list[str]
    parameters: dict[str, dict]


def read_notebooks() -> dict[str, Notebook]:
    """Read every notebook; production has neither cells nor parameters.

    Raises:
        StageError: a notebook is missing.
    """
    return {PRODUCTION: Notebook([], {}), **{name: _read_notebook(name) for name in NOTEBOOKS}}


def _read_notebook(name: str) -> Notebook:
    from papermill import inspect_notebook

    path = settings.notebooks() / f"{name}.ipynb"
    if not path.exists():
        raise StageError(f"notebook {path} is missing.")
    cells = [cell["source"] for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    found = inspect_notebook(str(path)).items()
    return Notebook(
        cells,
        {
            key: {"default": yaml.safe_load(entry["default"]), "help": entry["help"]}
            for key, entry in found
        },
    )


def resolve_parameters(
    plan: Plan, timeline: list[Stage], notebooks: dict[str, Notebook]
) -> dict[str, dict]:
    """Value of every parameter of every stage under a plan.

    Raises:
        UsageError: an override names a parameter that no stage has or that the timeline sets, its value has another
            type, or the approver is nobody or the trainer.
    """
    known = {name: notebook.parameters for name, notebook in notebooks.items()}
    overrides = dict(plan.overrides or {})
    _check_overrides(overrides, known)
    given = {"SEED": plan.seed, "SCENARIO": plan.scenario} | PROFILES[plan.profile]
    if plan.approver is not None:
        given["APPROVER"] = plan.approver.strip()
    resolved = {}
    for stage in timeline:
        here = given | dict(stage.parameters)
        resolved[stage.name] = {
            name: _parse(name, overrides[name], entry["default"])
            if name in overrides
            else here.get(name, entry["default"])
            for name, entry in known[stage.kind].items()
        }
    _check_approver(resolved[APPROVAL].get("APPROVER"))
    return resolved


def _check_overrides(overrides: dict[str, str], known: dict[str, dict]) -> None:
    fixed = [name for name in overrides if name in TIMELINE]
    if fixed:
        raise UsageError(
            f"{fixed[0]} follows from the run's timeline: use {TIMELINE[fixed[0]]}, not -p {fixed[0]}=…."
        )
    valid = sorted(
        {parameter for entries in known.values() for parameter in entries} - set(TIMELINE)
    )
    unknown = [name for name in overrides if name not in valid]
    if unknown:
        raise UsageError(
            f"unknown parameter {', '.join(unknown)}; the parameters are {', '.join(valid)}."
        )


def _check_approver(name: str | None) -> None:
    if name is None:
        return
    if not name.strip():
        raise UsageError("an approval needs a name: --approve-as 'Ada Lovelace'.")
    if settings.is_same_person(name, settings.user()):
        raise UsageError(
            f"--approve-as {name}: a trainer may not approve, and that is who trains here."
        )


def _parse(name: str, text: str, default):
    try:
        value = text if isinstance(default, str) else yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not type(default):
        raise UsageError(
            f"parameter {name} takes {type(default).__name__} (default {default!r}), not {text!r}."
        )
    return value
