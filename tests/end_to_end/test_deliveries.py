"""Simulated months as a folder of deliveries, and bad months, through the whole pipeline."""

import os
import subprocess
import sys

import pandas as pd
import pytest
from table_contents import read_all_tables

from churn_utils import settings
from churn_utils.simulation.scenarios import SCENARIOS

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.long]

OTHERS = [name for name in SCENARIOS if name != "price_rise"]  # which test_run_all.py plays


def run(program, folder, *arguments):
    """Call a program with a home and reports of its own in a folder."""
    places = {"CHURN_HOME": str(folder / "home"), "CHURN_REPORTS": str(folder / "reports")}
    command = [sys.executable, *program, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | places, timeout=3600
    )


def run_all(folder, *arguments):
    return run([str(settings.PROJECT / "run_all.py")], folder, "--profile", "fast", *arguments)


def export(target, *arguments):
    return run(["-m", "churn_utils"], target.parent, "export-deliveries", str(target), *arguments)


def read_tables(folder, monkeypatch):
    monkeypatch.setenv("CHURN_HOME", str(folder / "home"))
    return read_all_tables()


@pytest.mark.parametrize("scenario", OTHERS)
def test_exported_months_end_with_the_tables_of_the_simulation(scenario, tmp_path, monkeypatch):
    deliveries = tmp_path / "months"
    assert export(deliveries, "--scenario", scenario).returncode == 0
    simulated, delivered = tmp_path / "simulated", tmp_path / "delivered"
    assert run_all(simulated, "--scenario", scenario).returncode == 0
    result = run_all(delivered, "--deliveries", str(deliveries))
    assert result.returncode == 0, result.stderr
    assert "waiting for 2025-08" in result.stdout.splitlines()[-1]
    expected = read_tables(simulated, monkeypatch)
    found = read_tables(delivered, monkeypatch)
    assert found.keys() == expected.keys()
    for name, rows in expected.items():
        pd.testing.assert_frame_equal(found[name], rows, obj=name)
