"""Time whole runs of the pipeline, each in a new home: forked and ordinary kernels in turn."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from results import save_table

from churn_utils import settings

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 3  # each takes four minutes
ORDINARY = (
    "import sys, runpy; from churn_utils.pipeline import kernels; "
    "kernels.use_forked_kernels = lambda: False; "
    "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
)


def time_run(prefix: list[str]) -> dict[str, float]:
    """Return the seconds of a ``fresh`` run and of a second one that finds it ``finished``."""
    with tempfile.TemporaryDirectory() as folder:
        script = str(settings.PROJECT / "run_all.py")
        where = ["--home", f"{folder}/home", "--reports", f"{folder}/reports"]
        command = [*prefix, script, *where]
        seconds = {}
        for name in ("fresh", "finished"):
            started = time.perf_counter()
            subprocess.run(
                command,
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            seconds[name] = time.perf_counter() - started
        return seconds


def main() -> None:
    """Run both ways in turn and print medians and the ratio of each pair."""
    forked_runs, ordinary_runs = [], []
    for _ in range(ROUNDS):
        forked_runs.append(time_run([sys.executable]))
        ordinary_runs.append(time_run([sys.executable, "-c", ORDINARY]))
    forked, ordinary = pd.DataFrame(forked_runs), pd.DataFrame(ordinary_runs)
    names = ["kernels forked from one warm process", "ordinary kernels"]
    fresh = [round(runs["fresh"].median(), 1) for runs in (forked, ordinary)]
    finished = [round(runs["finished"].median(), 1) for runs in (forked, ordinary)]
    ratio = (ordinary["fresh"] / forked["fresh"]).median()
    frame = pd.DataFrame(
        {
            f"whole run, {ROUNDS} rounds in turn": names,
            "fresh run, seconds (median)": fresh,
            "second run, seconds (median)": finished,
            "ratio to forked (median of pairs)": [1.0, round(ratio, 2)],
        }
    )
    save_table("Pipeline", frame, Path(__file__).name)


if __name__ == "__main__":
    main()
