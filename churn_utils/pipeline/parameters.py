"""The notebooks as they stand on disk, and the parameters of every stage under a plan."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from churn_utils import settings
from churn_utils.errors import StageError, UsageError
from churn_utils.pipeline.plan import PROFILES, Plan, Value, Values
from churn_utils.pipeline.stages import APPROVAL, NOTEBOOKS, PRODUCTION, Stage

# Parameters that follow from the place in simulated time or from what the home holds, with the
# option that sets them: they are no -p parameters.
SET_BY_MONTHS = ("AS_OF", "SINCE", "SNAPSHOT", "LABELS_ARRIVE", "ROLE", "PLAY_MONTHS")
SET_BY_OPTION = {
    "SEED": "--seed",
    "SCENARIO": "--scenario",
    "DELIVERIES": "--deliveries",
    "OFFERS": "--offers",
    "CONTROL_SHARE": "--control-share",
    **dict.fromkeys(SET_BY_MONTHS, "--months"),
}


@dataclass(frozen=True)
class Parameter:
    """A parameter of a notebook: its default and the comment behind it."""

    default: Value
    help: str


@dataclass(frozen=True)
class Notebook:
    """A notebook as it was read: the sources of its cells, and its parameters by name."""

    cells: list[str]
    parameters: dict[str, Parameter]


Notebooks = dict[str, Notebook]  # by name


def read_notebooks() -> Notebooks:
    """Return every notebook by its name; ``production`` has neither cells nor parameters.

    Raises:
        StageError: a notebook is missing.
    """
    notebooks = {name: _read_notebook(name) for name in NOTEBOOKS}
    notebooks[PRODUCTION] = Notebook([], {})
    return notebooks


def _read_notebook(name: str) -> Notebook:
    """Read one notebook; its parameters are those of the cell tagged ``parameters``."""
    from papermill import inspect_notebook

    path = settings.notebooks() / f"{name}.ipynb"
    if not path.exists():
        raise StageError(f"notebook {path} is missing.")
    content = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell["source"] for cell in content["cells"]]
    parameters = {}
    for key, entry in inspect_notebook(str(path)).items():
        default = yaml.safe_load(entry["default"])
        parameters[key] = Parameter(default, entry["help"])
    return Notebook(cells, parameters)


def resolve_parameters(
    plan: Plan,
    timeline: list[Stage],
    notebooks: Notebooks,
) -> dict[str, Values]:
    """Return the value of every parameter of every stage: stage to parameter to value.

    An override (``-p``) counts before the stage's place in time, that before the plan's seed,
    scenario, profile and approver, and those before the notebook's default.

    Raises:
        UsageError: an override names a parameter that no stage has or that an option sets, or its
            value has another type; or the approver has no name or is the trainer.
    """
    _check_overrides(plan.overrides, notebooks)
    of_plan: Values = {
        "SEED": plan.seed,
        "SCENARIO": plan.scenario,
        "DELIVERIES": plan.deliveries,
        "OFFERS": plan.offers,
        "CONTROL_SHARE": plan.control_share,
        **PROFILES[plan.profile],
    }
    if plan.approver is not None:
        of_plan["APPROVER"] = plan.approver.strip()
    resolved: dict[str, Values] = {}
    for stage in timeline:
        given = {**of_plan, **dict(stage.parameters)}
        values: Values = {}
        for name, parameter in notebooks[stage.kind].parameters.items():
            default = parameter.default
            if name in plan.overrides:
                values[name] = _parse(name, plan.overrides[name], default)
            else:
                values[name] = given.get(name, default)
        resolved[stage.name] = values
    _check_approver(resolved[APPROVAL].get("APPROVER"))
    return resolved


def _check_overrides(overrides: Mapping[str, str], notebooks: Notebooks) -> None:
    """Refuse overrides of parameters that an option sets, or that no notebook has."""
    for name in overrides:
        if option := SET_BY_OPTION.get(name):
            raise UsageError(
                f"{name} follows from the run's timeline: use {option}, not -p {name}=…."
            )
    valid: set[str] = set()
    for notebook in notebooks.values():
        valid |= set(notebook.parameters)
    valid -= set(SET_BY_OPTION)
    unknown = [name for name in overrides if name not in valid]
    if unknown:
        names = ", ".join(sorted(valid))
        raise UsageError(f"unknown parameter {', '.join(unknown)}; the parameters are {names}.")


def _check_approver(name: Value | None) -> None:
    if not isinstance(name, str):
        return  # no notebook 04b asks who approves
    if not name.strip():
        raise UsageError("an approval needs a name: --approve-as 'Ada Lovelace'.")
    if settings.is_same_person(name, settings.user()):
        raise UsageError(
            f"--approve-as {name}: a trainer may not approve, and that is who trains here."
        )


def _parse(
    name: str,
    text: str,
    default: Value,
) -> Value:
    """Read the text of an override as a value of the type that the parameter's default has."""
    if isinstance(default, str):
        return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if type(value) is not type(default):
        raise UsageError(
            f"parameter {name} takes {type(default).__name__} (default {default!r}), not {text!r}."
        )
    return value
