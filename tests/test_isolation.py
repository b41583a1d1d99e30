import os
import time

import pytest

from churn_utils import isolation


def double(number):
    return 2 * number, os.getpid()


def read_home():
    return os.environ["CHURN_HOME"]


def fail():
    raise ZeroDivisionError("boom")


def hang():
    time.sleep(600)


def die():
    os._exit(3)


@pytest.fixture(autouse=True, scope="module")
def server():
    isolation.start()
    yield


def call(name, *arguments, seconds=20.0):
    return isolation.call(f"test_isolation:{name}", *arguments, seconds=seconds)


def test_a_call_is_answered_by_another_process_each_time():
    (first, one), (second, other) = call("double", 4), call("double", 5)
    assert (first, second) == (8, 10)
    assert len({one, other, os.getpid()}) == 3


def test_the_callers_environment_of_now_is_used(monkeypatch):
    monkeypatch.setenv("CHURN_HOME", "/nowhere/in/particular")
    assert call("read_home") == "/nowhere/in/particular"


def test_what_is_raised_there_is_named_here():
    with pytest.raises(isolation.IsolationError, match="ZeroDivisionError: boom"):
        call("fail")


def test_what_hangs_is_ended_and_the_next_call_answered():
    started = time.monotonic()
    with pytest.raises(isolation.IsolationError, match="test_isolation:hang did not answer within 1 s"):
        call("hang", seconds=1.0)
    assert time.monotonic() - started < 10
    assert call("double", 1)[0] == 2


def test_a_process_that_dies_is_no_answer():
    with pytest.raises(isolation.IsolationError, match="ended its process without an answer"):
        call("die")


def test_a_server_that_is_gone_is_started_again():
    isolation.stop()
    assert call("double", 3)[0] == 6


def test_where_fork_is_not_safe_each_call_has_a_process_of_its_own(monkeypatch):
    isolation.stop()
    monkeypatch.setattr(isolation, "FORKS", False)
    monkeypatch.setattr(isolation, "PRELOAD", [])
    pids = set()
    for number in (1, 2):
        answer, pid = call("double", number)
        assert answer == 2 * number
        isolation._server[0].wait(timeout=30)
        pids.add(pid)
    assert len(pids) == 2
    isolation.stop()
