"""A whole call of the pipeline, with small notebooks."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import nbformat
import psutil
import pyarrow as pa
import pytest
from notebook_factory import ALL, RUN

from churn_utils import settings
from churn_utils.data import erased_customers, table_writes, tables
from churn_utils.errors import StageError, UsageError
from churn_utils.pipeline.plan import DONE
from churn_utils.pipeline.runner import CLEARING
from churn_utils.pipeline.state import hold_home

RUN_ALL = settings.PROJECT / "run_all.py"
HOLD = "import re; re.match('(a*)*b', 'a' * 60)"  # holds the interpreter: no other thread can run
needs_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")


@pytest.fixture
def temporary():
    """A folder for temporary files; its path is short, for the sockets in it."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_finished_run_does_nothing_and_says_so(patched_pipeline):
    code, _ = patched_pipeline.run()
    assert code == DONE
    assert sorted(patched_pipeline.ran()) == sorted(ALL)
    index = settings.reports() / RUN / "index.html"
    index.unlink()
    code, lines = patched_pipeline.run()
    assert code == DONE
    assert patched_pipeline.ran() == []
    assert any("is finished; nothing to do" in line for line in lines)
    assert index.exists()  # a page that was lost is written again


@pytest.mark.slow
def test_failed_stage_is_kept_and_the_next_run_goes_on(kernel_pipeline):
    kernel_pipeline.edit("03_model_registry", "raise KeyError('lost')")
    with pytest.raises(StageError, match="03_model_registry failed: KeyError: 'lost'") as failure:
        kernel_pipeline.run()
    kept = nbformat.read(Path(str(failure.value).split("is kept: ")[1]), 4)
    outputs = [output for cell in kept.cells for output in cell.get("outputs", [])]
    assert any(output.output_type == "error" for output in outputs)
    folder = settings.reports() / RUN
    assert "KeyError" in (folder / "03_model_registry.html").read_text()
    assert "03_model_registry.html" in (folder / "index.html").read_text()
    assert sorted(kernel_pipeline.ran()) == ALL[:4]
    kernel_pipeline.edit("03_model_registry")
    kernel_pipeline.run()
    assert kernel_pipeline.ran()[:4] == ALL[3:7]
    page = (folder / "00_overview.html").read_text()
    assert "SEED: <code>42</code>" in page  # parameters are printed in the report


@pytest.mark.slow
def test_kernel_that_dies_is_a_failed_stage(kernel_pipeline):
    kernel_pipeline.edit("00_overview", "import os; os._exit(1)")
    with pytest.raises(StageError, match="00_overview failed: DeadKernelError"):
        kernel_pipeline.run(only=("00_overview",))


def test_wrong_usage_deletes_nothing(patched_pipeline):
    patched_pipeline.run()
    (settings.lakehouse() / "customers").mkdir(parents=True)
    with pytest.raises(UsageError):
        patched_pipeline.run(fresh=True, only=("05_batch_inference",))
    assert (settings.lakehouse() / "customers").exists()


def test_later_caller_does_not_give_the_approval_again(patched_pipeline):
    patched_pipeline.run(approver="Ada Lovelace")
    patched_pipeline.ran()
    assert patched_pipeline.run()[0] == DONE
    assert patched_pipeline.run(manual_approval=True)[0] == DONE
    assert patched_pipeline.ran() == []


def test_second_pipeline_in_the_same_home_is_refused(patched_pipeline):
    with hold_home(), pytest.raises(UsageError, match="another run_all.py is running"):
        patched_pipeline.run()


def test_home_holds_one_run_and_fresh_replaces_it(patched_pipeline):
    patched_pipeline.run()
    settings.raw().mkdir(parents=True)
    (settings.raw() / "delivered.csv").write_text("kept")
    erased_customers.remember("7590-VHVEG")
    with pytest.raises(UsageError, match="--fresh"):
        patched_pipeline.run(seed=7)
    patched_pipeline.ran()
    code, _ = patched_pipeline.run(seed=7, fresh=True)
    assert code == DONE
    assert sorted(patched_pipeline.ran()) == sorted(ALL)
    assert (settings.raw() / "delivered.csv").read_text() == "kept"
    assert erased_customers.is_erased("7590-VHVEG")


class Killed(BaseException):
    """Ends a run as a SIGKILL does."""


