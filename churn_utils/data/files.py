"""Files that others read while they are written: replaced whole, or created once."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# A spreadsheet runs text that begins so as a formula, or moves it into another cell.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file, made with its folder when missing; a killed process leaves no half of it."""
    partial = _write_partial(path, content)
    partial.replace(path)


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table, without its index, as a CSV that is safe to open in a spreadsheet.

    Text that would be a formula gets an apostrophe in front; numbers stay numbers.
    """
    safe = table.map(_neutralise)
    # With these line ends a carriage return within a field is quoted too (RFC 4180).
    write_atomically(path, safe.to_csv(index=False, lineterminator="\r\n"))


def _neutralise(value: object) -> object:
    """Return a value of which a spreadsheet makes no formula."""
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return f"'{value}"
    return value


def create_once(path: Path, content: str | bytes) -> None:
    """Create a file unless it exists; of several processes the first one's content stays."""
    if path.exists():
        return
    partial = _write_partial(path, content)
    with suppress(FileExistsError):
        os.link(partial, path)
    partial.unlink()


def delete_folder(folder: Path) -> None:
    """Delete a folder, if it is there, although other processes may still add files to it."""
    for attempts_left in range(9, -1, -1):
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            if not folder.exists():
                return
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or not attempts_left:
                raise


def identify_file(path: Path) -> tuple[int, int] | None:
    """Return (device, inode) of a file, or None if it is missing.

    The pair changes when the file is replaced while the old one is open.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _write_partial(path: Path, content: str | bytes) -> Path:
    """Write content beside its file, under a name that no other process uses.

    Raises:
        OSError: of a full disk, say; it names the file, and nothing is left of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unique = uuid.uuid4().hex
    partial = path.with_name(f"{path.name}.{unique}.partial")
    data = content.encode() if isinstance(content, str) else content
    try:
        partial.write_bytes(data)
    except OSError as error:
        partial.unlink(missing_ok=True)
        error.filename = str(path)  # a write that found no room does not say where
        raise
    return partial
