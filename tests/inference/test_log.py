import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from log_entries import ANSWERED_AT, INPUTS, id_of, make_entries

from churn_utils.data import table_writes, tables
from churn_utils.errors import DataError
from churn_utils.features import definitions
from churn_utils.inference import log as inference_log
from churn_utils.inference import log_reading, log_retention, log_rows
from churn_utils.inference.log import InferenceLog


@pytest.fixture
def log(home):
    opened = InferenceLog(capacity=10_000, interval_s=0.05)
    opened.start()
    yield opened
    opened.close()


@pytest.fixture
def idle_log(home):
    """A log whose thread does not run."""
    return InferenceLog(interval_s=60)


@pytest.fixture
def full_disk(monkeypatch):
    """Make every write fail; returns a function that ends it."""
    real = table_writes.append

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(table_writes, "append", fail)
    return lambda: monkeypatch.setattr(table_writes, "append", real)


def wait_until(holds, seconds=120):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)


def test_every_entry_reaches_the_table_once(log):
    for start in range(0, 5000, 500):
        log.append(make_entries(500, start))
    assert log.close() == 0
    stored = tables.read("inference_log")
    assert stored["prediction_id"].tolist() == [id_of(i) for i in range(5000)]
    assert log.written == 5000 and len(log) == 0


def test_values_come_back_as_they_were(log):
    assert len(INPUTS) == len(definitions.MODEL_INPUTS)
    log.append(make_entries(2))
    log.close()
    first, second = tables.read("inference_log").to_dict("records")
    names = ("churn_probability", "decision", "tenure", "contract")
    assert [first[name] for name in names] == [0.3, "offer", 1, "text"]
    assert str(first["features_as_of"])[:10] == "2025-01-01"
    assert str(second["features_as_of"]) == "NaT"
    assert first["answered_at"].tzinfo is not None


def test_an_entry_is_found_before_and_after_its_write(idle_log):
    idle_log.append(make_entries(3))
    waiting = idle_log.find(id_of(1))
    idle_log.start()
    idle_log.close()
    assert waiting["prediction_id"] == id_of(1)
    assert idle_log.find(id_of(1)) == waiting
    assert idle_log.find(id_of(9)) is None


def test_an_id_is_looked_for_at_its_time_alone(idle_log, monkeypatch):
    for month in range(1, 7):
        idle_log.append(make_entries(2, answered_at=ANSWERED_AT.replace(month=month)))
        idle_log.write_waiting()
    newest = newest_file()
    for path in tables.path_of("inference_log").glob("*.parquet"):
        if path != newest:
            path.write_bytes(b"no table: reading it would fail")
    answered_at = ANSWERED_AT.replace(month=6)
    assert idle_log.find(id_of(1, answered_at))["prediction_id"] == id_of(1, answered_at)
    assert idle_log.find(id_of(7, answered_at)) is None
    # an id without a time, and one of a time without answers
    assert idle_log.find(str(uuid.uuid4())) is None
    assert idle_log.find(id_of(1, ANSWERED_AT.replace(year=2001))) is None


def newest_file():
    """The file that was written last."""
    return max(
        tables.path_of("inference_log").glob("*.parquet"), key=lambda p: p.stat().st_mtime_ns
    )


def test_an_entry_that_is_older_than_a_column_is_found(idle_log):
    older = log_rows.to_arrow(make_entries(1)).drop_columns("caller")
    table_writes.append("inference_log", older)
    found = idle_log.find(id_of(0))
    assert found["prediction_id"] == id_of(0) and found["caller"] is None


def test_a_full_queue_has_no_room(home):
    log = InferenceLog(capacity=10, interval_s=60)
    log.append(make_entries(8))
    assert log.has_room(2) and not log.has_room(3)


def test_half_a_queue_is_written_before_its_time(home):
    log = InferenceLog(capacity=100, interval_s=60)
    log.start()
    log.append(make_entries(50))
    wait_until(lambda: log.written == 50)
    log.close()


