"""API keys and the names of those who hold them."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Callable
from pathlib import Path

from churn_utils.data.files import identify_file
from churn_utils.errors import UsageError

EVERY_SECONDS = 1.0  # at most so often the file is looked at
log = logging.getLogger(__name__)


def parse_keys(entries: list[str]) -> dict[bytes, str]:
    """Return names by the SHA-256 of their keys.

    Args:
        entries: ``name:key`` each; a key without a name is called ``key 1`` after its place.

    Raises:
        UsageError: an entry without a key, or a key or name that stands there twice.
    """
    names: dict[bytes, str] = {}
    for place, entry in enumerate(entries, start=1):
        name, separator, key = entry.partition(":")
        if not separator:
            name, key = f"key {place}", entry
        name, key = name.strip(), key.strip()
        if not key or not name:
            raise UsageError(f"API key {place} has no name or no key; write name:key.")
        digest = hashlib.sha256(key.encode()).digest()
        if digest in names or name in names.values():
            raise UsageError(f"API key {place} ({name}) stands there twice, by its name or key.")
        names[digest] = name
    return names


class ApiKeys:
    """The keys that open the API: those given, and those of a file that may change."""

    def __init__(
        self,
        entries: list[str],
        file: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take keys from ``name:key`` entries and from a file with one of them a line.

        Raises:
            UsageError: the file cannot be read, holds no key, or an entry is wrong.
        """
        self._entries = entries
        self._file = Path(file) if file else None
        self._clock = clock
        self._file_seen: tuple | None = None
        self._names = parse_keys(entries)
        self._next_look = 0.0
        if self._file is not None:
            self._read_file(self._file)

    def __bool__(self) -> bool:
        """Tell whether a key is asked for."""
        return bool(self._names)

    def find_name(self, key: bytes) -> str | None:
        """Return the name of a valid key, None for any other.

        Each key is compared in constant time, so that timing shows nothing of a valid one.
        """
        self._follow_file()
        digest = hashlib.sha256(key).digest()
        found = None
        for valid, name in self._names.items():
            if hmac.compare_digest(digest, valid):
                found = name
        return found

    def _follow_file(self) -> None:
        """Read the file again if it changed; keep the keys of before if it is wrong."""
        if self._file is None or self._clock() < self._next_look:
            return
        self._next_look = self._clock() + EVERY_SECONDS
        if _describe_file(self._file) == self._file_seen:
            return
        try:
            self._read_file(self._file)
        except UsageError as error:
            log.error("the API keys of before stay valid: %s", error)
        else:
            log.info("%d API key(s) are valid after a change of their file", len(self._names))

    def _read_file(self, path: Path) -> None:
        """Take the keys of the file in place of those it held before."""
        self._file_seen = _describe_file(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the file of API keys {path} cannot be read: {error}.") from error
        lines = [line.strip() for line in text.splitlines()]
        in_file = [line for line in lines if line and not line.startswith("#")]
        if not in_file:
            raise UsageError(f"the file of API keys {path} holds no key; write name:key lines.")
        self._names = parse_keys([*self._entries, *in_file])


def _describe_file(path: Path) -> tuple:
    """Return what changes when a file is written or replaced."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return (identify_file(path), status.st_mtime_ns, status.st_size)
