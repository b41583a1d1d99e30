"""Forked kernels: warm, clean, private, and gone when their notebook ends."""

import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

import nbformat
import papermill
import pytest
from jupyter_client.provisioning import KernelProvisionerFactory

from churn_utils.pipeline import kernels, warm_process
from churn_utils.validation import isolation

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="fork is safe on Linux only"),
]
# What a kernel says of itself; the last line is read as JSON.
DESCRIBE = """
names = [name for name in dir() if not name.startswith('_')]
import json, os, sys
from ipykernel.connect import get_connection_info
info = get_connection_info(unpack=True)
print(json.dumps({
    'transport': info['transport'],
    'ip': info['ip'],
    'warm': 'churn_utils.validation.gate' in sys.modules,
    'names': names,
    'module': __name__,
    'home': os.environ['CHURN_HOME'],
    'folder': os.getcwd(),
}))
"""


@pytest.fixture
def patched_factory(monkeypatch):
    """Which kernels this process starts: ordinary ones until a test asks for others."""
    factory = KernelProvisionerFactory.instance()
    monkeypatch.setattr(factory, "default_provisioner_name", "local-provisioner")
    return factory


@pytest.fixture
def execute(tmp_path, patched_factory):
    """Execute one cell in a kernel and return what it printed."""

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


def describe_kernel(execute):
    """Start a kernel with socket files; returns what it says and the folder of the files."""
    with kernels.open_channels() as config:
        folder = Path(config.KernelManager.ip).parent
        return json.loads(execute(DESCRIBE, config=config)), folder


def test_forked_kernel_after_an_ordinary_one(execute, monkeypatch, tmp_path):
    monkeypatch.setenv("CHURN_HOME", "/first")
    ordinary, folder = describe_kernel(execute)
    assert not ordinary["warm"]
    assert (ordinary["transport"], ordinary["ip"]) == ("ipc", str(folder / "kernel"))
    assert not folder.exists()
    assert kernels.use_forked_kernels()  # the ordinary kernel has not settled what comes
    monkeypatch.setenv("CHURN_HOME", "/somewhere/else")
    forked, folder = describe_kernel(execute)
    assert forked["warm"]
    # no other process can take its sockets
    assert (forked["transport"], forked["ip"]) == ("ipc", str(folder / "kernel"))
    assert not folder.exists()
    # clean names, in spite of what the warm process has imported
    assert "pd" not in forked["names"] and forked["module"] == "__main__"
    # the environment of now, and the folder asked for
    assert (forked["home"], forked["folder"]) == ("/somewhere/else", str(tmp_path))
    assert multiprocessing.active_children() == []  # it has ended with its notebook


def test_isolated_calls_fork_from_the_warm_process(execute):
    source = (
        "import os; from churn_utils.validation import isolation\n"
        "server = isolation.server\n"
        "pids = [server.call(f'os:{name}', seconds=20.0) for name in ('getpid', 'getppid')]\n"
        "print(server.process.pid == pids[1] != os.getpid() != pids[0])\n"
        "print(type(server.process).__name__)"
    )
    assert kernels.use_forked_kernels()
    with warm_process.offer_isolation():
        offered = Path(os.environ[isolation.SERVERS_SOCKET])
        deadline = time.monotonic() + 300
        while not offered.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert execute(source).split() == ["True", "ForkedProcess"]
    assert isolation.SERVERS_SOCKET not in os.environ and multiprocessing.active_children() == []


def test_error_in_a_forked_kernel_is_an_error(execute):
    assert kernels.use_forked_kernels()
    with pytest.raises(papermill.PapermillExecutionError, match="ZeroDivisionError"):
        execute("1 / 0")


def test_dead_forked_kernel_is_noticed(execute):
    assert kernels.use_forked_kernels()
    with pytest.raises(Exception, match="(?i)kernel died"):
        execute("import os; os._exit(3)")
