"""What a home remembers of its run: finished stages, table versions before them, what waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from churn_utils import settings
from churn_utils.data.files import write_atomically
from churn_utils.errors import ChurnError, UsageError
from churn_utils.pipeline.plan import RunIdentity

TableVersions = dict[str, int | None]  # by table; None where there is none
STATE_FILE = "pipeline/state.json"
# Names in the file where they differ: those of earlier versions, whose homes go on working.
STORED_NAMES = {
    "identity": "world",
    "results": "stages",
    "versions_at_start": "began",
    "unfinished_rewind": "rewind",
}


class Retraining(BaseModel):
    """A retraining that drift asked for: its as-of month, and the first month to train on."""

    model_config = ConfigDict(frozen=True)

    as_of: str
    since: str
    save_rate: float | None = None  # measured, where offers are made

    @property
    def month(self) -> str:
        """Month that its stages are named after, such as ``2025-05``."""
        return self.as_of[:7]


class GateResult(BaseModel):
    """What a gate said: the version that it judged, its verdict, and in words what refused."""

    model_config = ConfigDict(frozen=True)

    version: int | None = None
    verdict: str | None = None
    refused_by: str = ""

    @property
    def is_refusal(self) -> bool:
        """Whether the gate gave a verdict other than ``pass``."""
        return self.verdict not in (None, "pass")


class StageResult(BaseModel):
    """What is remembered of a finished stage."""

    model_config = ConfigDict(frozen=True)

    finished: str = ""  # time (UTC) at which it ended
    seconds: float = 0.0  # that it took
    fingerprint: str = ""  # hash of what it depends on; "stale" after it was repeated alone
    page: bool = True  # whether it has an executed notebook and a page
    retrain: Retraining | None = None  # that its months of production ended in
    until: str | None = None  # last month of production, when it did not end in a retraining
    call_list: str | None = None  # month whose call list it wrote besides that of notebook 05
    gate: GateResult | None = None  # what the gate said, once a run has read it


class WaitingApproval(BaseModel):
    """A challenger that waits for a person: its gate's stage, and the command that goes on."""

    gate: str
    call: str


class RunState(BaseModel):
    """State of the run in a home."""

    model_config = ConfigDict(
        populate_by_name=True, alias_generator=lambda name: STORED_NAMES.get(name, name)
    )

    identity: RunIdentity | None = None  # None in a new home
    results: dict[str, StageResult] = Field(default_factory=dict)  # of finished stages
    # By stage that began: the tables that it changes, as they were before.
    versions_at_start: dict[str, TableVersions] = Field(default_factory=dict)
    unfinished_rewind: TableVersions = Field(default_factory=dict)  # of a run that was killed
    waiting: WaitingApproval | None = None

    def retraining_after(self, name: str) -> Retraining | None:
        """Return the retraining that a stage of production ended in, or None."""
        result = self.results.get(name)
        if result is None:
            return None
        return result.retrain

    def write(self) -> None:
        """Replace the state that is kept in this home."""
        text = self.model_dump_json(by_alias=True, indent=1)
        write_atomically(settings.home() / STATE_FILE, text)


def read_state() -> RunState:
    """Return the state of the run in this home, that of a new home where nothing ran yet.

    Raises:
        ChurnError: the file is empty, damaged or of another form.
    """
    path = settings.home() / STATE_FILE
    if not path.exists():
        return RunState()
    try:
        return RunState.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ChurnError(
            f"{path}, which holds the state of this home's run, is empty, damaged or of another "
            "form: restore it from a copy, or start again with run_all.py --fresh."
        ) from error


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
