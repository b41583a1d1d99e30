"""The log of a Delta table: its files, and which files a commit added."""

from __future__ import annotations

from pathlib import Path

from churn_utils.data.integrity import Facts

LOG = "_delta_log"


def path_added(action: Facts) -> str:
    """Return the path of the file of data or of changes that an action adds; empty for others."""
    found = action.get("add") or action.get("cdc")
    return found["path"] if found else ""


def is_restore(action: Facts) -> bool:
    """Tell whether an action says that its commit restored an earlier version."""
    return action.get("commitInfo", {}).get("operation") == "RESTORE"


def list_log(folder: Path) -> set[str]:
    """Return the names of the commits and checkpoints of a table."""
    names = {path.name for path in (folder / LOG).iterdir()}
    return {name for name in names if name[0].isdigit()}


def find_checkpoint(names: set[str], version: int) -> int:
    """Return the version of the newest checkpoint up to a version; 0 if there is none."""
    checkpoints = [version_of_file(name) for name in names if ".checkpoint" in name]
    usable = [found for found in checkpoints if found <= version]
    return max(usable, default=0)


def path_of_commit(folder: Path, version: int) -> Path:
    """Return the file of the log that holds the commit of a version."""
    return folder / LOG / f"{version:020}.json"


def version_of_file(name: str) -> int:
    """Return the version that the name of a file of the log begins with."""
    number, *_ = name.split(".")
    return int(number)
