"""The whole pipeline as its users run it: real notebooks, real tables, one temporary home."""

import os
import re
import subprocess
import sys

import factories
import nbformat
import pandas as pd
import pytest
from table_contents import read_all_tables

import run_all as program
from churn_utils import settings
from churn_utils.data import tables
from churn_utils.monitoring import history, recovery
from churn_utils.monitoring.champion import load_champion
from churn_utils.pipeline.plan import DONE, PROFILES, WRONG_USAGE, Plan
from churn_utils.pipeline.stages import expand_timeline
from churn_utils.pipeline.state import read_state
from churn_utils.registry import aliases, deployments, gate_evidence, promotion
from churn_utils.simulation.scenarios import Simulation

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

RUN = "price_rise-seed42-fast"
FEBRUARY, MAY, JULY = (settings.month_start(month) for month in (1, 4, 6))


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """A home in which the fast profile ran, and what each call printed.

    The first call waited for an approval, the second one went on.
    """
    folder = tmp_path_factory.mktemp("run")
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
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ.copy(), timeout=1800
    )


def test_run_waits_for_approval_and_says_how_to_go_on(finished_run):
    result = finished_run["waiting"]
    assert result.returncode == 3, result.stderr
    assert "--approve-as" in result.stdout and "04a_challenger_validation.html" in result.stdout
    assert finished_run["held"] is None


def test_run_ends_with_the_champion_and_the_last_call_list(finished_run):
    outcome = finished_run["approved"].stdout.splitlines()[-1]
    path = settings.reports() / RUN / "retention_list_2025-07.csv"
    expected = f"Done: version 2 answers since 2025-05; call list of 2025-07: {path}."
    assert outcome == expected and path.exists()
    assert "version 2 answers since 2025-05" in (path.parent / "index.html").read_text()


def test_approval_is_recorded_under_the_name_given(finished_run):
    assert finished_run["approved"].returncode == 0, finished_run["approved"].stderr
    version = deployments.champion_at(FEBRUARY)
    assert promotion.check_deployed(version).approver == "Ada Lovelace"
    assert deployments.read_deployments()["approved_by"].tolist() == ["Ada Lovelace"] * 2


def test_price_rise_is_noticed_and_recovered_from(finished_run):
    decisions = history.read_decisions().set_index("as_of_date")["decision"]
    assert (
        decisions.tolist() == ["ok", "alert", "retrain", "ok", "ok"] and decisions.index[-1] == JULY
    )
    assert (deployments.champion_at(FEBRUARY), deployments.champion_at(MAY)) == (1, 2)
    measured = recovery.measure_recovery(
        recovery.compare_with_best(JULY, Simulation("price_rise", 42)), since=MAY
    )
    assert measured.loc["new champion", "lower"] > measured.loc["old champion", "upper"]
    assert measured.loc["recovered", "value"] > 0.8
    page = (settings.reports() / RUN / "index.html").read_text()
    assert f"<b>{measured.loc['recovered', 'value']:.0%}</b>" in page


def test_retraining_learns_from_the_changed_month_alone(finished_run):
    champion = load_champion(deployments.champion_at(MAY))
    assert champion.training_rows["event_date"].unique().tolist() == [settings.month_start(3)]
    assert set(champion.training_rows["split"]) == {"train"}


def test_every_month_is_scored_and_shadowed_since_promotion(finished_run):
    predictions = tables.read("predictions")
    counts = predictions.groupby(["role", "snapshot_date"]).size()
    assert counts["champion"].to_dict() == {
        settings.month_start(month): 7043 for month in range(1, 7)
    }
    assert counts["shadow"].to_dict() == {
        settings.month_start(month): 7043 for month in range(4, 7)
    }


def test_second_run_is_finished_and_changes_no_table(finished_run, capsys):
    """In this process, as the next test: it ends before a kernel would start."""
    before = tables.describe_tables()
    assert program.main(["--profile", "fast", "--approve-as", "Ada Lovelace"]) == DONE
    said = capsys.readouterr().out
    outcome = finished_run["approved"].stdout.splitlines()[-1]
    assert "is finished; nothing to do" in said and said.splitlines()[-1] == outcome
    pd.testing.assert_frame_equal(tables.describe_tables(), before)


def test_another_scenario_in_the_same_home_is_refused(finished_run, capsys):
    assert program.main(["--profile", "fast", "--seed", "7"]) == WRONG_USAGE
    assert "--home DIR" in capsys.readouterr().err


