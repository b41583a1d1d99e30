"""Name the cause of an error that a disk, a file, a limit or a terminal has caused."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys

from churn_utils.errors import ChurnError

LEAST_FILES = 256  # that a run must be allowed to hold open; with fewer its kernels die unexplained
NOT_WRITABLE = "make it writable for this user, or name another folder (--home, --reports)"
NO_FOLDER = "a file is where a folder should be: move it away, or name another folder"
NO_ROOM = "free some space there, then run the same again"
TOO_MANY_FILES = "allow more open files (ulimit -n 1024), then run the same again"
NO_MEMORY = "close other programs or raise the limit (ulimit -v), then run the same again"
REMEDIES = {
    errno.EACCES: NOT_WRITABLE,
    errno.EPERM: NOT_WRITABLE,
    errno.EROFS: NOT_WRITABLE,
    errno.ENOTDIR: NO_FOLDER,
    errno.EEXIST: NO_FOLDER,
    errno.EISDIR: "a folder is where a file should be: move it away",
    errno.ENOSPC: NO_ROOM,
    errno.EDQUOT: NO_ROOM,
    errno.EFBIG: NO_ROOM,
    errno.EMFILE: TOO_MANY_FILES,
    errno.ENFILE: TOO_MANY_FILES,
    errno.ENOMEM: NO_MEMORY,
    errno.EAGAIN: NO_MEMORY,
}


def explain_error(error: BaseException) -> str | None:
    """Return cause and remedy of an error in one line; None for one that may be a fault of ours.

    The errors that this one was raised from are looked at too: libraries wrap those of the system.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            return f"there is not enough memory; {NO_MEMORY}."
        if isinstance(cause, OSError) and cause.errno in REMEDIES:
            place = f"{cause.filename}: " if cause.filename else ""
            return f"{place}{cause.strerror}; {REMEDIES[cause.errno]}."
        if isinstance(cause, sqlite3.DatabaseError):
            return f"a database of this home cannot be used: {cause}; restore it from a copy."
        cause = cause.__cause__ or cause.__context__
    return None


def print_cause(error: Exception, prefix: str) -> bool:
    """Print cause and remedy of an error on standard error; False if it may be a fault of ours."""
    cause = explain_error(error)
    if cause is None:
        return False
    print(f"{prefix}: {cause}", file=sys.stderr)
    return True


def check_open_files() -> None:
    """Check that a run may open enough files; raise the limit where the system allows.

    Raises:
        ChurnError: it does not.
    """
    if os.name != "posix":
        return
    import resource  # not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= LEAST_FILES:
        return
    if hard != resource.RLIM_INFINITY and hard < LEAST_FILES:
        raise ChurnError(f"only {hard} files may be open at once; {TOO_MANY_FILES}.")
    resource.setrlimit(resource.RLIMIT_NOFILE, (LEAST_FILES, hard))


def print_what_the_terminal_can() -> None:
    """Write a question mark for what an ASCII terminal cannot show, instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # both are text files
