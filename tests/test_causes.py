"""What a disk, a file, a limit or a terminal does ends in one line with the remedy."""

import errno
import io
import os
import resource
import sqlite3
import sys

import pandas as pd
import pytest

import run_all
from churn_utils import cli, settings
from churn_utils.data import table_writes, tables
from churn_utils.errors import DataError
from churn_utils.pipeline import state
from churn_utils.pipeline.plan import DONE, FAILED, WRONG_USAGE
from churn_utils.simulation.scenarios import Simulation
from churn_utils.upstream import months


def failure(number):
    return OSError(number, os.strerror(number), "/some/home/file")


CAUSES = [
    (failure(errno.EACCES), "/some/home/file: Permission denied; make it writable"),
    (failure(errno.EROFS), "Read-only file system; make it writable"),
    (failure(errno.ENOSPC), "No space left on device; free some space"),
    (failure(errno.EFBIG), "File too large; free some space"),
    (failure(errno.EMFILE), "Too many open files; allow more open files"),
    (MemoryError(), "there is not enough memory; close other programs"),
    (sqlite3.DatabaseError("file is not a database"), "a database of this home cannot be used"),
]


DAMAGED = "{}.*(is missing|was changed|cannot be read).*(copy|--fresh)"


def call(arguments, capsys):
    """Call the main program; returns exit code and the one line that it said."""
    code = run_all.main(arguments)
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and said.startswith("run_all.py: ")
    return code, said


def raise_from(error):
    def fail(*arguments, **options):
        try:
            raise error
        except type(error) as cause:
            raise RuntimeError("a library's own words") from cause

    return fail


@pytest.mark.parametrize(("error", "message"), CAUSES)
def test_cause_and_remedy_are_one_line(home, monkeypatch, capsys, error, message):
    monkeypatch.setattr(run_all, "make_plan", raise_from(error))
    code, said = call([], capsys)
    assert code == FAILED and message in said
    monkeypatch.setattr(cli, "enter_home", raise_from(error))
    assert cli.main(["audit"]) == cli.REFUSED
    assert message in capsys.readouterr().err


def test_fault_of_ours_keeps_its_traceback(home, monkeypatch):
    monkeypatch.setattr(run_all, "make_plan", raise_from(KeyError("lost")))
    with pytest.raises(RuntimeError):
        run_all.main([])
    monkeypatch.setattr(cli, "enter_home", raise_from(KeyError("lost")))
    with pytest.raises(RuntimeError):
        cli.main(["audit"])


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"stages": 3}'])
def test_damaged_state_is_named(home, capsys, content):
    (home / "pipeline").mkdir(parents=True)
    (home / state.STATE_FILE).write_bytes(content)
    code, said = call([], capsys)
    assert code == FAILED and str(home / state.STATE_FILE) in said and "--fresh" in said


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_damaged_scenario_of_a_home_is_named(home, content):
    home.mkdir()
    (home / "world.json").write_bytes(content)
    with pytest.raises(DataError, match=r"world\.json.* is empty or damaged.*--fresh"):
        months.bind_home(Simulation())


@pytest.mark.parametrize("variable", ["CHURN_HOME", "CHURN_REPORTS"])
def test_file_in_place_of_a_folder_is_named(patched_pipeline, capsys, tmp_path, variable):
    path = tmp_path / "a file"
    path.touch()
    option = {"CHURN_HOME": "--home", "CHURN_REPORTS": "--reports"}[variable]
    code, said = call([option, str(path)], capsys)
    assert code == FAILED and str(path) in said


def test_too_few_open_files_are_refused_or_raised(home, monkeypatch, capsys):
    raised = []
    monkeypatch.setattr(run_all, "run_with_progress", lambda plan: DONE)
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: raised.append(limits))
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (64, 64))
    code, said = call([], capsys)
    assert code == FAILED and "only 64 files may be open at once; allow more" in said
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (64, 4096))
    assert run_all.main([]) == DONE and raised == [(256, 4096)]


def test_ascii_terminal_shows_question_marks(home, monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert run_all.main(["--list"]) == DONE
    terminal.flush()
    assert b"? 00_overview" in terminal.buffer.getvalue()


@pytest.mark.parametrize("content", [None, b"", b"PAR1"])
def test_missing_or_torn_file_of_a_table_is_named(home, content):
    month = settings.month_start(1)
    rows = pd.DataFrame({"customer_id": ["a"], "snapshot_date": month, "churned": [1]})
    table_writes.merge("churn_labels", rows)
    (path,) = tables.path_of("churn_labels").rglob("*.parquet")
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    for use in (
        lambda: tables.read("churn_labels"),
        lambda: table_writes.merge("churn_labels", rows.assign(churned=0)),
    ):
        with pytest.raises(DataError, match=DAMAGED.format("churn_labels")):
            use()


def test_torn_log_of_a_table_is_named(home):
    table_writes.merge(
        "decisions", pd.DataFrame({"as_of_date": [settings.month_start(1)], "x": [1]})
    )
    (path,) = tables.path_of("decisions").rglob("*.json")
    path.write_text('{"add": {')
    with pytest.raises(DataError, match=DAMAGED.format("decisions")):
        tables.read("decisions")


def test_stage_of_an_empty_home_names_what_it_needs(home, capsys):
    code, said = call(["--only", "02"], capsys)
    assert code == WRONG_USAGE and "needs 01_feature_engineering" in said
