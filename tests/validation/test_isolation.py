import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from churn_utils.errors import IsolationError
from churn_utils.validation import isolation


@pytest.fixture(autouse=True, scope="module")
def server():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(isolation.OFFERED, raising=False)
        isolation.stop()
        isolation.start()
        yield


def call(name, *arguments, seconds=20.0):
    return isolation.call(f"isolated_calls:{name}", *arguments, seconds=seconds)


def test_a_call_is_answered_by_another_process_each_time():
    (first, one), (second, other) = call("double", 4), call("double", 5)
    assert (first, second) == (8, 10)
    assert len({one, other, os.getpid()}) == 3


def test_the_callers_environment_of_now_is_used(monkeypatch):
    monkeypatch.setenv("CHURN_HOME", "/nowhere/in/particular")
    assert call("read_home") == "/nowhere/in/particular"


def test_what_is_raised_there_is_named_here():
    with pytest.raises(IsolationError, match="ZeroDivisionError: boom"):
        call("fail")


def test_what_hangs_is_ended_and_the_next_call_answered():
    started = time.monotonic()
    with pytest.raises(IsolationError, match="isolated_calls:hang did not answer within 1 s"):
        call("hang", seconds=0.1)
    assert time.monotonic() - started < 10
    assert call("double", 1)[0] == 2


@pytest.mark.skipif(not isolation.FORKS, reason="needs Linux")
def test_what_computes_without_end_is_ended_by_its_cpu_time():
    with pytest.raises(
        IsolationError, match="isolated_calls:spin did not answer within 1 s of CPU"
    ):
        call("spin", seconds=1.0)
    assert call("double", 1)[0] == 2


def test_a_process_that_dies_is_no_answer():
    with pytest.raises(IsolationError, match="ended its process without an answer"):
        call("die")


@pytest.mark.skipif(not isolation.FORKS, reason="needs Linux")
@pytest.mark.parametrize("seconds", [0, 600], ids=["answers", "hangs"])
def test_what_a_call_left_behind_ends_with_it(tmp_path, seconds):
    path = tmp_path / "pid"
    if seconds:
        with pytest.raises(IsolationError, match="did not answer within 2 s"):
            call("leave_behind", str(path), seconds, seconds=0.2)
    else:
        assert call("leave_behind", str(path), seconds)
    with pytest.raises(ProcessLookupError):
        os.kill(int(path.read_text()), 0)


def test_a_server_that_is_gone_is_started_again():
    isolation.stop()
    assert call("double", 3)[0] == 6


@pytest.fixture
def offered(tmp_path, monkeypatch):
    """A process that offers servers, as the pipeline's warm one does."""
    address = str(tmp_path / "socket")
    code = f"import sys; sys.path[:] = {sys.path!r}; from churn_utils.validation import isolation; isolation.offer({address!r})"
    process = subprocess.Popen([sys.executable, "-c", code])
    while not Path(address).exists():
        time.sleep(0.05)
    isolation.stop()
    monkeypatch.setenv(isolation.OFFERED, address)
    yield process
    process.kill()
    process.wait()
    isolation.stop()


def test_a_server_that_is_offered_is_used_and_each_call_has_a_process_of_its_own(offered):
    (one, first), (two, second) = call("double", 1), call("double", 2)
    server = isolation._server[0].pid
    assert (one, two) == (2, 4) and len({first, second, server, offered.pid, os.getpid()}) == 5
    with pytest.raises(IsolationError, match="did not answer within 1 s"):
        call("hang", seconds=0.1)
    with pytest.raises(IsolationError, match="ended its process without an answer"):
        call("die")
    assert isolation._server[0].pid == server and call("double", 3)[0] == 6


def test_a_server_that_is_stopped_ends_and_another_is_forked(offered):
    call("double", 1)
    before = isolation._server[0]
    isolation.stop()
    deadline = time.monotonic() + 10
    while before.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert before.poll() is not None
    assert call("double", 2)[0] == 4 and isolation._server[0].pid != before.pid


def test_what_offers_may_be_gone(offered):
    offered.kill()
    offered.wait()
    assert call("double", 2)[0] == 4 and isinstance(isolation._server[0], subprocess.Popen)


def test_questions_in_the_background_see_the_environment_of_when_they_were_asked(monkeypatch):
    monkeypatch.setenv("CHURN_HOME", "/one")
    waiting = [isolation.submit("isolated_calls:read_home", seconds=20.0)]
    monkeypatch.setenv("CHURN_HOME", "/two")
    waiting.append(isolation.submit("isolated_calls:fail", seconds=20.0))
    waiting.append(isolation.submit("isolated_calls:read_home", seconds=20.0))
    assert [waiting[0].result(), waiting[2].result()] == ["/one", "/two"]
    for _ in range(2):
        with pytest.raises(IsolationError, match="boom"):
            waiting[1].result()


def test_where_fork_is_not_safe_each_call_has_a_process_of_its_own(monkeypatch):
    isolation.stop()
    monkeypatch.setattr(isolation, "FORKS", False)
    monkeypatch.setattr(isolation, "PRELOAD", [])
    pids = set()
    for number in (1, 2):
        answer, pid = call("double", number)
        assert answer == 2 * number
        assert isolation._server is None  # what has answered must not be taken for alive
        pids.add(pid)
    assert len(pids) == 2
    isolation.stop()
