"""Digests of the files of a Delta table, and whether the files still have them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from churn_utils.data import integrity
from churn_utils.data.integrity import Facts
from churn_utils.data.table_log import (
    LOG,
    find_checkpoint,
    list_log,
    version_of_file,
)
from churn_utils.errors import DataError

RESTORE = "Restore the table from a copy; `python -m churn_utils verify` lists what else differs."


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
        digests: dict[str, str] = {}
        for commit in self.commits:
            digests |= commit["files"]
        return digests

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
        present = list_log(self.folder)
        start = find_checkpoint(present, version)
        for name in sorted(known | present):
            number = version_of_file(name)
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
