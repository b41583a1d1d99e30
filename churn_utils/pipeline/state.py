"""What a home remembers of its run: the finished stages, and what each result depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from churn_utils import settings
from churn_utils.errors import UsageError
from churn_utils.pipeline.stages import PRODUCTION, Notebook, Plan, Stage

NEW = {"world": None, "stages": {}, "began": {}, "rewind": {}}  # of a home in which nothing ran yet


def _state_path() -> Path:
    return settings.home() / "pipeline" / "state.json"


def read_state() -> dict:
    """State of the run in this home, empty for a new one.

    ``world``; the finished ``stages``; by stage that ``began`` the versions that its tables had before; and a
    ``rewind`` of tables that was not completed.
    """
    path = _state_path()
    return json.loads(path.read_text()) if path.exists() else deepcopy(NEW)


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
    path = settings.home() / "pipeline" / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(path).acquire(blocking=False)
    except Timeout as error:
        raise UsageError(
            f"another run_all.py is running in {settings.home()}: wait, or use --home."
        ) from error
    with lock:
        yield


def fingerprint_stages(
    plan: Plan,
    timeline: list[Stage],
    parameters: dict[str, dict],
    state: dict,
    notebooks: dict[str, Notebook],
) -> dict[str, str]:
    """Hash of each stage's notebook, parameters and of the stages before it: what its result depends on.

    Who approves is left out: a standing approval is not to be given again because somebody else calls. Months of
    production that ended in a retraining are the same however long the run goes on.
    """
    found: dict[str, str] = {}
    for stage in timeline:
        values = {
            name: value
            for name, value in parameters[stage.name].items()
            if name not in ("APPROVER", "REASON")
        }
        if stage.kind == PRODUCTION:
            asked = state["stages"].get(stage.name, {}).get("retrain")
            ended = asked is not None and pd.Timestamp(asked["as_of"]) <= plan.end
            content: object = {**plan.world, "months": None if ended else plan.months}
        else:
            content = notebooks[stage.kind].cells
        parts = (content, values, [found[name] for name in stage.needs])
        found[stage.name] = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return found
