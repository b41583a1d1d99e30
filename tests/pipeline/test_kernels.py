import multiprocessing
import os
import sys
import time
from pathlib import Path

import nbformat
import papermill
import pytest
from deltalake import DeltaTable
from jupyter_client.provisioning import KernelProvisionerFactory

from churn_utils.errors import ChurnError, UsageError
from churn_utils.pipeline import kernels
from churn_utils.validation import isolation

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="fork is safe on Linux only"
)


@pytest.fixture
def choice(monkeypatch):
    """Which kernels this process starts: ordinary ones until something else is asked for, and after the test."""
    factory = KernelProvisionerFactory.instance()
    monkeypatch.setattr(factory, "default_provisioner_name", "local-provisioner")
    return factory


@pytest.fixture
def execute(tmp_path, choice):
    assert kernels.use_forked_kernels()

    def run(source, **options):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
        nbformat.write(notebook, tmp_path / "in.ipynb")
        done = papermill.execute_notebook(
            str(tmp_path / "in.ipynb"),
            str(tmp_path / "out.ipynb"),
            kernel_name="python3",
            progress_bar=False,
            cwd=str(tmp_path),
            **options,
        )
        return "".join(output.get("text", "") for output in done.cells[-1].outputs)

    return run


@pytest.mark.parametrize("forked", [True, False])
def test_a_kernel_talks_over_sockets_that_nobody_else_can_take(execute, choice, forked):
    if not forked:
        choice.default_provisioner_name = "local-provisioner"
    with kernels.open_channels() as config:
        folder = Path(config.KernelManager.ip).parent
        look = "import sys; from ipykernel.connect import get_connection_info as look; found = look(unpack=True)"
        warm = "'churn_utils.validation.gate' in sys.modules"
        text = execute(f"{look}; print(found['transport'], found['ip'], {warm})", config=config)
    assert text.split() == ["ipc", str(folder / "kernel"), str(forked)] and not folder.exists()


def test_a_forked_kernel_is_warm_but_its_names_are_clean(execute):
    text = execute(
        "import sys; print('churn_utils.validation.gate' in sys.modules, 'pd' in dir(), __name__)"
    )
    assert text.split() == ["True", "False", "__main__"]


def test_an_ordinary_kernel_started_earlier_does_not_settle_what_comes(execute, choice):
    choice.default_provisioner_name = "local-provisioner"
    ask = "import sys; print('churn_utils.validation.gate' in sys.modules)"
    assert execute(ask).split() == ["False"]
    kernels.use_forked_kernels()
    assert execute(ask).split() == ["True"]


def test_a_kernel_gets_the_environment_of_now_and_the_folder_asked_for(
    execute, monkeypatch, tmp_path
):
    monkeypatch.setenv("CHURN_HOME", "/somewhere/else")
    text = execute("import os; print(os.environ['CHURN_HOME'], os.getcwd())")
    assert text.split() == ["/somewhere/else", str(tmp_path)]


def test_kernels_end_with_their_notebook(execute):
    execute("1 + 1")
    assert multiprocessing.active_children() == []


def test_a_kernel_questions_challengers_in_forks_of_the_warm_process(execute):
    question = (
        "import os; from churn_utils.validation import isolation\n"
        "pids = [isolation.call('os:getpid', seconds=20.0), isolation.call('os:getppid', seconds=20.0)]\n"
        "print(isolation._server[0].pid == pids[1] != os.getpid() != pids[0], type(isolation._server[0]).__name__)"
    )
    with kernels.offer_isolation():
        deadline = time.monotonic() + 60
        while not Path(os.environ[isolation.OFFERED]).exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert execute(question).split() == ["True", "_Fork"]
    assert isolation.OFFERED not in os.environ and multiprocessing.active_children() == []


def test_an_error_in_a_forked_kernel_is_an_error(execute):
    with pytest.raises(papermill.PapermillExecutionError, match="ZeroDivisionError"):
        execute("1 / 0")


def test_a_kernel_that_dies_is_noticed(execute):
    with pytest.raises(Exception, match="(?i)kernel died"):
        execute("import os; os._exit(3)")


# --- functions called in the warm process; they are imported there from this file


@pytest.fixture
def reported():
    """Lines that came from the warm process."""
    return []


@pytest.fixture
def call(choice, reported):
    """Call a function of this file in the warm process."""
    kernels.use_forked_kernels()

    def run(name, *arguments, report=reported.append):
        return kernels.call_in_warm_process(f"{__name__}:{name}", *arguments, report=report)

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
    """Report, then wait for a file that only whoever hears of it makes."""
    report(path)
    end = time.monotonic() + 20
    while not Path(path).exists() and time.monotonic() < end:
        time.sleep(0.01)
    return Path(path).exists()


def open_nothing(report):
    DeltaTable("/nowhere")


def return_what_cannot_be_sent(report):
    return lambda: None


def test_a_function_is_called_elsewhere_and_its_result_comes_back(call, reported, monkeypatch):
    monkeypatch.setenv("CHURN_HOME", "/somewhere/else")
    found = call("describe", 1, "two", None)
    assert found["arguments"] == (1, "two", None) and reported == ["got 1", "got two", "got None"]
    assert found["process"] != os.getpid() and found["home"] == "/somewhere/else" and found["warm"]
    assert multiprocessing.active_children() == []


def test_lines_come_while_the_function_runs(call, tmp_path):
    assert call("wait_for_file", str(tmp_path / "heard"), report=lambda line: Path(line).touch())


def test_what_the_function_raises_is_raised_here_after_its_lines(call, reported):
    with pytest.raises(UsageError) as raised:
        call("refuse", "another world")
    assert raised.value.args == ("another world",) and reported == ["about to refuse"]
    assert "in refuse" in raised.value.__notes__[0]  # where it was raised there


def test_a_function_that_is_not_there_is_an_error(call):
    with pytest.raises(AttributeError, match="nowhere"):
        call("nowhere")


def test_a_result_that_cannot_be_sent_is_an_error(call):
    with pytest.raises(Exception, match="(?i)pickle"):
        call("return_what_cannot_be_sent")


def test_an_error_that_cannot_be_sent_is_told(call):
    with pytest.raises(Exception, match="TableNotFoundError"):
        call("open_nothing")


def test_a_variable_that_is_gone_by_now_is_gone_there(call, monkeypatch):
    monkeypatch.delenv("PATH")
    assert not call("knows", "PATH")


def test_a_process_that_died_is_reported_with_its_exit_code(call):
    with pytest.raises(
        ChurnError, match=r"test_kernels:die ended without an answer \(exit code 3\)"
    ):
        call("die")
    assert multiprocessing.active_children() == []