@pytest.mark.parametrize("deleted", range(6))
def test_clearing_that_was_killed_is_no_finished_run(patched_pipeline, monkeypatch, deleted):
    patched_pipeline.run()
    table_writes.append("inference_log", pa.table({"prediction_id": ["a"]}))
    for name in ("mlflow", "online", "optuna"):
        (settings.home() / name).mkdir(exist_ok=True)
    patched_pipeline.ran()
    folders = []

    def delete(folder, real=shutil.rmtree):
        if len(folders) == deleted:
            raise Killed
        folders.append(folder)
        real(folder)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", delete)
        with pytest.raises(Killed):
            patched_pipeline.run(fresh=True)
    code, _ = patched_pipeline.run()
    assert code == DONE and sorted(patched_pipeline.ran()) == sorted(ALL)
    assert not tables.exists("inference_log")
    patched_pipeline.run()
    assert patched_pipeline.ran() == []  # it is cleared once


def test_make_clean_deletes_the_state_before_the_tables():
    *_, recipe = (settings.PROJECT / "Makefile").read_text().partition("\nclean:")
    recipe, *_ = recipe.partition("\n\n")
    order = [recipe.index(name) for name in (CLEARING, "rm -f data/pipeline/state.json")]
    order += [recipe.index("data/lakehouse"), recipe.index("rm -rf data/pipeline")]
    assert order == sorted(order)


def test_missing_notebook_is_named(patched_pipeline):
    (patched_pipeline.notebooks / "03_model_registry.ipynb").unlink()
    with pytest.raises(StageError, match=r"03_model_registry\.ipynb is missing"):
        patched_pipeline.run()


def wait_until(is_so):
    deadline = time.monotonic() + 300
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert is_so()


def start_program(temporary, *arguments):
    """Start ``run_all.py`` as a terminal does, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, str(RUN_ALL), *arguments],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def handles_signals(process):
    """Tell whether a process has set its handlers, as it does before its imports."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> signal.SIGTERM - 1 & 1)


def has_left_processes(temporary):
    """Tell whether a process lives that was started with a folder for its temporary files.

    The children of a run are found so even when they were started while it was killed. A process
    that has ended and that the system has not removed yet has no environment any more.
    """
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("TMPDIR", "").startswith(str(temporary)):
                return True
    return False


def check_stopped(process, number):
    _, said = process.communicate(timeout=300)
    name = signal.Signals(number).name
    assert process.returncode == 128 + number
    assert len(said.splitlines()) == 1
    assert said.startswith(f"run_all.py: stopped by {name}; go on with:  run_all.py --")
    return said


@needs_linux
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_during_the_imports_ends_a_run(patched_pipeline, temporary, number):
    process = start_program(temporary, "--fresh")
    wait_until(lambda: handles_signals(process))
    os.killpg(process.pid, number)
    assert "--fresh" in check_stopped(process, number)
    assert not settings.home().exists()


@needs_linux
@pytest.mark.long
def test_signal_to_a_running_stage_ends_all_and_says_how(patched_pipeline, temporary):
    started = temporary.with_suffix(".started")
    patched_pipeline.edit("00_overview", f"open({str(started)!r}, 'w').close(); {HOLD}")
    process = start_program(temporary, "--fresh", "--months", "3")
    wait_until(started.exists)
    started.unlink()
    assert has_left_processes(temporary)
    os.killpg(process.pid, signal.SIGINT)
    said = check_stopped(process, signal.SIGINT)
    assert "--months 3" in said and "--fresh" not in said
    wait_until(lambda: not has_left_processes(temporary))
    assert list(temporary.iterdir()) == []


@needs_linux
@pytest.mark.slow
def test_killed_run_goes_on_where_it_stopped(patched_pipeline, temporary):
    started = temporary.with_suffix(".started")
    source = f"open({str(started)!r}, 'w').close(); {HOLD}"
    patched_pipeline.edit("02_hyperparameter_optimisation", source)
    process = start_program(temporary)
    wait_until(started.exists)
    started.unlink()
    assert has_left_processes(temporary)
    process.kill()
    process.wait()
    wait_until(lambda: not has_left_processes(temporary))
    patched_pipeline.edit("02_hyperparameter_optimisation")
    patched_pipeline.ran()
    assert patched_pipeline.run()[0] == DONE
    assert "01_feature_engineering" not in patched_pipeline.ran()
    assert list(temporary.iterdir()) == []
