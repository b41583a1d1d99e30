import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from deltalake import DeltaTable
from log_entries import ANSWERED_AT, id_of, make_entries

from churn_utils.data import erasure, table_writes, tables
from churn_utils.inference import log_retention, log_rows
from churn_utils.inference.log import InferenceLog
from churn_utils.registry import verification

NOW = datetime(2027, 5, 15, tzinfo=UTC)
# Answers of April 2026 and before are older than 13 months then.
KEPT = {"months": 13, "now": NOW, "hours_before_deletion": 0}


@pytest.fixture
def half_a_year(home):
    """Six files, one of each month from March to August 2026, with three answers each."""
    for month in range(3, 9):
        entries = make_entries(3, answered_at=ANSWERED_AT.replace(month=month))
        table_writes.append("inference_log", log_rows.to_arrow(entries))


def list_months():
    return sorted(set(tables.read("inference_log")["answered_at"].dt.month))


def find_wrong():
    """What ``verify`` does not find as it was written."""
    return [entry for entry in verification.verify_home() if entry.state == verification.WRONG]


def list_files():
    return list(tables.path_of("inference_log").glob("*.parquet"))


def test_old_answers_go_and_newer_ones_stay(half_a_year):
    tidied = log_retention.tidy(**KEPT)
    assert (tidied.removed, tidied.files_before, tidied.files_after) == (6, 6, 1)
    assert list_months() == [5, 6, 7, 8] and len(tables.read("inference_log")) == 12
    assert len(list_files()) == 1 and find_wrong() == []
    log = InferenceLog()
    assert log.find(id_of(1, ANSWERED_AT.replace(month=4))) is None
    assert log.find(id_of(1, ANSWERED_AT.replace(month=5))) is not None


def test_the_table_goes_on_afterwards(half_a_year):
    log_retention.tidy(**KEPT)
    table_writes.append("inference_log", log_rows.to_arrow(make_entries(3, answered_at=NOW)))
    version = tables.version_of("inference_log")
    assert log_retention.tidy(**KEPT).removed == 0
    assert "DELETE" not in list_operations(version)
    erasure.erase_rows("inference_log", "another")
    assert len(tables.read("inference_log")) == 15 and find_wrong() == []
    erasure.erase_rows("inference_log", "7590-VHVEG")
    assert tables.read("inference_log").empty and find_wrong() == []


def list_operations(since):
    """Operations of the commits after a version."""
    history = DeltaTable(str(tables.path_of("inference_log"))).history()
    return [entry["operation"] for entry in history if entry["version"] > since]


def test_files_that_were_replaced_stay_for_readers_of_the_moment(half_a_year):
    opened = log_retention.open_table()
    log_retention.tidy(months=13, now=NOW)
    assert len(list_files()) == 7 and opened.count_rows() == 18
    assert list_months() == [5, 6, 7, 8]


def test_a_changed_file_is_refused_and_nothing_removed(half_a_year):
    newest = max(list_files(), key=lambda path: path.stat().st_mtime_ns)
    content = newest.read_bytes()
    newest.write_bytes(content[:-1] + b"x")
    with pytest.raises(Exception, match="changed after it was written"):
        log_retention.tidy(**KEPT)
    newest.write_bytes(content)
    assert list_months() == [3, 4, 5, 6, 7, 8]


KILLED = """
import os
from datetime import UTC, datetime
from deltalake.table import DeltaTable, TableOptimizer
from churn_utils.inference import log_retention

owner = {{"delete": DeltaTable, "compact": TableOptimizer, "vacuum": DeltaTable}}["{step}"]
real = getattr(owner, "{step}")

def die(*arguments, **options):
    if "{moment}" == "after":
        real(*arguments, **options)
    os._exit(9)

setattr(owner, "{step}", die)
log_retention.tidy(13, datetime(2027, 5, 15, tzinfo=UTC), 0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", ["delete", "compact", "vacuum"])
def test_a_process_killed_meanwhile_loses_no_answer(half_a_year, step, moment):
    script = KILLED.format(step=step, moment=moment)
    root = Path(log_retention.__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", script], cwd=root, env=os.environ)
    assert ended.returncode == 9
    kept = tables.read("inference_log")
    assert len(kept[kept["answered_at"] >= "2026-05-01"]) == 12 and find_wrong() == []
    log_retention.tidy(**KEPT)
    assert list_months() == [5, 6, 7, 8] and len(list_files()) == 1 and find_wrong() == []


def test_a_home_without_answers_has_nothing_to_tidy(home):
    assert log_retention.tidy(13) == (0, 0, 0)
