"""The stages of the pipeline, their parameters, and what a home remembers of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from churn_utils import settings
from churn_utils.settings import ChurnError

PROFILES = {"full": {}, "fast": {"N_TRIALS": 6, "DRAWS": 400, "LIST_SIZE": 50}}
GATE, APPROVAL, BATCH = "04a_challenger_validation", "04b_challenger_approval", "05_batch_inference"


@dataclass(frozen=True)
class Stage:
    """A notebook and the stages whose results it reads."""

    name: str
    needs: tuple[str, ...] = ()


STAGES = (
    Stage("00_overview"),
    Stage("01_feature_engineering"),
    Stage("02_hyperparameter_optimisation", ("01_feature_engineering",)),
    Stage("03_model_registry", ("02_hyperparameter_optimisation",)),
    Stage(GATE, ("03_model_registry",)),
    Stage(APPROVAL, (GATE,)),
    Stage(BATCH, (APPROVAL,)),
)
NAMES = [stage.name for stage in STAGES]


class UsageError(ChurnError):
    """Wrong usage: exit code 2."""


class StageError(ChurnError):
    """A notebook raised: exit code 1."""


@dataclass
class Plan:
    """What one call of the pipeline is to do."""

    seed: int = settings.SEED
    profile: str = "full"
    only: tuple[str, ...] = ()
    start: str | None = None
    overrides: dict[str, str] | None = None
    approver: str | None = None
    manual_approval: bool = False
    fresh: bool = False

    @property
    def world(self) -> dict:
        """What a home holds one of."""
        return {"seed": self.seed, "profile": self.profile}

    @property
    def run(self) -> str:
        """Name of the run and of its reports folder."""
        return f"seed{self.seed}-{self.profile}"


def find_stage(text: str) -> str:
    """Resolve a stage's name or an unambiguous beginning of it, such as ``04a``.

    Raises:
        UsageError: no or several stages begin so; the message lists the valid ones.
    """
    found = [name for name in NAMES if name == text] or [name for name in NAMES if name.startswith(text)]
    if len(found) != 1:
        raise UsageError(
            f"there is no stage {text!r}; the stages are {', '.join(NAMES)} (a beginning such as 04a will do)."
        )
    return found[0]


def read_parameters(stage: str) -> dict[str, dict]:
    """Parameters of a notebook: name to ``{"default": value, "help": text}``.

    Raises:
        StageError: the notebook is missing.
    """
    from papermill import inspect_notebook

    path = settings.notebooks() / f"{stage}.ipynb"
    if not path.exists():
        raise StageError(f"notebook {path} is missing.")
    found = inspect_notebook(str(path))
    return {name: {"default": yaml.safe_load(entry["default"]), "help": entry["help"]} for name, entry in found.items()}


def resolve_parameters(plan: Plan) -> dict[str, dict]:
    """Value of every parameter of every stage under a plan.

    Raises:
        UsageError: an override names a parameter that no stage has, its value has another type, or the approver is
            nobody or the trainer.
    """
    known = {name: read_parameters(name) for name in NAMES}
    overrides = dict(plan.overrides or {})
    if "SEED" in overrides:
        raise UsageError("the seed belongs to the world of a home: use --seed, not -p SEED=…")
    valid = sorted({parameter for entries in known.values() for parameter in entries})
    unknown = [name for name in overrides if name not in valid]
    if unknown:
        raise UsageError(f"unknown parameter {', '.join(unknown)}; the parameters are {', '.join(valid)}.")
    given = {"SEED": plan.seed} | PROFILES[plan.profile]
    if plan.approver is not None:
        given["APPROVER"] = plan.approver.strip()
    resolved = {
        stage: {
            name: _parse(name, overrides[name], entry["default"])
            if name in overrides
            else given.get(name, entry["default"])
            for name, entry in entries.items()
        }
        for stage, entries in known.items()
    }
    _check_approver(resolved[APPROVAL].get("APPROVER"))
    return resolved


def _check_approver(name: str | None) -> None:
    if name is not None and not name.strip():
        raise UsageError("an approval needs a name: --approve-as 'Ada Lovelace'.")
    if name == settings.user():
        raise UsageError(f"--approve-as {name}: a trainer may not approve, and that is who trains here.")


def _parse(name: str, text: str, default):
    try:
        value = text if isinstance(default, str) else yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not type(default):
        raise UsageError(f"parameter {name} takes {type(default).__name__} (default {default!r}), not {text!r}.")
    return value


def _state_path() -> Path:
    return settings.home() / "pipeline" / "state.json"


def read_state() -> dict:
    """State of the run in this home: ``world`` and the finished ``stages``; empty for a new home."""
    path = _state_path()
    return json.loads(path.read_text()) if path.exists() else {"world": None, "stages": {}}


def write_state(state: dict) -> None:
    """Replace the state of the run in this home."""
    path = _state_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(state, indent=1))
    partial.replace(path)  # a killed run leaves the old state or the new one, never half of one


@contextmanager
def hold_home() -> Iterator[None]:
    """Keep a second pipeline out of this home until the first has ended.

    Raises:
        UsageError: another one is running in it.
    """
    import fcntl  # POSIX, as make and the forked kernels are

    path = settings.home() / "pipeline" / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another run_all.py is running in {settings.home()}: wait, or use --home.") from error
        yield


def fingerprint_stages(parameters: dict[str, dict]) -> dict[str, str]:
    """Hash of each stage's notebook, parameters and of the stages before it: what its result depends on.

    Who approves is left out: a standing approval is not to be given again because somebody else calls.
    """
    found: dict[str, str] = {}
    for stage in STAGES:
        cells = json.loads((settings.notebooks() / f"{stage.name}.ipynb").read_text(encoding="utf-8"))["cells"]
        parts = (
            [cell["source"] for cell in cells],
            {name: value for name, value in parameters[stage.name].items() if name not in ("APPROVER", "REASON")},
            [found[name] for name in stage.needs],
        )
        found[stage.name] = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return found
