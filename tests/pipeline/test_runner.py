import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from notebook_factory import ALL, RUN

from churn_utils import settings
from churn_utils.errors import StageError, UsageError
from churn_utils.pipeline import executor, runner, stages
from churn_utils.pipeline import state as run_state
from churn_utils.pipeline.stages import Plan
from churn_utils.reports import html

RUN_ALL = settings.PROJECT / "run_all.py"


def test_a_finished_run_does_nothing_and_says_so(notebooks, ran):
    lines = []
    assert runner.run(Plan(), say=lines.append) == runner.DONE
    assert sorted(ran()) == sorted(ALL)
    (settings.reports() / RUN / "index.html").unlink()
    assert runner.run(Plan(), say=lines.append) == runner.DONE
    assert ran() == [] and "is finished" in lines[-1]
    assert (
        settings.reports() / RUN / "index.html"
    ).exists()  # a page that was lost is written again


def test_stages_run_after_what_they_need(notebooks, ran):
    runner.run(Plan(), say=lambda line: None)
    order = ran()
    for stage in stages.unfold(Plan(), run_state.NEW):
        assert all(order.index(name) < order.index(stage.name) for name in stage.needs)


def test_a_stage_that_raises_keeps_its_notebook_and_the_rest_goes_on_after_the_repair(
    notebooks, ran
):
    notebooks("03_model_registry", "raise KeyError('lost')")
    with pytest.raises(StageError, match=r"03_model_registry failed: KeyError: 'lost'") as failure:
        runner.run(Plan(), say=lambda line: None)
    kept = Path(str(failure.value).split("is kept: ")[1])
    assert any(
        output.output_type == "error"
        for cell in nbformat.read(kept, 4).cells
        for output in cell.get("outputs", [])
    )
    assert sorted(ran()) == ALL[:4]
    notebooks("03_model_registry")
    runner.run(Plan(), say=lambda line: None)
    assert ran()[:4] == ALL[3:7]


def test_a_changed_notebook_runs_again_with_all_that_needs_it(notebooks, ran):
    runner.run(Plan(), say=lambda line: None)
    ran()
    notebooks("04a_challenger_validation", "x = 2")
    runner.run(Plan(), say=lambda line: None)
    assert ran()[:3] == ALL[4:7]


def test_only_and_from_run_again_what_is_finished(notebooks, ran):
    with pytest.raises(UsageError, match="--only 03_model_registry needs 02_hyper"):
        runner.run(Plan(only=("03_model_registry",)), say=lambda line: None)
    runner.run(Plan(), say=lambda line: None)
    ran()
    runner.run(Plan(only=("03_model_registry",)), say=lambda line: None)
    assert ran() == ["03_model_registry"]
    runner.run(Plan(), say=lambda line: None)
    assert ran()[:3] == ALL[4:7]  # what needs it is no longer up to date
    runner.run(Plan(start="04b_challenger_approval"), say=lambda line: None)
    assert ran()[:2] == ALL[5:7]


def test_a_rerun_that_failed_is_not_taken_for_the_finished_run_before_it(notebooks, ran):
    runner.run(Plan(), say=lambda line: None)
    original = (settings.notebooks() / "03_model_registry.ipynb").read_text()
    notebooks("03_model_registry", "raise ValueError('no')")
    with pytest.raises(StageError):
        runner.run(Plan(start="02_hyperparameter_optimisation"), say=lambda line: None)
    (settings.notebooks() / "03_model_registry.ipynb").write_text(original)
    ran()
    runner.run(Plan(), say=lambda line: None)
    assert ran()[:4] == ALL[3:7]


def test_a_failed_stage_has_its_page_and_the_index_is_written(notebooks):
    notebooks("03_model_registry", "raise KeyError('lost')")
    with pytest.raises(StageError):
        runner.run(Plan(), say=lambda line: None)
    folder = settings.reports() / RUN
    assert "KeyError" in (folder / "03_model_registry.html").read_text()
    assert "03_model_registry.html" in (folder / "index.html").read_text()


def test_a_kernel_that_dies_is_a_failed_stage(notebooks):
    notebooks("03_model_registry", "import os; os._exit(1)")
    with pytest.raises(StageError, match="03_model_registry failed: DeadKernelError"):
        runner.run(Plan(), say=lambda line: None)


def test_wrong_usage_deletes_nothing(notebooks):
    runner.run(Plan(), say=lambda line: None)
    (settings.lakehouse() / "customers").mkdir(parents=True)
    with pytest.raises(UsageError):
        runner.run(Plan(fresh=True, only=("05_batch_inference",)), say=lambda line: None)
    assert (settings.lakehouse() / "customers").exists()


def test_who_calls_later_does_not_give_the_approval_again(notebooks, ran):
    runner.run(Plan(approver="Ada Lovelace"), say=lambda line: None)
    ran()
    assert runner.run(Plan(), say=lambda line: None) == runner.DONE
    assert runner.run(Plan(manual_approval=True), say=lambda line: None) == runner.DONE
    assert ran() == []


def test_a_second_pipeline_is_kept_out_of_the_same_home(notebooks):
    with run_state.hold_home(), pytest.raises(UsageError, match="another run_all.py is running"):
        runner.run(Plan(), say=lambda line: None)


