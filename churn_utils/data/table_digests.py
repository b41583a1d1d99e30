"""Digests of the files of Delta tables: each commit is recorded in a ledger beside its table.

A writer holds the table's lock and leaves a note of the commit that it is about to make: if it is
killed before it records the commit, the note tells it from a commit that somebody else made. That a
table has a ledger stands in the ledger of the home.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from deltalake import DeltaTable

from churn_utils import settings
from churn_utils.data import home_ledger, integrity
from churn_utils.data.home_ledger import TABLE
from churn_utils.data.integrity import Facts
from churn_utils.errors import DataError

LEDGER, NOTE = "_digests.jsonl", "_next_commit.json"  # Delta leaves out names with an underscore
LOG = "_delta_log"


@dataclass(frozen=True)
class TableDigests:
    """What was recorded of a table.

    Attributes:
        folder: of the table.
        commits: each with ``version`` and ``files``, digest by path; the first has no files if what
            came before it was not recorded.
    """

    folder: Path
    commits: list[Facts]

    @property
    def newest(self) -> int:
        """Newest version that was recorded."""
        return self.commits[-1]["version"]

    @property
    def unrecorded(self) -> int:
        """Newest version of before digests were kept; -1 if all were recorded."""
        first = self.commits[0]
        return -1 if first["files"] else first["version"]

    @property
    def files(self) -> dict[str, str]:
        """Digest of each file by its path, log included."""
        return {name: digest for commit in self.commits for name, digest in commit["files"].items()}

    def check_files(self, names: Iterable[str]) -> None:
        """Check that files are as they were written.

        Raises:
            DataError: one was changed, is missing, or was written by somebody else.
        """
        recorded = self.files
        for name in names:
            self._check_file(name, recorded, may_be_unrecorded=self.unrecorded >= 0)

    def check_log(self, version: int) -> None:
        """Check the part of the log that tells which files a version has.

        Raises:
            DataError: as ``check_files``.
        """
        recorded = self.files
        known = {Path(name).name for name in recorded if name.startswith(LOG)}
        present = _list_log(self.folder)
        start = _find_checkpoint(present, version)
        for name in sorted(known | present):
            number = _version_of(Path(name))
            if start <= number <= version:
                may_be_unrecorded = number <= self.unrecorded
                self._check_file(f"{LOG}/{name}", recorded, may_be_unrecorded)
            elif number > version and name not in present:
                raise DataError(f"commit {number} of {self.folder} is missing. {RESTORE}")

    def _check_file(self, name: str, recorded: dict[str, str], may_be_unrecorded: bool) -> None:
        path = self.folder / name
        if name not in recorded and may_be_unrecorded:
            integrity.accept_unrecorded(str(path))
        elif name not in recorded:
            raise DataError(f"{path} was not written by this project. {RESTORE}")
        elif not path.exists():
            raise DataError(f"{path} is missing. {RESTORE}")
        elif integrity.hash_file(path) != recorded[name]:
            raise DataError(f"{path} was changed after it was written. {RESTORE}")


RESTORE = "Restore the table from a copy; `python -m churn_utils verify` lists what else differs."


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
        log = [f"{LOG}/{name}" for name in _list_log(folder)]
        names = {*log, *(unquote(path) for path in delta.get_add_actions()["path"].to_pylist())}
        if names - recorded:
            _append(folder, delta.version(), sorted(names - recorded))


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
    path = _path_of_commit(folder, last["version"] + 1)
    if path.exists():
        raise DataError(f"{path} was not written by this project. {RESTORE}")


def _record_from(folder: Path, version: int) -> None:
    """Record the commits from a version on."""
    last = integrity.read_last(folder / LEDGER)
    if last is None and version > 0 and _path_of_commit(folder, version).exists():
        _append(folder, version - 1, [])  # these are not recorded
    while (path := _path_of_commit(folder, version)).exists():
        if last is None or last["version"] < version:
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
    added = [_path_added(action) for action in actions]
    names = [unquote(path) for path in added if path]
    if not any(_is_restore(action) for action in actions):
        return names
    return _leave_out_known(folder, names)


def _leave_out_known(folder: Path, names: list[str]) -> list[str]:
    """Return the names of files whose digests are not recorded yet."""
    known: set[str] = set()
    for entry in _read(folder):
        known.update(entry["files"])
    return [name for name in names if name not in known]


def _path_added(action: Facts) -> str:
    """Return the path of the file of data or of changes that an action adds; empty for others."""
    found = action.get("add") or action.get("cdc")
    return found["path"] if found else ""


def _is_restore(action: Facts) -> bool:
    return action.get("commitInfo", {}).get("operation") == "RESTORE"


def _list_log(folder: Path) -> set[str]:
    """Return the names of the commits and checkpoints of a table."""
    return {path.name for path in (folder / LOG).iterdir() if path.name[0].isdigit()}


def _find_checkpoint(names: set[str], version: int) -> int:
    """Return the version of the newest checkpoint up to a version; 0 if there is none."""
    checkpoints = [_version_of(Path(name)) for name in names if ".checkpoint" in name]
    return max((found for found in checkpoints if found <= version), default=0)


def _path_of_commit(folder: Path, version: int) -> Path:
    return folder / LOG / f"{version:020}.json"


def _version_of(path: Path) -> int:
    return int(path.name.split(".")[0])
