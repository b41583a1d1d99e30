"""Ledgers: files of facts in which an edited, dropped or inserted line shows.

Each line holds the digest of the line before it. With ``CHURN_SIGNING_KEY`` each is also signed
(HMAC-SHA256), so that no line can be made without the key. A cut end shows only where other facts
refer to it; docs/reliability.md says what stays open.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import AcquireReturnProxy, FileLock, Timeout

from churn_utils import settings
from churn_utils.data.files import write_atomically
from churn_utils.errors import DataError

WAIT_SECONDS = 60.0  # for another process that writes the same ledger or table
FIRST = "0" * 64  # what the first line names as the digest before it
TAIL_BYTES = 1 << 16
Facts = dict[str, Any]


def hash_text(text: str) -> str:
    """Return the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def spread_text(text: str) -> float:
    """Return a number from 0 to 1 that follows from a text and is spread evenly over texts."""
    return int(hash_text(text)[:8], 16) / 2**32


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def accept_unrecorded(what: str) -> None:
    """Let pass what has no digest because it was written before digests were kept.

    Raises:
        DataError: there is a key, so that all that is used must be signed.
    """
    if settings.signing_key():
        raise DataError(
            f"{what} was written before digests were kept, so nothing signs it. If you trust this "
            "home as it is, run `python -m churn_utils verify --adopt`."
        )


