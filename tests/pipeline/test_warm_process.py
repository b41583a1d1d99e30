"""Functions that are called in the warm process; they are imported there from this file."""

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from deltalake import DeltaTable

from churn_utils.errors import ChurnError, UsageError
from churn_utils.pipeline import warm_process

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="fork is safe on Linux only"),
]


@pytest.fixture
def reported():
    """Lines that came from the warm process."""
    return []


@pytest.fixture
def call(reported):
    """Call a function of this file in the warm process."""
    warm_process.start()

    def run(name, *arguments, report=reported.append):
        return warm_process.call_in_warm_process(f"{__name__}:{name}", *arguments, report=report)

    return run


def describe(*arguments, report):
    for argument in arguments:
        report(f"got {argument}")
    warm = "churn_utils.validation.gate" in sys.modules
    return {
        "arguments": arguments,
        "process": os.getpid(),
        "home": os.environ["CHURN_HOME"],
        "warm": warm,
    }


def knows(variable, report):
    return variable in os.environ


def refuse(message, report):
    report("about to refuse")
    raise UsageError(message)


def die(report):
    report("about to die")
    os._exit(3)


def wait_for_file(path, report):
    """Report a path, then wait for the file that the receiver of the report makes."""
    report(path)
    end = time.monotonic() + 120
    while not Path(path).exists() and time.monotonic() < end:
        time.sleep(0.01)
    return Path(path).exists()


def open_nothing(report):
    DeltaTable("/nowhere")


def return_a_lambda(report):
    return lambda: None


def test_function_is_called_in_another_warm_process(call, reported, monkeypatch):
    monkeypatch.setenv("CHURN_HOME", "/somewhere/else")
    found = call("describe", 1, "two", None)
    assert found["arguments"] == (1, "two", None) and reported == ["got 1", "got two", "got None"]
    assert found["process"] != os.getpid() and found["home"] == "/somewhere/else" and found["warm"]
    assert multiprocessing.active_children() == []


def is_interrupt_blocked(report):
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_interrupt_is_left_to_the_process_that_called(call):
    assert call("is_interrupt_blocked")


def test_lines_come_while_the_function_runs(call, tmp_path):
    assert call("wait_for_file", str(tmp_path / "heard"), report=lambda line: Path(line).touch())


def test_error_is_raised_here_after_the_lines(call, reported):
    with pytest.raises(UsageError) as raised:
        call("refuse", "another world")
    assert raised.value.args == ("another world",) and reported == ["about to refuse"]
    assert "in refuse" in raised.value.__notes__[0]  # where it was raised there


def test_unknown_function_is_an_error(call):
    with pytest.raises(AttributeError, match="nowhere"):
        call("nowhere")


def test_result_that_cannot_be_pickled_is_an_error(call):
    with pytest.raises(Exception, match="(?i)pickle"):
        call("return_a_lambda")


def test_error_that_cannot_be_pickled_keeps_its_text(call):
    with pytest.raises(Exception, match="TableNotFoundError"):
        call("open_nothing")


def test_deleted_variable_is_not_seen_there(call, monkeypatch):
    monkeypatch.delenv("PATH")
    assert not call("knows", "PATH")


def test_dead_process_is_reported_with_its_exit_code(call):
    with pytest.raises(
        ChurnError, match=r"test_warm_process:die ended without an answer \(exit code 3\)"
    ):
        call("die")
    assert multiprocessing.active_children() == []
