import json
import logging
import os
import threading
import time
from pathlib import Path

import pytest

from churn_utils.serving.log_lines import LinesHandler, LineWriter


@pytest.fixture
def pipe():
    """Both ends of a pipe."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def read_lines(reading, count):
    """Wait for a number of lines in a pipe."""
    received = b""
    while received.count(b"\n") < count:
        received += os.read(reading, 65536)
    return [json.loads(line) for line in received.splitlines()]


def test_lines_are_written_in_time_and_at_the_end(pipe):
    reading, writing = pipe
    writer = LineWriter(writing)
    writer.start()
    writer.append({"first": 1})
    assert read_lines(reading, 1) == [{"first": 1}]
    writer.append({"second": 2})
    writer.close()
    assert read_lines(reading, 1) == [{"second": 2}] and writer.dropped == 0


def test_a_reader_that_stops_costs_lines_and_nothing_else(pipe):
    _, writing = pipe
    writer = LineWriter(writing, most_lines=100)
    writer.start()
    for number in range(3000):  # more than the pipe, the write under way and the queue hold
        writer.append({"number": number, "fill": "x" * 1000})
        if number % 100 == 0:
            time.sleep(0.01)
    assert writer.dropped > 1000
    ended = threading.Event()

    def close():
        writer.close()
        ended.set()

    threading.Thread(target=close, daemon=True).start()
    assert ended.wait(60)


def test_lines_of_a_failed_write_are_counted():
    with Path("/dev/full").open("wb", buffering=0) as full:
        writer = LineWriter(full.fileno())
        writer.start()
        writer.append({"lost": 1})
        writer.close()
    assert writer.dropped == 1


def test_records_of_the_application_log_become_json(pipe):
    reading, writing = pipe
    writer = LineWriter(writing)
    handler = LinesHandler(writer)
    record = logging.LogRecord("churn", logging.ERROR, __file__, 1, "lost %d", (3,), None)
    handler.handle(record)
    writer.start()
    writer.close()
    (line,) = read_lines(reading, 1)
    assert (line["level"], line["logger"], line["message"]) == ("ERROR", "churn", "lost 3")