@contextmanager
def hold(path: Path, wait_seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """Hold a lock file, made with its folder when missing; a thread that holds it may again.

    What waits for the lock keeps a second one meanwhile, its turn, for which all others wait: a
    process that releases the lock and asks for it again at once comes after it.

    Raises:
        DataError: others have held it for so long.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, is_singleton=True)
    try:
        held = lock.acquire() if lock.is_locked else _wait_for(lock, path, wait_seconds)
    except Timeout as error:
        raise DataError(
            f"another process has been changing {path.name.split('.')[0]} in {path.parent} for "
            f"{wait_seconds:.0f} s: nothing was written here; look at what it did, then try again."
        ) from error
    with held:
        yield


def _wait_for(lock: FileLock, path: Path, seconds: float) -> AcquireReturnProxy:
    """Acquire a lock that this thread does not hold, in turn."""
    end = time.monotonic() + seconds
    with FileLock(turn_of(path), is_singleton=True).acquire(timeout=seconds):
        return lock.acquire(timeout=max(0.0, end - time.monotonic()))


def turn_of(path: Path) -> Path:
    """Return the lock file that is held while its holder waits for another one."""
    return path.with_name(f"{path.stem}.turn{path.suffix}")


def read_ledger(path: Path, is_adopted: bool = False) -> list[Facts]:
    """Return the facts of a ledger in their order; none if there is no such file.

    Args:
        path: of the ledger.
        is_adopted: take it as it is if it is not signed.

    Raises:
        DataError: a line was edited, dropped or inserted, or is not signed with the key.
    """
    if not path.exists():
        return []
    found = []
    before = FIRST
    lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last line break is half a line
    for number, line in enumerate(lines, start=1):
        facts, before = _check_line(line, before, f"line {number} of {path}", is_adopted)
        found.append(facts)
    return found


def read_last(path: Path) -> Facts | None:
    """Return the last facts of a ledger without checking those before; None if there are none.

    Raises:
        DataError: the last line is no line of a ledger.
    """
    if not path.exists():
        return None
    with path.open("rb") as file:
        line = _read_last_line(file)
    return _parse_last(line, path)["facts"] if line else None


def describe_end(path: Path) -> str:
    """Return the number of lines of a ledger, the digest of the last, and whether it is signed."""
    if not path.exists():
        return "none"
    lines = path.read_text().splitlines()
    last = json.loads(lines[-1])
    signed = "signed" if "signature" in last else "not signed"
    return f"{len(lines)} lines, {signed}, the last is {last['sha256']}"


def append_facts(path: Path, facts: Facts) -> None:
    """Append facts to a ledger, made when missing; the caller holds its lock.

    Raises:
        DataError: the last line is no line of a ledger, or it is signed and there is no key.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        _cut_half_line(file)
        last = _read_last_line(file)
        _check_key(last, path)
        before = _parse_last(last, path)["sha256"] if last else FIRST
        file.write(make_line(facts, before).encode() + b"\n")


def _cut_half_line(file) -> None:
    """Cut what a killed process left of a line."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - TAIL_BYTES))
    tail = file.read()
    file.truncate(end - len(tail) + tail.rfind(b"\n") + 1)


def _read_last_line(file) -> bytes:
    """Return the last line, without its line break; empty if there is none."""
    end = file.seek(0, os.SEEK_END)
    size = TAIL_BYTES
    while True:
        start = max(0, end - size)
        file.seek(start)
        lines = file.read().split(b"\n")
        if len(lines) > 2 or start == 0:
            return lines[-2] if len(lines) > 1 else b""
        size *= 2


def check_key(*paths: Path) -> None:
    """Check that ledgers, where there are any, may be written by this process.

    Raises:
        DataError: one is signed and there is no key.
    """
    for path in filter(Path.exists, paths):
        with path.open("rb") as file:
            _check_key(_read_last_line(file), path)


def _check_key(line: bytes, path: Path) -> None:
    if b'"signature":' in line and not settings.signing_key():
        raise DataError(f"{path} is signed; set CHURN_SIGNING_KEY to write in this home.")


def _parse_last(line: bytes, path: Path) -> Facts:
    """Return the last line of a ledger as it stands there: facts, digests and signature."""
    try:
        entry = json.loads(line)
        return {"facts": dict(entry["facts"]), "sha256": str(entry["sha256"])}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"the last line of {path} was edited. Restore the home from a copy."
        ) from error


def make_line(facts: Facts, before: str) -> str:
    """Return facts as a line that follows the line with the digest ``before``."""
    digest = _chain(facts, before)
    entry = {"facts": facts, "previous": before, "sha256": digest}
    if key := settings.signing_key():
        entry["signature"] = _sign(digest, key)
    return _as_text(entry)


def _check_line(
    line: bytes, before: str, where: str, is_adopted: bool = False
) -> tuple[Facts, str]:
    """Return the facts and the digest of a line that follows the digest ``before``."""
    try:
        entry = json.loads(line)
        facts, digest, signature = entry["facts"], entry["sha256"], entry.get("signature", "")
        is_sound = entry["previous"] == before and digest == _chain(facts, before)
    except (ValueError, KeyError, TypeError, AttributeError):
        is_sound = False
    if not is_sound:
        raise DataError(
            f"{where} was edited, or a line before it was dropped: what it protects cannot be "
            "trusted. Restore the home from a copy."
        )
    key = settings.signing_key()
    if key and not is_adopted and not hmac.compare_digest(signature, _sign(digest, key)):
        raise DataError(
            f"{where} is not signed with the key in CHURN_SIGNING_KEY. If the key is right and you "
            "trust this home as it is, run `python -m churn_utils verify --adopt`."
        )
    return facts, digest


def sign_ledger(path: Path) -> None:
    """Sign a ledger whose chain is whole with the key of this process, if there are both."""
    if not path.exists() or not settings.signing_key():
        return
    before, lines = FIRST, []
    for facts in read_ledger(path, is_adopted=True):
        lines.append(make_line(facts, before))
        before = _chain(facts, before)
    write_atomically(path, "".join(f"{line}\n" for line in lines))


def _chain(facts: Facts, before: str) -> str:
    return hash_text(f"{before}\n{_as_text(facts)}")


def _sign(digest: str, key: str) -> str:
    return hmac.new(key.encode(), digest.encode(), "sha256").hexdigest()


def _as_text(facts: Facts) -> str:
    return json.dumps(facts, sort_keys=True, separators=(",", ":"))
