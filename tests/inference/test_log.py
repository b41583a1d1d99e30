import time
from datetime import UTC, datetime

import pytest

from churn_utils.data import tables
from churn_utils.features import definitions
from churn_utils.inference import log as inference_log
from churn_utils.inference.log import InferenceLog, build_entry

INPUTS = tuple(
    1 if name in definitions.INTEGER else 0.1 if name in definitions.NUMERICAL else "text"
    for name in definitions.MODEL_INPUTS
)


def entries(count, start=0):
    now = datetime.now(UTC)
    return [
        build_entry(
            f"id-{start + i:06}",
            now,
            "2025-02-01",
            "request",
            "predictions",
            "7590-VHVEG",
            None if i % 2 else "2025-01-01",
            1,
            "champion",
            (0.3, 0.25, "offer", 100.0),
            INPUTS,
        )
        for i in range(count)
    ]


@pytest.fixture
def log(home):
    opened = InferenceLog(capacity=10_000, interval_s=0.05)
    opened.start()
    yield opened
    opened.close()


def wait_until(holds, seconds=40):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)


def test_every_answer_reaches_the_table_once(log):
    for start in range(0, 5000, 500):
        log.append(entries(500, start))
    assert log.close() == 0
    stored = tables.read("inference_log")
    assert stored["prediction_id"].tolist() == [f"id-{i:06}" for i in range(5000)]
    assert log.written == 5000 and len(log) == 0


def test_values_come_back_as_they_were(log):
    log.append(entries(2))
    log.close()
    first, second = tables.read("inference_log").to_dict("records")
    assert (first["churn_probability"], first["decision"], first["tenure"], first["contract"]) == (
        0.3,
        "offer",
        1,
        "text",
    )
    assert (
        str(first["features_as_of"])[:10] == "2025-01-01" and str(second["features_as_of"]) == "NaT"
    )
    assert first["answered_at"].tzinfo is not None


def test_an_answer_is_found_before_and_after_it_is_written(home):
    log = InferenceLog(interval_s=60)
    log.append(entries(3))
    waiting = log.find("id-000001")
    log.start()
    log.close()
    assert waiting["prediction_id"] == "id-000001" and log.find("id-000001") == waiting
    assert log.find("id-000009") is None


def test_a_full_queue_says_so(home):
    log = InferenceLog(capacity=10, interval_s=60)
    log.append(entries(8))
    assert log.has_room(2) and not log.has_room(3)


def test_half_a_queue_is_written_before_its_time(home):
    log = InferenceLog(capacity=100, interval_s=60)
    log.start()
    log.append(entries(50))
    wait_until(lambda: log.written == 50)
    log.close()


def test_what_could_not_be_written_is_kept_and_written_later(log, monkeypatch, caplog):
    real = tables.append
    monkeypatch.setattr(tables, "append", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    log.append(entries(5))
    wait_until(lambda: "disk full" in caplog.text)  # it is counted a moment before it is told
    assert log.failures >= 1 and len(log) == 5 and log.find("id-000004") is not None
    monkeypatch.setattr(tables, "append", real)
    wait_until(lambda: log.written == 5)
    assert len(tables.read("inference_log")) == 5


def test_what_is_lost_at_the_end_is_counted(home, monkeypatch, caplog):
    log = InferenceLog(interval_s=60)
    log.start()
    monkeypatch.setattr(tables, "append", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    log.append(entries(5))
    assert log.close() == 5 and "5 answer(s) that could not be written" in caplog.text


def test_large_batches_are_converted_in_parts(home):
    table = inference_log._to_arrow(entries(inference_log.ROWS_AT_ONCE + 1))
    assert table.num_rows == inference_log.ROWS_AT_ONCE + 1 and table.column(0).num_chunks == 2


def test_answers_get_a_turn_between_the_parts_unless_that_would_take_too_long(monkeypatch):
    pauses = []
    monkeypatch.setattr(inference_log.time, "sleep", pauses.append)
    batch = entries(4 * inference_log.ROWS_AT_ONCE)
    inference_log._to_arrow(batch)
    inference_log._to_arrow(batch, 60.0)
    inference_log._to_arrow(batch, 0.004)
    assert pauses == [0.0] * 3 + [inference_log.PAUSE_S] * 3 + [0.001] * 3


def test_small_files_are_put_together(home, monkeypatch):
    monkeypatch.setattr(inference_log, "WRITES_TO_COMPACT", 5)
    log = InferenceLog(interval_s=60)
    for start in range(5):
        log.append(entries(3, 3 * start))
        log._write()
    assert tables.describe_tables().set_index("table").loc["inference_log", "files"] == 1
    assert tables.read("inference_log")["prediction_id"].tolist() == [
        f"id-{i:06}" for i in range(15)
    ]


def test_a_compaction_that_fails_costs_no_answer(home, monkeypatch, caplog):
    monkeypatch.setattr(inference_log, "WRITES_TO_COMPACT", 1)
    monkeypatch.setattr(inference_log, "DeltaTable", lambda path: 1 / 0)
    log = InferenceLog(interval_s=60)
    log.append(entries(3))
    assert log._write() and log.written == 3 and "could not compact" in caplog.text
