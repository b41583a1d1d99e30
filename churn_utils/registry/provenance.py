"""What a training is made from besides its rows: source file, code, packages; recorded with it and compared later."""

from __future__ import annotations

import hashlib
import subprocess

from churn_utils import settings
from churn_utils.data import source

FIELDS = ["source_sha256", "world", "code_commit", "code_sha256", "lock_sha256"]


def describe_origin() -> dict[str, str]:
    """Describe where the data came from and what code and packages run here, in plain text.

    Returns:
        ``source_sha256`` of IBM's extract as delivered (CRLF→LF), ``world`` that the later months were simulated in,
        ``code_commit`` (with ``+changes`` when files differ from it), ``code_sha256`` of the package's modules,
        ``lock_sha256`` of ``requirements.lock``. What is not there is an empty text.
    """
    delivered, world = settings.raw() / source.FILE_NAME, settings.home() / "world.json"
    lock = settings.PROJECT / "requirements.lock"
    return {
        "source_sha256": source.digest_of(delivered.read_bytes()) if delivered.exists() else "",
        "world": world.read_text() if world.exists() else "",
        "code_commit": _commit(),
        "code_sha256": hash_code(),
        "lock_sha256": source.digest_of(lock.read_bytes()) if lock.exists() else "",
    }


def hash_code() -> str:
    """SHA-256 over names and contents of the package's modules: says the same without git, and of uncommitted code."""
    digest = hashlib.sha256()
    package = settings.PROJECT / "churn_utils"
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        digest.update(f"{name} {source.digest_of(path.read_bytes())}\n".encode())
    return digest.hexdigest()


def _commit() -> str:
    if not (
        settings.PROJECT / ".git"
    ).exists():  # an installed package, or a folder without history
        return ""
    commit = _git("rev-parse", "HEAD")
    return (
        f"{commit}+changes"
        if commit and _git("status", "--porcelain", "--", "churn_utils")
        else commit
    )


def _git(*arguments: str) -> str:
    try:
        found = subprocess.run(
            ["git", *arguments],
            cwd=settings.PROJECT,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):  # no git here: the digest of the code still tells
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
