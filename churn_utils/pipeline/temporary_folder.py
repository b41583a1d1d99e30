"""The temporary folder of a run: one for it and its children, deleted even after a kill."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from multiprocessing.util import Finalize
from pathlib import Path

from churn_utils import settings
from churn_utils.data.files import delete_folder, write_atomically
from churn_utils.pipeline.stopping import ending

PREFIX = "churn-"
RECORD = "pipeline/temporary_folder"  # of the home: the path of the folder of the run in it


@contextmanager
def use_own_temporary_folder() -> Iterator[None]:
    """Keep all temporary files of a run in one folder, and delete that of a run that was killed.

    The folder is not in the home, whose path may be too long for the sockets in it.
    """
    record = settings.home() / RECORD
    if record.exists():
        _delete(Path(record.read_text()))
    write_atomically(record, str(_make_folder()))
    try:
        yield
    finally:
        record.unlink(missing_ok=True)


@cache
def _make_folder() -> Path:
    """Make the folder, once in a process, and have it used by this process and its children."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    ending.cleanups.append(partial(_delete, folder))
    # After multiprocessing has deleted its own folder in this one, which has priority -100.
    Finalize(None, _delete, args=(folder,), exitpriority=-200)
    return folder


def _delete(folder: Path) -> None:
    if folder.name.startswith(PREFIX):  # a record may have been edited
        with suppress(OSError):  # a child that is ending may still add files; the next run deletes
            delete_folder(folder)
