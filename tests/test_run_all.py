"""The whole pipeline as its users run it: real notebooks, real tables, one temporary home."""

import json
import os
import re
import subprocess
import sys

import nbformat
import pandas as pd
import pytest

from churn_utils import deployments, lakehouse, registry, settings, stages

RUN = "seed42-fast"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A home in which the fast profile ran until it waited for an approval, with what each call printed."""
    folder = tmp_path_factory.mktemp("world")
    patch = pytest.MonkeyPatch()
    patch.setenv("CHURN_HOME", str(folder / "home"))
    patch.setenv("CHURN_REPORTS", str(folder / "reports"))
    waiting = run_all("--profile", "fast", "--manual-approval")
    held = deployments.champion_at(pd.Timestamp("2025-02-01"))
    approved = run_all("--profile", "fast", "--approve-as", "Ada Lovelace")
    yield {"waiting": waiting, "held": held, "approved": approved}
    patch.undo()


def run_all(*arguments):
    command = [sys.executable, str(settings.PROJECT / "run_all.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ.copy(), timeout=280)


def test_it_waits_for_an_approval_and_says_how_to_go_on(world):
    result = world["waiting"]
    assert result.returncode == 3, result.stderr
    assert "--approve-as" in result.stdout and "04a_challenger_validation.html" in result.stdout
    assert world["held"] is None


def test_the_approval_is_recorded_under_the_name_given(world):
    assert world["approved"].returncode == 0, world["approved"].stderr
    version = deployments.champion_at(pd.Timestamp("2025-02-01"))
    assert json.loads(registry.read_version(version)["tags"]["approval"])["approver"] == "Ada Lovelace"
    assert deployments.read_deployments()["approved_by"].tolist() == ["Ada Lovelace"]


def test_every_customer_is_scored_once(world):
    predictions = lakehouse.read("predictions")
    assert len(predictions) == predictions["customer_id"].nunique() == 7043
    assert set(predictions["role"]) == {"backfill"}


def test_a_second_run_is_finished_and_changes_no_table(world):
    before = lakehouse.describe_tables()
    result = run_all("--profile", "fast", "--approve-as", "Ada Lovelace")
    assert result.returncode == 0 and "is finished; nothing to do" in result.stdout
    pd.testing.assert_frame_equal(lakehouse.describe_tables(), before)


def test_writing_everything_again_changes_no_data_table(world):
    before = lakehouse.describe_tables().set_index("table")["version"]
    result = run_all("--profile", "fast", "--only", "01")
    assert result.returncode == 0, result.stderr
    pd.testing.assert_series_equal(lakehouse.describe_tables().set_index("table")["version"], before)


def test_another_world_in_the_same_home_is_refused(world):
    result = run_all("--profile", "fast", "--seed", "7")
    assert result.returncode == 2 and "--home DIR" in result.stderr


def test_executed_notebooks_are_kept_with_their_parameters(world):
    for name in stages.NAMES:
        notebook = nbformat.read(settings.reports() / RUN / "notebooks" / f"{name}.ipynb", as_version=4)
        assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    search = nbformat.read(
        settings.reports() / RUN / "notebooks" / "02_hyperparameter_optimisation.ipynb", as_version=4
    )
    assert search.metadata.papermill.parameters["N_TRIALS"] == stages.PROFILES["fast"]["N_TRIALS"]


def test_the_pages_are_small_offline_and_without_code(world):
    folder = settings.reports() / RUN
    pages = sorted(folder.glob("*.html"))
    assert [page.stem for page in pages] == [*stages.NAMES, "index"]
    for page in pages:
        text = page.read_text()
        assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", text), page
        assert "import pandas" not in text and "Plotly.newPlot" in text
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.suffix in (".html", ".js"))
    assert size <= 12_000_000


def test_the_index_shows_the_numbers_of_the_run(world):
    text = (settings.reports() / RUN / "index.html").read_text()
    version = deployments.champion_at(pd.Timestamp("2025-02-01"))
    evidence, _ = registry.read_evidence(version)
    auc = next(check["value"] for check in evidence["checks"] if check["check"] == "auc_floor")
    assert f"<td>{auc:.4g}</td>" in text
    assert all(f'href="{name}.html"' in text for name in stages.NAMES)
    assert (settings.reports() / RUN / "retention_list.csv").exists()
