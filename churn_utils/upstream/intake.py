"""What of a folder of deliveries arrived when: a list with digests, and a copy of every file.

A month is run again when a stage is repeated, and must then get what arrived at it the first time,
although files of the folder may have been corrected since. The newest month is open until the next
one has come: a file that is new or was changed arrives with it, and afterwards with the next.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from churn_utils import settings
from churn_utils.data.files import write_atomically
from churn_utils.errors import DataError
from churn_utils.upstream.folder import (
    CUSTOMERS,
    ONE_MONTH,
    DeliveredFile,
    digest_of,
    parse,
    read_as_csv,
)

FOLDER = "deliveries"  # in the home
MONTH = "%Y-%m"


class Entry(BaseModel):
    """A file that arrived.

    Attributes:
        as_of: month at which it arrived, such as ``2026-02``.
        kind: ``customers``, ``labels`` or ``offers``.
        month: that it describes.
        name: in the folder of deliveries, such as ``2026-02/customers``.
        sha256: of the file as it was delivered.
    """

    model_config = ConfigDict(frozen=True)

    as_of: str
    kind: str
    month: str
    name: str
    sha256: str

    @property
    def copy_path(self) -> Path:
        """Where the home keeps its content, as CSV."""
        name = f"{self.kind}-{self.month}-{self.sha256[:12]}.csv"
        return settings.home() / FOLDER / self.as_of / name


ENTRIES = TypeAdapter(list[Entry])


def read_entries() -> list[Entry]:
    """Return what arrived in this home, in the order of the months.

    Raises:
        DataError: the list is empty or damaged.
    """
    path = list_path()
    if not path.exists():
        return []
    try:
        return ENTRIES.validate_json(path.read_bytes())
    except ValidationError as error:
        raise DataError(
            f"{path}, which says what of the deliveries arrived when, is empty or damaged: restore "
            "it from a copy, or start again with run_all.py --fresh."
        ) from error


def list_path() -> Path:
    """Return the file that lists what arrived."""
    return settings.home() / FOLDER / "arrived.json"


def plan_entries(files: list[DeliveredFile], until: pd.Timestamp) -> list[Entry]:
    """Return what arrives at the months up to a date: what arrived, and what is new since.

    A file arrives at the first month that is open and at which it may be read, again when its
    content is another than the last that arrived.
    """
    arrived = read_entries()
    opened = _find_open_month(arrived, files, until)
    entries = [entry for entry in arrived if pd.Timestamp(entry.as_of) < opened]
    for month in pd.date_range(opened, max(opened, until), freq="MS"):
        as_of = f"{month:{MONTH}}"
        before = {entry.name: entry.sha256 for entry in entries}
        arriving = {entry.name: entry for entry in arrived if entry.as_of == as_of}
        for file in files:
            if f"{file.arrives:{MONTH}}" > as_of:
                continue
            sha256 = digest_of(file.path)
            if before.get(file.name) != sha256:
                arriving[file.name] = Entry(
                    as_of=as_of,
                    kind=file.kind,
                    month=f"{file.month:{MONTH}}",
                    name=file.name,
                    sha256=sha256,
                )
        entries += sorted(arriving.values(), key=lambda entry: entry.name)
    return entries


def _find_open_month(
    arrived: list[Entry], files: list[DeliveredFile], until: pd.Timestamp
) -> pd.Timestamp:
    """Return the newest month that arrived, or the one after it if that has come."""
    customers = {file.folder for file in files if file.kind == CUSTOMERS}
    if not arrived:
        return min(customers, default=until)
    newest = pd.Timestamp(max(entry.as_of for entry in arrived))
    following = newest + ONE_MONTH
    return following if following in customers else newest


def copy_files(entries: list[Entry], as_of: pd.Timestamp, files: list[DeliveredFile]) -> None:
    """Copy the files that arrive at a month into the home.

    Every file is read before anything is kept, so a file of the wrong form leaves no trace.

    Raises:
        DataError: a file of the wrong form, or one that is being written.
    """
    paths = {file.name: file.path for file in files}
    arriving = [entry for entry in entries if entry.as_of == f"{as_of:{MONTH}}"]
    contents = {}
    for entry in arriving:
        if entry.copy_path.exists():
            continue
        path = paths[entry.name]
        content = read_as_csv(path)
        if digest_of(path) != entry.sha256:
            raise DataError(f"{path} changed while it was read; run again once it is complete.")
        parse(entry.kind, content, path)
        contents[entry] = content
    for entry, content in contents.items():
        write_atomically(entry.copy_path, content)


def record(entries: list[Entry]) -> None:
    """Record what arrived up to a month that has been taken in; what came after it stays."""
    last = max((entry.as_of for entry in entries), default="")
    later = [entry for entry in read_entries() if entry.as_of > last]
    content = ENTRIES.dump_json([*entries, *later], indent=1)
    if entries and (not list_path().exists() or list_path().read_bytes() != content):
        write_atomically(list_path(), content)


def read_copy(entry: Entry) -> pd.DataFrame:
    """Return the rows of a file that arrived, as ``folder.parse`` returns them.

    Raises:
        DataError: the copy is gone or damaged.
    """
    path = entry.copy_path
    return parse(entry.kind, read_as_csv(path), path)
