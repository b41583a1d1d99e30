import math
import subprocess
import sys

import pandas as pd
import pytest

from churn_utils import settings
from churn_utils.errors import ChurnError
from churn_utils.evaluation.economics import Economics

MODULES = [
    ".".join(path.relative_to(settings.PROJECT).with_suffix("").parts)
    for path in sorted((settings.PROJECT / "churn_utils").rglob("[!_]*.py"))
]


@pytest.mark.parametrize(
    "cost, value, threshold", [(500.0, 2000.0, 0.25), (100.0, 1000.0, 0.1), (30, 40, 0.75)]
)
def test_threshold_is_cost_over_value_where_an_offer_breaks_even(cost, value, threshold):
    economics = Economics(cost, value)
    assert economics.threshold == pytest.approx(threshold)
    assert economics.expected_value_usd(threshold) == pytest.approx(0)
    assert economics.expected_value_usd(1.0) == value - cost


def test_default_economics_are_those_of_the_design():
    assert (Economics().threshold, Economics().expected_value_usd(0.5)) == (0.25, 500.0)


@pytest.mark.parametrize(
    "cost, value",
    [
        (0, 2000),
        (-1, 2000),
        (2000, 2000),
        (3000, 2000),
        (math.nan, 2000),
        (500, math.nan),
        (500, -2000),
    ],
)
def test_economics_under_which_no_decision_makes_sense_are_refused(cost, value):
    with pytest.raises(
        ChurnError, match="must cost more than 0 and less than the churner is worth"
    ):
        Economics(cost, value)


def test_an_infinite_value_is_refused():
    with pytest.raises(ChurnError):
        Economics(500, math.inf)


def test_months_follow_the_first_snapshot_across_years():
    assert [f"{settings.month_start(month):%Y-%m-%d}" for month in (0, 1, 11, 12)] == [
        "2025-01-01",
        "2025-02-01",
        "2025-12-01",
        "2026-01-01",
    ]


def test_as_of_date_reads_the_first_of_a_month():
    assert settings.as_of_date("2025-02-01") == pd.Timestamp("2025-02-01")


@pytest.mark.parametrize("text", ["soon", "2025-02-30", "2025-13-01"])
def test_as_of_date_refuses_what_is_no_date_and_shows_the_form(text):
    with pytest.raises(ChurnError, match=f"AS_OF is '{text}'; write a date such as '2025-02-01'"):
        settings.as_of_date(text)


@pytest.mark.parametrize("text", ["2025-02-02", "2025-02-01 01:00", "NaT", ""])
def test_as_of_date_refuses_what_is_not_the_first_of_a_month(text):
    with pytest.raises(ChurnError, match=f"AS_OF is '{text}'; months start on the first day"):
        settings.as_of_date(text)


def test_as_of_date_refuses_a_time_zone():
    with pytest.raises(ChurnError):
        settings.as_of_date("2025-02-01T00:00Z")


@pytest.mark.parametrize(
    "folder", [settings.home, settings.raw, settings.lakehouse, settings.mlflow_folder]
)
def test_churn_home_moves_everything_a_run_keeps(folder, monkeypatch, tmp_path):
    monkeypatch.delenv("CHURN_HOME", raising=False)
    default = folder().relative_to(settings.PROJECT / "data")
    monkeypatch.setenv("CHURN_HOME", str(tmp_path))
    assert folder() == tmp_path / default


def test_a_relative_home_is_made_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHURN_HOME", "here")
    assert settings.lakehouse() == tmp_path / "here" / "lakehouse"


def test_reports_notebooks_and_user_follow_their_variables(monkeypatch, tmp_path):
    for name in ("CHURN_REPORTS", "CHURN_RUN_REPORTS", "CHURN_NOTEBOOKS", "CHURN_USER"):
        monkeypatch.delenv(name, raising=False)
    assert settings.run_reports() == settings.PROJECT / "reports" / "by_hand"
    assert settings.notebooks() == settings.PROJECT / "notebooks"
    monkeypatch.setenv("CHURN_REPORTS", str(tmp_path / "pages"))
    assert settings.run_reports() == tmp_path / "pages" / "by_hand"
    monkeypatch.setenv("CHURN_RUN_REPORTS", str(tmp_path / "run 7"))
    monkeypatch.setenv("CHURN_NOTEBOOKS", str(tmp_path / "book"))
    monkeypatch.setenv("CHURN_USER", "Ada Lovelace")
    assert (settings.reports(), settings.run_reports()) == (tmp_path / "pages", tmp_path / "run 7")
    assert (settings.notebooks(), settings.user()) == (tmp_path / "book", "Ada Lovelace")


def test_importing_the_package_creates_nothing_and_loads_no_mlflow(tmp_path):
    imports = "; ".join(f"import {name}" for name in MODULES if not name.endswith("warm_up"))
    code = f"import sys; {imports}; sys.exit('mlflow' in sys.modules)"
    here = str(tmp_path)
    environment = {
        "HOME": here,
        "TMPDIR": here,
        "CHURN_HOME": f"{here}/home",
        "PYTHONPATH": str(settings.PROJECT),
    }
    done = subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=tmp_path, env=environment, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    assert list(tmp_path.rglob("*")) == []
