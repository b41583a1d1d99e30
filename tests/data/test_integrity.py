import json
import threading
import time

import pandas as pd
import pytest
from deltalake import DeltaTable, write_deltalake
from filelock import FileLock, Timeout

from churn_utils import settings
from churn_utils.data import integrity, table_commits, table_writes, tables
from churn_utils.data.table_commits import LEDGER, NOTE
from churn_utils.errors import DataError


@pytest.fixture(params=["", "secret"], ids=["unsigned", "signed"])
def ledger(request, tmp_path, monkeypatch):
    """A ledger of three lines, unsigned or signed."""
    monkeypatch.setenv("CHURN_SIGNING_KEY", request.param)
    path = tmp_path / "ledger.jsonl"
    for number in range(3):
        integrity.append_facts(path, {"number": number})
    return path


def test_a_ledger_returns_what_was_appended(ledger):
    assert integrity.read_ledger(ledger) == [{"number": number} for number in range(3)]
    assert integrity.read_last(ledger) == {"number": 2}
    assert integrity.read_ledger(ledger.with_name("none")) == []


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("change", ["edit", "drop", "repeat", "no json"])
def test_a_changed_line_is_found(ledger, position, change):
    lines = ledger.read_text().splitlines(keepends=True)
    line = lines[position]
    lines[position] = {
        "edit": line.replace('"number":', '"number":7'),
        "drop": "",
        "repeat": line + line,
        "no json": "x\n",
    }[change]
    ledger.write_text("".join(lines))
    if (position, change) == (2, "drop"):  # a cut end is found by what refers to it
        assert len(integrity.read_ledger(ledger)) == 2
        return
    with pytest.raises(DataError, match=r"line \d of .* was edited"):
        integrity.read_ledger(ledger)


def test_half_a_line_of_a_killed_process_is_cut(ledger):
    whole = ledger.read_bytes()
    ledger.write_bytes(whole + whole[:50])
    assert len(integrity.read_ledger(ledger)) == 3
    integrity.append_facts(ledger, {"number": 3})
    assert [facts["number"] for facts in integrity.read_ledger(ledger)] == [0, 1, 2, 3]


def test_a_line_may_be_longer_than_what_is_read_at_once(ledger):
    integrity.append_facts(ledger, {"number": "x" * 3 * integrity.TAIL_BYTES})
    integrity.append_facts(ledger, {"number": 4})
    assert integrity.read_last(ledger) == {"number": 4}
    assert len(integrity.read_ledger(ledger)) == 5


# --- tables


@pytest.fixture
def decisions(home):
    """Folder of a table with two commits."""
    for month in (1, 2):
        table_writes.merge("decisions", decided(month))
    return tables.path_of("decisions")


def decided(month):
    return pd.DataFrame({"as_of_date": [pd.Timestamp(2025, month, 1)], "decision": ["alert"]})


def test_each_commit_is_recorded_once(decisions):
    table_writes.merge("decisions", decided(2))  # changes nothing
    table_writes.rewind("decisions", 0)
    table_writes.merge("decisions", decided(3))
    recorded = [json.loads(line)["facts"] for line in (decisions / LEDGER).read_text().splitlines()]
    assert [facts["version"] for facts in recorded] == [0, 1, 2, 3]
    assert not (decisions / NOTE).exists()
    assert tables.check_whole("decisions").newest == 3
    assert tables.read("decisions", version=1)["as_of_date"].dt.month.tolist() == [1, 2]


@pytest.mark.parametrize("reads", [True, False])
def test_a_commit_of_a_killed_process_is_recorded(decisions, reads, monkeypatch):
    def be_killed(folder, version):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(table_commits, "_record_from", be_killed)
        with pytest.raises(KeyboardInterrupt):
            table_writes.merge("decisions", decided(3))
    assert (decisions / NOTE).exists()
    if reads:
        assert len(tables.read("decisions")) == 3
    table_writes.merge("decisions", decided(4))
    assert tables.check_whole("decisions").newest == 3


def test_a_commit_that_was_not_announced_is_refused(decisions):
    rows = DeltaTable(str(decisions)).to_pandas().head(1)
    write_deltalake(str(decisions), rows, mode="append")
    for use in (
        lambda: tables.read("decisions"),
        lambda: table_writes.merge("decisions", decided(3)),
        lambda: table_writes.rewind("decisions", 1),
    ):
        with pytest.raises(DataError, match="was not written by this project"):
            use()
    assert len(tables.read("decisions", version=1)) == 2


def test_an_edited_file_is_not_copied_into_a_new_one(decisions):
    path = max(decisions.glob("*.parquet"))
    pd.read_parquet(path).assign(decision="retrain").to_parquet(path, index=False)
    with pytest.raises(DataError, match="was changed after it was written"):
        table_writes.merge("decisions", decided(1).assign(decision="none"))


def test_files_that_are_written_again_are_recorded(decisions):
    path = max(decisions.glob("*.parquet"))
    with table_commits.record_rewriting(decisions):
        pd.read_parquet(path).to_parquet(path, index=False)
    assert tables.check_whole("decisions").newest == 1


def test_a_table_of_before_takes_more_commits(decisions):
    (decisions / LEDGER).unlink()
    settings.ledger().unlink()
    table_writes.merge("decisions", decided(3))
    assert tables.check_whole("decisions").unrecorded == 1
    assert len(tables.read("decisions")) == 3


def test_the_log_may_start_at_a_checkpoint(decisions):
    for month in range(3, 7):
        table_writes.merge("decisions", decided(month))
    with table_commits.hold_commits(decisions), table_commits.record_commits(decisions):
        delta = DeltaTable(str(decisions))
        delta.alter.set_table_properties({"delta.checkpointInterval": "1"})
        delta.delete("as_of_date = '2025-06-01'")
    assert list((decisions / "_delta_log").glob("*.checkpoint.parquet"))
    (decisions / "_delta_log" / f"{0:020}.json").unlink()  # as Delta's own clean-up does
    assert len(tables.read("decisions")) == 5


def test_what_waits_for_a_lock_comes_before_what_asks_again(tmp_path):
    path = tmp_path / "table.lock"
    order = []

    def wait_and_hold():
        with integrity.hold(path):
            order.append("waited")

    waiting = threading.Thread(target=wait_and_hold)
    with integrity.hold(path):
        waiting.start()
        while not is_held(integrity.turn_of(path)):
            time.sleep(0.01)
        with integrity.hold(path):  # its holder need not wait
            order.append("held")
    with integrity.hold(path):
        order.append("asked again")
    waiting.join()
    assert order == ["held", "waited", "asked again"]


def is_held(path):
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def test_what_waits_too_long_says_for_what(tmp_path):
    path = tmp_path / "table.lock"
    refused = []

    def ask():
        try:
            with integrity.hold(path, wait_seconds=0.05):
                pass
        except DataError as error:
            refused.append(str(error))

    with integrity.hold(path):
        asking = threading.Thread(target=ask)
        asking.start()
        asking.join()
    (said,) = refused
    assert said.startswith("another process has been changing table in ")
    with integrity.hold(path, wait_seconds=0.05):
        pass  # it keeps no turn