def test_a_home_holds_one_world_and_fresh_replaces_it(notebooks, ran):
    runner.run(Plan(), say=lambda line: None)
    (settings.raw()).mkdir(parents=True)
    (settings.raw() / "delivered.csv").write_text("kept")
    with pytest.raises(UsageError, match="--fresh to replace it"):
        runner.run(Plan(seed=7), say=lambda line: None)
    ran()
    assert runner.run(Plan(seed=7, fresh=True), say=lambda line: None) == runner.DONE
    assert sorted(ran()) == sorted(ALL)
    assert (settings.raw() / "delivered.csv").read_text() == "kept"


def resolve(plan):
    return stages.resolve_parameters(
        plan, stages.unfold(plan, run_state.NEW), stages.read_notebooks()
    )


def test_neither_the_trainer_nor_nobody_may_approve(monkeypatch):
    monkeypatch.setenv("CHURN_USER", "ada")
    with pytest.raises(UsageError, match="a trainer may not approve"):
        resolve(Plan(approver=" Ada "))
    with pytest.raises(UsageError, match="a trainer may not approve"):
        resolve(Plan(overrides={"APPROVER": "ada"}))
    with pytest.raises(UsageError, match="an approval needs a name"):
        resolve(Plan(approver=" "))


def test_what_needs_a_champion_is_left_out_while_nothing_was_promoted(notebooks, ran, monkeypatch):
    monkeypatch.setattr(executor.deployments, "champion_at", lambda date: None)
    lines = []
    assert runner.run(Plan(), say=lines.append) == runner.DONE
    assert set(ran()) == set(ALL[:6]) and sum("left out" in line for line in lines) == 5
    assert runner.run(Plan(), say=lines.append) == runner.DONE
    assert ran() == [] and "is finished" in lines[-1]


def test_a_missing_notebook_is_named(notebooks):
    (settings.notebooks() / "03_model_registry.ipynb").unlink()
    with pytest.raises(StageError, match="03_model_registry.ipynb is missing"):
        runner.run(Plan(), say=lambda line: None)


def test_a_killed_run_goes_on_where_it_stopped(notebooks, ran, home):
    notebooks("02_hyperparameter_optimisation", "import time; time.sleep(60)")
    process = subprocess.Popen(
        [sys.executable, str(RUN_ALL)], env=os.environ.copy(), stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while (
        "01_feature_engineering" not in run_state.read_state()["stages"]
        and time.monotonic() < deadline
    ):
        time.sleep(0.1)
    kernels = [child for child in psutil.Process(process.pid).children(recursive=True)]
    process.kill()
    process.wait()
    _, left_behind = psutil.wait_procs(kernels, timeout=20)
    assert left_behind == []
    notebooks("02_hyperparameter_optimisation")
    ran()
    assert runner.run(Plan(), say=lambda line: None) == runner.DONE
    assert "01_feature_engineering" not in ran()


def command(*arguments):
    return subprocess.run(
        [sys.executable, str(RUN_ALL), *arguments],
        capture_output=True,
        text=True,
        env=os.environ.copy(),
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "N_TRAILS=3"], "unknown parameter N_TRAILS; the parameters are"),
        (["-p", "N_TRIALS"], "-p takes NAME=VALUE, not 'N_TRIALS'"),
        (["-p", "N_TRIALS=["], "parameter N_TRIALS takes int"),
        (["-p", "SEED=7"], "use --seed"),
        (["-p", "AS_OF=2025-03-01"], "use --months"),
        (["--scenario", "flood"], "invalid choice: 'flood'"),
        (["--months", "1"], "--months is 1; valid are whole numbers from 2"),
        (["--seed", "-1"], "--seed is -1"),
        (["--only", "17"], "there is no stage '17'; the stages are 00_overview"),
        (["--profile", "huge"], "invalid choice: 'huge'"),
        (["--approve-as", "Ada", "--manual-approval"], "not allowed with argument"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_would_be_right(home, arguments, message):
    result = command(*arguments)
    assert result.returncode == runner.WRONG_USAGE
    assert message in result.stderr and "Traceback" not in result.stderr


def test_a_failing_notebook_exits_with_1_and_names_what_was_kept(notebooks):
    notebooks("00_overview", "raise ValueError('no data today')")
    result = command("--only", "00")
    assert result.returncode == runner.FAILED
    assert "stage 00_overview failed: ValueError: no data today" in result.stderr
    assert str(settings.reports() / RUN / "notebooks" / "00_overview.ipynb") in result.stderr


def test_list_draws_every_stage_and_runs_none(home):
    result = command("--list")
    assert result.returncode == 0
    assert all(f"● {name}" in result.stdout for name in ALL)
    assert (
        "SCENARIO = 'price_rise'" in result.stdout and "A retraining adds stages" in result.stdout
    )
    assert "N_TRIALS = 32" in result.stdout and "[to do]" in result.stdout
    assert not settings.lakehouse().exists()


def test_parameters_are_printed_in_the_report(notebooks):
    runner.run(Plan(), say=lambda line: None)
    page = (settings.reports() / RUN / "00_overview.html").read_text()
    assert "SEED: <code>42</code>" in page
    assert html.read_heading(settings.notebooks() / "00_overview.ipynb") == (
        "00 – Try it",
        "Does it run?",
    )
