import os
import subprocess
import sys
import time
from pathlib import Path

import isolated_calls
import psutil
import pytest

from churn_utils import settings
from churn_utils.errors import IsolationError
from churn_utils.validation import isolation
from churn_utils.validation.isolation_server import FORKS

needs_fork = pytest.mark.skipif(not FORKS, reason="needs Linux")


@pytest.fixture(scope="module")
def server():
    """A server of this module, without the heavy imports, whatever the environment offers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(isolation.SERVERS_SOCKET, raising=False)
        opened = isolation.IsolationServer(preload=())
        yield opened
        opened.stop()


@pytest.fixture
def call(server):
    """Return a function that calls one of ``isolated_calls`` in the server."""

    def call(name, *arguments, seconds=20.0):
        return server.call(f"isolated_calls:{name}", *arguments, seconds=seconds)

    return call


def test_each_call_runs_in_a_process_of_its_own(call):
    (first, one), (second, other) = call("double", 4), call("double", 5)
    assert (first, second) == (8, 10)
    assert len({one, other, os.getpid()}) == 3


def test_a_call_sees_the_environment_of_now(call, monkeypatch):
    monkeypatch.setenv("CHURN_HOME", "/nowhere/in/particular")
    assert call("read_home") == "/nowhere/in/particular"


def test_what_a_call_raises_is_named(call):
    with pytest.raises(IsolationError, match="ZeroDivisionError: boom"):
        call("fail")


def test_a_call_that_hangs_is_ended(call):
    started = time.monotonic()
    with pytest.raises(IsolationError, match="isolated_calls:hang did not answer within 1 s"):
        call("hang", seconds=0.1)
    assert time.monotonic() - started < 10
    assert call("double", 1)[0] == 2


@needs_fork
def test_a_call_that_computes_without_end_is_ended(call):
    message = "isolated_calls:spin did not answer within 1 s of CPU"
    with pytest.raises(IsolationError, match=message):
        call("spin", seconds=1.0)
    assert call("double", 1)[0] == 2


def test_a_process_that_dies_gives_no_answer(call):
    with pytest.raises(IsolationError, match="ended its process without an answer"):
        call("die")


@needs_fork
@pytest.mark.parametrize("seconds", [0, 600], ids=["answers", "hangs"])
def test_processes_left_behind_end_with_their_call(call, tmp_path, seconds):
    path = tmp_path / "pid"
    if seconds:
        with pytest.raises(IsolationError, match="did not answer within 2 s"):
            call("leave_behind", str(path), seconds, seconds=0.2)
    else:
        assert call("leave_behind", str(path), seconds)
    with pytest.raises(ProcessLookupError):
        os.kill(int(path.read_text()), 0)


def test_a_stopped_server_is_started_again(server, call):
    server.stop()
    assert call("double", 3)[0] == 6


@pytest.fixture
def offering_process(server, tmp_path, monkeypatch):
    """A process that offers servers, as the pipeline's warm one does."""
    address = str(tmp_path / "socket")
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; "
        "from churn_utils.validation import isolation_server; "
        f"isolation_server.offer_servers({address!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    while not Path(address).exists():
        time.sleep(0.05)
    server.stop()
    monkeypatch.setenv(isolation.SERVERS_SOCKET, address)
    yield process
    process.kill()
    process.wait()
    server.stop()


def test_an_offered_server_runs_each_call_in_a_fork(server, call, offering_process):
    (one, first), (two, second) = call("double", 1), call("double", 2)
    pid = server.process.pid
    assert (one, two) == (2, 4)
    assert len({first, second, pid, offering_process.pid, os.getpid()}) == 5
    with pytest.raises(IsolationError, match="did not answer within 1 s"):
        call("hang", seconds=0.1)
    with pytest.raises(IsolationError, match="ended its process without an answer"):
        call("die")
    assert server.process.pid == pid and call("double", 3)[0] == 6


def test_after_a_stop_another_server_is_forked(server, call, offering_process):
    call("double", 1)
    before = server.process
    server.stop()
    deadline = time.monotonic() + 120
    while before.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert before.poll() is not None
    assert call("double", 2)[0] == 4 and server.process.pid != before.pid


def test_without_the_offering_process_one_is_launched(server, call, offering_process):
    offering_process.kill()
    offering_process.wait()
    assert call("double", 2)[0] == 4
    assert isinstance(server.process, subprocess.Popen)


def test_calls_in_the_background_keep_their_environment(server, monkeypatch):
    monkeypatch.setenv("CHURN_HOME", "/one")
    first = server.submit("isolated_calls:read_home", seconds=20.0)
    monkeypatch.setenv("CHURN_HOME", "/two")
    failing = server.submit("isolated_calls:fail", seconds=20.0)
    last = server.submit("isolated_calls:read_home", seconds=20.0)
    assert [first.result(), last.result()] == ["/one", "/two"]
    for _ in range(2):
        with pytest.raises(IsolationError, match="boom"):
            failing.result()


def test_without_fork_each_call_has_a_server():
    server = isolation.IsolationServer(forks=False, preload=())
    pids = set()
    for number in (1, 2):
        doubled, pid = server.call("isolated_calls:double", number, seconds=20.0)
        assert doubled == 2 * number
        assert server.process is None  # what has answered must not be taken for alive
        pids.add(pid)
    assert len(pids) == 2


CALLER = """
from churn_utils.validation.isolation import IsolationServer
server = IsolationServer(preload=[])
server.start()
answer = server.submit("isolated_calls:spin", seconds=600)
print(server.process.pid, flush=True)
answer.result()
"""


@needs_fork
@pytest.mark.slow
def test_a_call_ends_with_its_caller():
    folders = [str(Path(isolated_calls.__file__).parent), str(settings.PROJECT)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    command = [sys.executable, "-c", CALLER]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as caller:
        server = psutil.Process(int(caller.stdout.readline()))
        deadline = time.monotonic() + 60
        while not server.children() and time.monotonic() < deadline:
            time.sleep(0.05)
        called = server.children()
        caller.kill()
    _, left_behind = psutil.wait_procs([server, *called], timeout=30)
    assert len(called) == 1 and left_behind == []
