"""``run_all.py`` as its users call it: options, messages and exit codes."""

import os
import subprocess
import sys

import pytest
from notebook_factory import ALL, RUN

import run_all
from churn_utils import settings
from churn_utils.pipeline.plan import DONE, FAILED, WRONG_USAGE

RUN_ALL = settings.PROJECT / "run_all.py"


def call_program(*arguments):
    command = [sys.executable, str(RUN_ALL), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ.copy())


def call_main(*arguments):
    """Call it in this process, which spares the imports; returns its exit code."""
    try:
        return run_all.main([*arguments])
    except SystemExit as stopped:  # argparse's own way to refuse
        return stopped.code


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
        (["--by", "Ada"], "--by and --reason belong to --accept-delivery"),
        (["--accept-delivery", "2025-04", "--fresh"], "does not go with --fresh"),
        (["--accept-delivery", "2025-04", "--by", "Ada"], "one of them is blank"),
        (
            ["--accept-delivery", "2025-04", "--by", "Ada", "--reason", "right"],
            "no delivery of 2025-04 has arrived",
        ),
    ],
)
def test_wrong_usage_exits_with_2_and_the_remedy(home, capsys, arguments, message):
    assert call_main(*arguments) == WRONG_USAGE
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_wrong_usage_of_the_program_shows_no_traceback(home):
    result = call_program("-p", "N_TRAILS=3")
    assert result.returncode == WRONG_USAGE
    assert "unknown parameter N_TRAILS" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.slow
def test_failing_notebook_exits_with_1_and_is_named(kernel_pipeline):
    kernel_pipeline.edit("00_overview", "raise ValueError('no data today')")
    result = call_program("--only", "00")
    assert result.returncode == FAILED
    assert "stage 00_overview failed: ValueError: no data today" in result.stderr
    assert str(settings.reports() / RUN / "notebooks" / "00_overview.ipynb") in result.stderr


def test_options_that_take_several_values(patched_pipeline):
    options = run_all.build_parser().parse_args(
        ["--only", "00", "01", "--only", "02", "-p", "OFFER_COST_USD=1", "REASON=a=b"]
    )
    plan = run_all.make_plan(options)
    assert plan.only == tuple(ALL[:3])
    assert plan.overrides == {"OFFER_COST_USD": "1", "REASON": "a=b"}


def test_list_shows_every_stage_and_runs_none(home, capsys):
    assert call_main("--list") == DONE
    shown = capsys.readouterr().out
    assert all(f"● {name}" in shown for name in ALL)
    assert "SCENARIO = 'price_rise'" in shown and "A retraining adds stages" in shown
    assert "N_TRIALS = 32" in shown and "[to do]" in shown
    assert not settings.lakehouse().exists()


@pytest.mark.parametrize("name", ["a%20b", "a[b"])
def test_a_home_that_delta_cannot_read_is_refused_in_a_line(home, tmp_path, capsys, name):
    path = tmp_path / name
    assert call_main("--home", str(path), "--profile", "fast") == FAILED
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith(f"run_all.py: tables cannot be kept in {path}")
    assert "--home" in said
    assert not path.exists()
