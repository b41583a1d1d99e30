"""The journal of the inference log: no answer that left may be missing after a kill."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from log_entries import id_of, make_entries

from churn_utils.data import table_writes, tables
from churn_utils.errors import NotReadyError
from churn_utils.inference import journal, log_rows
from churn_utils.inference import log as inference_log
from churn_utils.inference.log import InferenceLog

ANSWERING = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from log_entries import id_of, make_entries
from churn_utils.inference.log import InferenceLog

log = InferenceLog(capacity=1_000_000, interval_s=0.3, is_durable=True)
log.start()


async def answer(caller):
    for number in range(caller, 1_000_000, 8):
        log.append(make_entries(1, number))
        await log.sync()
        print(id_of(number), flush=True)  # the answer leaves


async def main():
    await asyncio.gather(*(answer(caller) for caller in range(8)))


asyncio.run(main())
"""


def list_segments(home):
    return sorted((home / journal.FOLDER).glob("*.jsonl"))


def answer_until_killed(answers):
    """Answer in a process of its own that is killed after some answers; return their ids."""
    command = [sys.executable, "-c", ANSWERING, str(Path(__file__).parents[1])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    seen = [process.stdout.readline().strip() for _ in range(answers)]
    os.kill(process.pid, signal.SIGKILL)
    seen += [line.strip() for line in process.stdout if line.endswith("\n")]
    process.wait()
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("answers", [500, pytest.param(10_000, marks=pytest.mark.long)])
def test_no_answer_that_left_is_missing_after_a_kill(home, answers):
    seen = answer_until_killed(answers)
    log = InferenceLog(interval_s=60)  # recovers also if it is not durable itself
    log.start()
    assert log.close() == 0
    stored = tables.read("inference_log")["prediction_id"]
    assert len(seen) >= answers
    assert set(seen) <= set(stored) and stored.is_unique
    assert list_segments(home) == []


def test_an_entry_in_table_and_journal_is_kept_once(home):
    entries = make_entries(3)
    left = journal.Journal(log_rows.SCHEMA.names)
    left.append(entries)
    os.close(left._segments[0].descriptor)  # its process ends
    table_writes.append("inference_log", log_rows.to_arrow(entries[:2]))
    assert inference_log.recover_journals() == 1
    stored = tables.read("inference_log")["prediction_id"]
    assert sorted(stored) == [id_of(number) for number in range(3)]
    assert list_segments(home) == []


def test_half_a_line_is_no_entry(home):
    left = journal.Journal(log_rows.SCHEMA.names)
    left.append(make_entries(2))
    left._segments[0].write(b'["half')
    os.close(left._segments[0].descriptor)
    assert inference_log.recover_journals() == 2


def test_the_journal_of_a_living_process_is_left_alone(home):
    log = InferenceLog(interval_s=60, is_durable=True)
    log.start()
    log.append(make_entries(2))
    assert inference_log.recover_journals() == 0
    assert len(list_segments(home)) == 1
    assert log.close() == 0 and list_segments(home) == []
    assert len(tables.read("inference_log")) == 2


def test_what_the_journal_does_not_take_is_not_answered(home, monkeypatch):
    log = InferenceLog(interval_s=60, is_durable=True)
    log.start()

    def fail(self, data):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(journal.Segment, "write", fail)
        with pytest.raises(NotReadyError, match="cannot be recorded"):
            log.append(make_entries(1))
    assert len(log) == 0

    def fail_to_sync(descriptor):
        raise OSError("Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(journal.os, "fsync", fail_to_sync)
        with pytest.raises(NotReadyError, match="cannot be recorded"):
            asyncio.run(log.sync())
    log.close()