@pytest.mark.long
def test_exported_months_end_with_the_tables_of_the_simulation(finished_run, tmp_path):
    expected = read_all_tables()
    deliveries = str(tmp_path / "months")
    command = [sys.executable, "-m", "churn_utils", "export-deliveries", deliveries]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    places = ["--home", str(tmp_path / "home"), "--reports", str(tmp_path / "reports")]
    words = ["--deliveries", deliveries, "--profile", "fast", "--approve-as", "Ada Lovelace"]
    result = run_all(*words, *places)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1].startswith("waiting for 2025-08")
    with factories.at_home(tmp_path / "home"):
        found = read_all_tables()
    assert found.keys() == expected.keys()
    for name, rows in expected.items():
        pd.testing.assert_frame_equal(found[name], rows, obj=name)


def executed():
    """Names of the run's notebooks, those of the retraining included."""
    timeline = expand_timeline(Plan(profile="fast"), read_state())
    names = [stage.name for stage in timeline]
    assert "05_batch_inference_2025-05" in names
    return [name for name in names if not name.startswith("production")]


def test_executed_notebooks_keep_their_parameters(finished_run):
    for name in executed():
        notebook = nbformat.read(
            settings.reports() / RUN / "notebooks" / f"{name}.ipynb", as_version=4
        )
        assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    search = nbformat.read(
        settings.reports() / RUN / "notebooks" / "02_hyperparameter_optimisation.ipynb",
        as_version=4,
    )
    assert search.metadata.papermill.parameters["N_TRIALS"] == PROFILES["fast"]["N_TRIALS"]


def test_pages_are_small_offline_and_without_code(finished_run):
    folder = settings.reports() / RUN
    pages = sorted(folder.glob("*.html"))
    evidence = [page.stem for page in pages if page.stem.startswith("gate_v")]
    assert [page.stem for page in pages] == sorted([*executed(), *evidence, "index"]) and evidence
    for page in pages:
        text = page.read_text()
        assert not re.search(r"""src=["'](?:https?:)?//|<link""", text), page
        assert "import pandas" not in text and ("Plotly.newPlot" in text or page.stem in evidence)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.suffix in (".html", ".js"))
    assert size <= 12_000_000


def test_index_shows_the_numbers_of_the_run(finished_run):
    text = (settings.reports() / RUN / "index.html").read_text()
    evidence, _ = gate_evidence.read_evidence(deployments.champion_at(FEBRUARY))
    auc = next(check.value for check in evidence.checks if check.check == "auc_floor")
    assert f"<td>{auc:.4g}</td>" in text
    assert all(f'href="{name}.html"' in text for name in executed())
    assert all(
        f'href="retention_list_{month}.csv"' in text for month in ("2025-02", "2025-05", "2025-07")
    )


def test_evidently_pages_share_their_script(finished_run):
    folder = settings.reports() / RUN
    for name, window in (
        ("07_model_monitoring_2025-05", "2025-04"),
        ("07_model_monitoring", "2025-06"),
    ):
        assert f'href="evidently/{window}.html"' in (folder / f"{name}.html").read_text()
        assert (
            '<script src="evidently.js">' in (folder / "evidently" / f"{window}.html").read_text()
        )


@pytest.mark.long
def test_going_back_repeats_the_months_after_it(finished_run):
    """Near the end: it runs the months again, and comes to the same decisions."""
    before = history.read_decisions().drop(columns="evidence")
    result = run_all(
        "--profile", "fast", "--from", "04b", "--months", "4", "--approve-as", "Grace Hopper"
    )
    assert result.returncode == 0, result.stderr
    after = history.read_decisions().drop(columns="evidence")
    pd.testing.assert_frame_equal(after, before.head(3))
    table = deployments.read_deployments()
    assert table["approved_by"].tolist() == ["Grace Hopper"] * 2
    assert table["version"].tolist() == [1, 3] and aliases.version_with_alias(aliases.CHAMPION) == 3
    assert tables.read("predictions")["snapshot_date"].max() == MAY


@pytest.mark.long
def test_writing_again_changes_no_data_table(finished_run):
    before = tables.describe_tables().set_index("table")["version"]
    result = run_all("--profile", "fast", "--only", "01", "--months", "4")
    assert result.returncode == 0, result.stderr
    pd.testing.assert_series_equal(tables.describe_tables().set_index("table")["version"], before)