def test_a_failed_write_is_repeated_later(log, full_disk, caplog):
    log.append(make_entries(5))
    wait_until(lambda: "disk full" in caplog.text)  # counted a moment before it is logged
    assert log.failures >= 1 and len(log) == 5 and log.find(id_of(4)) is not None
    full_disk()
    wait_until(lambda: log.written == 5)
    assert len(tables.read("inference_log")) == 5


def test_entries_lost_at_the_end_are_counted(idle_log, full_disk, caplog):
    idle_log.start()
    idle_log.append(make_entries(5))
    assert idle_log.close() == 5
    assert "5 answer(s) that could not be written" in caplog.text


def test_large_batches_are_converted_in_parts():
    table = log_rows.to_arrow(make_entries(log_rows.ROWS_AT_ONCE + 1))
    assert table.num_rows == log_rows.ROWS_AT_ONCE + 1
    assert table.column(0).num_chunks == 2


@pytest.mark.parametrize(
    ("pauses_s", "pause"), [(0.0, 0.0), (60.0, log_rows.PAUSE_S), (0.004, 0.001)]
)
def test_parts_are_apart_unless_that_takes_too_long(monkeypatch, pauses_s, pause):
    pauses = []
    monkeypatch.setattr(log_rows.time, "sleep", pauses.append)
    log_rows.to_arrow(make_entries(4 * log_rows.ROWS_AT_ONCE), pauses_s)
    assert pauses == [pause] * 3


def test_small_files_are_joined_after_some_writes(idle_log, monkeypatch):
    monkeypatch.setattr(inference_log, "WRITES_TO_TIDY", 5)
    for start in range(5):
        idle_log.append(make_entries(3, 3 * start, datetime.now(UTC)))
        idle_log.write_waiting()
        idle_log.tidy_if_due()
    assert count_files() == 1
    assert len(tables.read("inference_log")) == 15


def count_files():
    return tables.describe_tables().set_index("table").loc["inference_log", "files"]


def test_old_entries_are_removed_without_writes_as_well(idle_log, monkeypatch):
    idle_log.append(make_entries(3, answered_at=datetime.now(UTC) - timedelta(days=400)))
    idle_log.append(make_entries(3, answered_at=datetime.now(UTC) - timedelta(days=380)))
    idle_log.write_waiting()
    idle_log.tidy_if_due()
    assert len(tables.read("inference_log")) == 6
    monkeypatch.setattr(inference_log, "SECONDS_TO_TIDY", 0.0)
    idle_log.tidy_if_due()
    assert len(tables.read("inference_log")) == 3


def test_an_id_says_whether_its_entry_is_expired(idle_log):
    now = datetime.now(UTC)
    assert idle_log.is_expired(id_of(1, now - timedelta(days=400)))
    assert not idle_log.is_expired(id_of(1, now - timedelta(days=380)))
    assert not idle_log.is_expired(str(uuid.uuid4()))


def test_tidying_that_fails_costs_no_entry(log, monkeypatch, caplog):
    """In the thread that writes, which goes on."""
    monkeypatch.setattr(inference_log, "WRITES_TO_TIDY", 1)
    monkeypatch.setattr(log_retention, "tidy", lambda months: 1 / 0)
    log.append(make_entries(3))
    wait_until(lambda: "could not remove old entries" in caplog.text)
    log.append(make_entries(3, 3))
    wait_until(lambda: log.written == 6)


@pytest.mark.parametrize("is_open", [False, True])
def test_a_log_that_is_deleted_while_it_is_read_says_so(log, monkeypatch, is_open):
    log.append(make_entries(1))
    log.close()
    module, name = (log_reading, "open_table") if is_open else (tables, "exists")
    real = getattr(module, name)

    def delete_after(*arguments):
        found = real(*arguments)
        table_writes.delete_all()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(module, name, delete_after)
        with pytest.raises(DataError, match="table inference_log .* cannot be read"):
            log.find(id_of(0))
    assert log.find(id_of(0)) is None
    assert tables.read_change_marker("inference_log") == 0
