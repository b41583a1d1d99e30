"""Time whole runs of the pipeline, each in a new home: with forked kernels and with ordinary ones, in turn."""

from __future__ import annotations

import os
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
    "import sys, runpy; from churn_utils.pipeline import kernels; kernels.use_forked_kernels = lambda: False; "
    "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
)


def time_run(prefix: list[str]) -> tuple[float, float]:
    """Seconds of a fresh run and of a second one that finds it finished."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *prefix,
            str(settings.PROJECT / "run_all.py"),
            "--home",
            f"{folder}/home",
            "--reports",
            f"{folder}/reports",
        ]
        seconds = []
        for _ in range(2):
            started = time.perf_counter()
            subprocess.run(
                command,
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ,
            )
            seconds.append(time.perf_counter() - started)
        return seconds[0], seconds[1]


def main() -> None:
    """Run both ways in turn and print medians and the ratio of each pair."""
    pairs = [
        (time_run([sys.executable]), time_run([sys.executable, "-c", ORDINARY]))
        for _ in range(ROUNDS)
    ]
    forked, ordinary = (
        pd.DataFrame([pair[i] for pair in pairs], columns=["fresh", "finished"]) for i in range(2)
    )
    frame = pd.DataFrame(
        {
            f"whole run, {ROUNDS} rounds in turn": [
                "kernels forked from one warm process",
                "ordinary kernels",
            ],
            "fresh run, seconds (median)": [
                round(forked["fresh"].median(), 1),
                round(ordinary["fresh"].median(), 1),
            ],
            "second run, seconds (median)": [
                round(f["finished"].median(), 1) for f in (forked, ordinary)
            ],
            "ratio to forked (median of pairs)": [
                1.0,
                round((ordinary["fresh"] / forked["fresh"]).median(), 2),
            ],
        }
    )
    save_table("Pipeline", frame, Path(__file__).name)


if __name__ == "__main__":
    main()
