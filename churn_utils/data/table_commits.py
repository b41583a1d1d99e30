"""Record the commits to Delta tables: digests of their files, in a ledger beside each table.

A writer holds the table's lock and leaves a note of the commit that it is about to make: if it is
killed before it records the commit, the note tells it from a commit that somebody else made. That a
table has a ledger stands in the ledger of the home.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import unquote

from deltalake import DeltaTable

from churn_utils import settings
from churn_utils.data import home_ledger, integrity
from churn_utils.data.home_ledger import TABLE
from churn_utils.data.integrity import Facts
from churn_utils.data.table_digests import RESTORE, TableDigests
from churn_utils.data.table_log import (
    LOG,
    is_restore,
    list_log,
    path_added,
    path_of_commit,
)
from churn_utils.errors import DataError

LEDGER = "_digests.jsonl"  # Delta leaves out names with an underscore
NOTE = "_next_commit.json"


def read_digests(folder: Path, version: int) -> TableDigests | None:
    """Return what was recorded of a table up to a version that was found there.

    Returns:
        None if the table is of before digests were kept.

    Raises:
        DataError: the ledger was changed or is missing, or a commit was not recorded.
    """
    commits = _read(folder)
    is_behind = not commits or commits[-1]["version"] < version
    if is_behind and ((folder / LEDGER).exists() or (folder / NOTE).exists()):
        with _hold(folder):  # until a writer has recorded its commit
            _settle(folder)
            commits = _read(folder)
    if commits:
        return TableDigests(folder, commits)
    if _is_announced(folder):
        raise DataError(f"{folder / LEDGER}, which holds the digests, is missing. {RESTORE}")
    integrity.accept_unrecorded(f"table {folder.name}")
    return None


@contextmanager
def hold_commits(folder: Path) -> Iterator[None]:
    """Keep other processes from committing to a table, and record what a killed one committed.

    Raises:
        DataError: a commit stands that was not announced, another process does not end, or the
            table is signed and there is no key.
    """
    with _hold(folder):
        integrity.check_key(folder / LEDGER, settings.ledger())
        _settle(folder)
        yield


@contextmanager
def record_commits(folder: Path) -> Iterator[None]:
    """Record what is committed to a table within; the caller holds it with ``hold_commits``."""
    following = _find_newest(folder) + 1
    integrity.append_facts(folder / NOTE, {"version": following})
    try:
        yield
    finally:
        _record_from(folder, following)
        (folder / NOTE).unlink()


@contextmanager
def record_rewriting(folder: Path) -> Iterator[None]:
    """Record the new digests of files of a table that are written again within, under their names.

    If the process is killed the table is refused until this was done again.

    Raises:
        DataError: as ``hold_commits``.
    """
    with hold_commits(folder):
        yield
        commits = _read(folder)
        if not commits:
            return
        digests = TableDigests(folder, commits)
        present = {name: found for name, found in digests.files.items() if (folder / name).exists()}
        now = {name: integrity.hash_file(folder / name) for name in present}
        changed = [name for name, found in present.items() if now[name] != found]
        if changed:
            _append(folder, digests.newest, changed)


def adopt(folder: Path) -> None:
    """Record the files of a table that are not recorded; sign all if there is a key.

    Raises:
        DataError: what is recorded is not whole.
    """
    for path in (folder / LEDGER, folder / NOTE):
        integrity.sign_ledger(path)
    with hold_commits(folder):
        recorded = {name for commit in _read(folder) for name in commit["files"]}
        delta = DeltaTable(str(folder))
        log = [f"{LOG}/{name}" for name in list_log(folder)]
        paths = delta.get_add_actions()["path"].to_pylist()
        names = {*log, *map(unquote, paths)}
        new = names - recorded
        if new:
            _append(folder, delta.version(), sorted(new))


def _read(folder: Path) -> list[Facts]:
    return integrity.read_ledger(folder / LEDGER)


def _hold(folder: Path) -> AbstractContextManager[None]:
    return integrity.hold(folder.with_suffix(".lock"))


def _find_newest(folder: Path) -> int:
    """Return the newest version, -1 without a table.

    The ledger says so without opening the table, which takes longer the more commits it has.
    """
    last = integrity.read_last(folder / LEDGER)
    if last is not None:
        return last["version"]
    return DeltaTable(str(folder)).version() if DeltaTable.is_deltatable(str(folder)) else -1


def _settle(folder: Path) -> None:
    """Record the commit of a process that was killed before it could; the caller holds the lock.

    Raises:
        DataError: there is a commit that no process of this project announced.
    """
    for note in integrity.read_ledger(folder / NOTE):
        _record_from(folder, note["version"])
    (folder / NOTE).unlink(missing_ok=True)
    last = integrity.read_last(folder / LEDGER)
    if last is None:
        return
    path = path_of_commit(folder, last["version"] + 1)
    if path.exists():
        raise DataError(f"{path} was not written by this project. {RESTORE}")


def _record_from(folder: Path, version: int) -> None:
    """Record the commits from a version on."""
    last = integrity.read_last(folder / LEDGER)
    if last is None and version > 0 and path_of_commit(folder, version).exists():
        _append(folder, version - 1, [])  # these are not recorded
    while (path := path_of_commit(folder, version)).exists():
        is_recorded = last is not None and version <= last["version"]
        if not is_recorded:
            written = _list_written(folder, path)
            checkpoints = path.parent.glob(f"{version:020}.checkpoint*.parquet")
            log = [f"{LOG}/{found.name}" for found in (path, *checkpoints)]
            _append(folder, version, [*written, *log])
        version += 1


def _append(folder: Path, version: int, names: list[str]) -> None:
    """Append the digests of a commit; the first one of a table is announced to the home."""
    ledger = folder / LEDGER
    if not ledger.exists() and not _is_announced(folder):
        home_ledger.record(TABLE, 0, folder.name)
    digests = {name: integrity.hash_file(folder / name) for name in names}
    integrity.append_facts(ledger, {"version": version, "files": digests})


def _is_announced(folder: Path) -> bool:
    """Tell whether the home's ledger says that a table has a ledger."""
    return home_ledger.find(home_ledger.read_entries(), TABLE, 0, folder.name) is not None


def _list_written(folder: Path, commit: Path) -> list[str]:
    """Return the paths of the files that a commit added; those of a restore keep their digests."""
    actions = [json.loads(line) for line in commit.read_text().splitlines()]
    added = [path_added(action) for action in actions]
    names = [unquote(path) for path in added if path]
    if not any(is_restore(action) for action in actions):
        return names
    return _leave_out_known(folder, names)


def _leave_out_known(folder: Path, names: list[str]) -> list[str]:
    """Return the names of files whose digests are not recorded yet."""
    known: set[str] = set()
    for entry in _read(folder):
        known.update(entry["files"])
    return [name for name in names if name not in known]
