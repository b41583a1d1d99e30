"""Kill runs of the fast profile (SIGKILL) in every stage, go on, and compare with one undisturbed.

The number of kills is the first argument: 50 if it is left out.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.pipeline.plan import Plan
from churn_utils.pipeline.stages import expand_timeline
from churn_utils.pipeline.state import read_state
from churn_utils.registry import versions

SEED = 7
PLAN = Plan(profile="fast")
RUN_ALL = [sys.executable, str(settings.PROJECT / "run_all.py"), "--profile", "fast"]
LONGEST_WAIT_S = 600.0
# MLflow's id of a run is in its evidence, so the digest of equal evidence differs.
DIFFERS = {"deployments": ["evidence_sha256"], "audit": ["evidence_sha256"]}


@dataclass
class Outcome:
    """What came of a run that was killed again and again."""

    kills: list[str] = field(default_factory=list)  # the stages in which they came
    seconds_until_gone: list[float] = field(default_factory=list)  # of all children, after a kill
    left_behind: list[str] = field(default_factory=list)  # temporary files, after the last run
    differences: list[str] = field(default_factory=list)  # from the undisturbed run


def enter(folder: Path) -> None:
    """Make a folder hold the home, reports and temporary files of what runs from now on."""
    (folder / "t").mkdir(parents=True, exist_ok=True)
    os.environ["CHURN_HOME"] = str(folder / "home")
    os.environ["CHURN_REPORTS"] = str(folder / "reports")


def start_run(folder: Path) -> subprocess.Popen:
    """Start the pipeline in the background."""
    quiet = subprocess.DEVNULL
    environment = {**os.environ, "TMPDIR": str(folder / "t")}
    return subprocess.Popen(RUN_ALL, env=environment, stdout=quiet, stderr=quiet)


def finish_run(folder: Path) -> dict[str, float]:
    """Run to the end; return the seconds of each stage in the order of simulated time."""
    code = start_run(folder).wait()
    if code:
        raise SystemExit(f"the run in {folder} ended with exit code {code}")
    state = read_state()
    return {stage.name: state.results[stage.name].seconds for stage in expand_timeline(PLAN, state)}


def kill_in_stage(folder: Path, stage: str, delay_s: float, outcome: Outcome) -> None:
    """Run until a stage has run for some seconds, then kill; nothing if it is finished before."""
    run = psutil.Process(start_run(folder).pid)
    end = time.monotonic() + LONGEST_WAIT_S
    while stage not in read_state().versions_at_start and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(delay_s)
    children = run.children(recursive=True)
    if stage not in read_state().results:
        outcome.kills.append(stage)
    run.kill()
    killed_at = time.monotonic()
    run.wait()
    psutil.wait_procs(children, timeout=LONGEST_WAIT_S)
    outcome.seconds_until_gone.append(time.monotonic() - killed_at)


def read_content() -> dict[str, pd.DataFrame]:
    """Return the content of every table and the registry's versions with aliases and verdicts."""
    content = {}
    for table in filter(tables.exists, tables.KEYS):
        rows = tables.read(table)
        content[table] = rows.drop(columns=DIFFERS.get(table, []), errors="ignore")
    return content | {"versions": versions.list_versions()}


def compare(found: dict[str, pd.DataFrame], expected: dict[str, pd.DataFrame]) -> list[str]:
    """Name the tables and columns that differ."""
    differences = [f"{name}: only in one run" for name in found.keys() ^ expected.keys()]
    for name in found.keys() & expected.keys():
        one, other = found[name], expected[name]
        if one.equals(other):
            continue
        if one.shape != other.shape:
            differences.append(f"{name}: {one.shape} instead of {other.shape}")
            continue
        columns = [column for column in one if not one[column].equals(other[column])]
        differences.append(f"{name}: {', '.join(columns)}")
    return differences


def measure(kills: int, folder: Path, seed: int = SEED) -> Outcome:
    """Kill a run so many times, spread over its stages, and compare it with one undisturbed."""
    enter(folder / "a")
    seconds = finish_run(folder / "a")
    expected = read_content()
    draw = random.Random(seed)
    stages = [list(seconds)[number * len(seconds) // kills] for number in range(kills)]
    outcome = Outcome()
    enter(folder / "b")
    for stage in stages:
        kill_in_stage(folder / "b", stage, draw.uniform(0, seconds[stage]), outcome)
        print(f"{len(outcome.kills)} kill(s), the last in {stage}", flush=True)
    finish_run(folder / "b")
    outcome.differences = compare(read_content(), expected)
    temporary = (folder / name / "t" for name in "ab")
    outcome.left_behind = [path.name for place in temporary for path in place.iterdir()]
    return outcome


def main() -> None:
    """Measure and print what ``docs/reliability.md`` says of kills."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    with tempfile.TemporaryDirectory() as folder:
        outcome = measure(kills, Path(folder))
    gone = sorted(outcome.seconds_until_gone)
    print(f"{len(outcome.kills)} of {kills} kills came before their stage was finished,")
    print(f"in {len(set(outcome.kills))} stages; until all children were gone it took")
    print(f"{gone[len(gone) // 2]:.2f} s (median), {gone[-1]:.2f} s (longest)")
    print(f"differences: {outcome.differences}; left behind: {outcome.left_behind}")


if __name__ == "__main__":
    main()
