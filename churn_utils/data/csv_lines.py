"""The lines of a delivered CSV file, each parsed by itself; files of other formats are refused."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from dataclasses import dataclass
from pathlib import Path

from churn_utils.errors import DataError

SEPARATOR = ","
GZIP = b"\x1f\x8b"
LARGEST_FILE_BYTES = 8 * 2**30  # when unpacked; 30 million customers
# First bytes of files that are no CSV, and what to do about them.
OTHER_FORMATS = {
    b"PK\x03\x04": "a ZIP archive or an Excel workbook; save the sheet as CSV UTF-8",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save the sheet as CSV UTF-8",
    b"\xfd7zXZ\x00": "compressed with xz; unpack it",
    b"BZh": "compressed with bzip2; unpack it",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it",
    b"PAR1": "a Parquet file; write it as CSV",
    b"%PDF": "a PDF; ask for the table as CSV",
    b"\xff\xfe": "text in UTF-16; save it as UTF-8",
    b"\xfe\xff": "text in UTF-16; save it as UTF-8",
}


@dataclass(frozen=True)
class Line:
    """A line of a CSV file.

    Attributes:
        number: in the file, from 1.
        fields: its values; of a line that is no CSV, what stands between its commas.
        damage: why it cannot be read; empty for a sound line.
    """

    number: int
    fields: list[str]
    damage: str = ""


def decode(path: Path, content: bytes) -> str:
    """Return the text of a file in UTF-8, with or without a byte order mark."""
    for first_bytes, description in OTHER_FORMATS.items():
        if content.startswith(first_bytes):
            raise DataError(f"{path} is {description}.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path} is not UTF-8: byte {error.start} in line {line} cannot be read. Save it as "
            "UTF-8."
        ) from error


def read_content(path: Path) -> bytes:
    """Return the content of a file, unpacked if it is compressed with gzip.

    Raises:
        DataError: the file cannot be opened or unpacked.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    return _unpack(path, content) if content.startswith(GZIP) else content


def _unpack(path: Path, content: bytes) -> bytes:
    """Return the content of a gzip file, refusing one that is damaged or grows too large."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            unpacked = file.read(LARGEST_FILE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} is a damaged gzip file ({error}); ask for the delivery again."
        ) from error
    if len(unpacked) > LARGEST_FILE_BYTES:
        raise DataError(f"{path} unpacks to more than {LARGEST_FILE_BYTES} bytes.")
    return unpacked


def split_lines(text: str) -> list[Line]:
    """Split a text into its lines, leaving out those that hold nothing but commas and blanks.

    Every line is parsed by itself: no field of a customer spans lines, so a quote that is left open
    damages its own line and not the rest of the file.
    """
    lines = []
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        parsed = _parse_line(number, line.rstrip("\n"))
        if any(field.strip() for field in parsed.fields):
            lines.append(parsed)
    return lines


def _parse_line(number: int, line: str) -> Line:
    """Parse one line of a CSV file."""
    if '"' not in line:
        return Line(number, line.split(SEPARATOR))
    try:
        fields = next(csv.reader([line], strict=True))
    except csv.Error as error:
        damage = f"cannot be read as CSV ({error})"
        return Line(number, line.split(SEPARATOR), damage)
    return Line(number, fields)
