"""Origin of a training besides its rows: source file, simulation, code and packages.

Recorded as parameters of the MLflow run, and compared with what is there at a later date.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping

from churn_utils import settings
from churn_utils.data import source
from churn_utils.upstream import intake

FIELDS = ["source_sha256", "world", "code_commit", "code_sha256", "lock_sha256"]


def describe_origin() -> dict[str, str]:
    """Describe where the data came from and what code and packages run here, in plain text.

    Returns:
        ``source_sha256`` of IBM's extract as delivered (CRLF→LF), or of the list of what arrived
        where the home follows a folder of deliveries; ``world`` (the source that the months come
        from, as JSON), ``code_commit`` (with ``+changes`` when files differ
        from it), ``code_sha256`` of the package's modules, ``lock_sha256`` of
        ``requirements.lock``. What is not there is an empty text.
    """
    arrived = intake.list_path()
    delivered = arrived if arrived.exists() else settings.raw() / source.FILE_NAME
    world = settings.home() / "world.json"
    lock = settings.PROJECT / "requirements.lock"
    return {
        "source_sha256": source.digest_of(delivered.read_bytes()) if delivered.exists() else "",
        "world": world.read_text() if world.exists() else "",
        "code_commit": _describe_commit(),
        "code_sha256": hash_code(),
        "lock_sha256": source.digest_of(lock.read_bytes()) if lock.exists() else "",
    }


def list_changes(params: Mapping[str, str]) -> list[str]:
    """Return which of ``code_sha256`` and ``lock_sha256`` differ here from a run's parameters."""
    here = describe_origin()
    digests = ("code_sha256", "lock_sha256")
    return [name for name in digests if params.get(name, "") != here[name]]


def hash_code() -> str:
    """Return SHA-256 over names and contents of all modules of all folders of the package.

    It needs no git, and it covers code that was not committed.
    """
    digest = hashlib.sha256()
    package = settings.PROJECT / "churn_utils"
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        digest.update(f"{name} {source.digest_of(path.read_bytes())}\n".encode())
    return digest.hexdigest()


def _describe_commit() -> str:
    """Return the commit with ``+changes`` when files differ; empty without a repository."""
    if not (settings.PROJECT / ".git").exists():  # an installed package
        return ""
    commit = _run_git("rev-parse", "HEAD")
    if commit and _run_git("status", "--porcelain", "--", "churn_utils"):
        return f"{commit}+changes"
    return commit


def _run_git(*arguments: str) -> str:
    """Return what git prints; empty when it fails or is not installed."""
    command = ["git", *arguments]
    try:
        found = subprocess.run(
            command,
            cwd=settings.PROJECT,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
