"""Read a delivered CSV file: refuse a file of the wrong form, mark single damaged lines."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections import Counter
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from churn_utils.data.columns import COLUMNS, LABEL
from churn_utils.errors import DataError

DAMAGE = "damage"
SEPARATOR = ","
OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
# Of lines that are damaged, above which the file as a whole has the wrong form.
DAMAGED_SHARE = 0.5
LINES_SEARCHED_FOR_HEADER = 20
NAMES_SHOWN = 21  # in a message; a file of another kind may seem to have thousands of columns
LETTERS_SHOWN = 40  # of each of them
NAMES_COMPARED = 200  # with the expected ones
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
class _Line:
    """A line of a CSV file.

    Attributes:
        number: in the file, from 1.
        fields: its values; of a line that is no CSV, what stands between its commas.
        damage: why it cannot be read; empty for a sound line.
    """

    number: int
    fields: list[str]
    damage: str = ""


def read_delivery(path: Path, labelled: bool = True) -> pd.DataFrame:
    """Read a delivered CSV as text, refusing a file whose form is wrong.

    Lines that hold nothing but commas and blanks are left out. A line that is too short is filled
    up with blanks, which the contract judges. A line that cannot be read stays as a row whose
    column ``damage`` says why; ``contract.check_rows`` rejects it.

    Args:
        path: CSV in IBM's columns, plain or compressed with gzip.
        labelled: whether the label must be there; a production month has none yet.

    Returns:
        One row per data line, index ``line`` = line number in the file, columns in our names and in
        the order of ``columns.COLUMNS``, every value a string without surrounding blanks. Only if
        lines are damaged there is the column ``damage``, empty for the other lines.

    Raises:
        DataError: the file cannot be opened, is empty, no CSV, not UTF-8 or has another separator;
            missing, extra or repeated columns; no rows; or more than half of the lines damaged.
            The message says which, and what to do.
    """
    our_names = {
        column.source_name: column.name for column in COLUMNS if labelled or column.name != LABEL
    }
    return parse_table(read_content(path), path, our_names)


def parse_table(
    content: bytes, path: Path, our_names: dict[str, str], optional: dict[str, str] | None = None
) -> pd.DataFrame:
    """Read the content of a delivered CSV as ``read_delivery`` does, with columns of any names.

    Args:
        content: of the file, unpacked.
        path: how a message calls it.
        our_names: by the name in the file; the rows have these columns in this order.
        optional: likewise, for columns that may be missing.

    Raises:
        DataError: as ``read_delivery``.
    """
    lines = _split_lines(_decode(path, content))
    if not lines:
        raise DataError(f"{path} is empty; ask for the delivery again.")
    header, data = lines[0], lines[1:]
    present = {name: ours for name, ours in (optional or {}).items() if name in header.fields}
    our_names = our_names | present
    expected = list(our_names)
    _check_header(path, lines, expected)
    data = [_check_width(line, len(expected)) for line in data]
    _check_damage(path, data)
    return _build_frame(header.fields, data, our_names)


def _decode(path: Path, content: bytes) -> str:
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


def _split_lines(text: str) -> list[_Line]:
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


def _parse_line(number: int, line: str) -> _Line:
    """Parse one line of a CSV file."""
    if '"' not in line:
        return _Line(number, line.split(SEPARATOR))
    try:
        fields = next(csv.reader([line], strict=True))
    except csv.Error as error:
        damage = f"cannot be read as CSV ({error})"
        return _Line(number, line.split(SEPARATOR), damage)
    return _Line(number, fields)


def _check_header(path: Path, lines: list[_Line], expected: list[str]) -> None:
    """Refuse a file whose first line does not name the columns, and say what is wrong with it."""
    header = lines[0].fields
    if sorted(header) == sorted(expected):
        return
    cause = _find_cause(lines, expected)
    if cause:
        raise DataError(f"{path} {cause}.")
    problems = _describe_wrong_names(header, expected)
    similar = _list_similar_names(header, expected)
    raise DataError(
        f"{path} has the wrong columns: {problems}.{similar} Expected, in any order: "
        f"{', '.join(expected)}."
    )


def _describe_wrong_names(header: list[str], expected: list[str]) -> str:
    """Return which names are missing, extra and repeated in a header, and how many of each."""
    wrong = {
        "missing": [name for name in expected if name not in header],
        "extra": [repr(_shorten(name)) for name in header if name not in expected],
        "repeated": sorted(_shorten(name) for name, count in Counter(header).items() if count > 1),
    }
    problems = []
    for what, names in wrong.items():
        if names:
            problems.append(f"{len(names)} {what} ({_list_first(names)})")
    return "; ".join(problems)


def _shorten(text: str) -> str:
    """Return the beginning of a text, as much as a message can show."""
    return text if len(text) <= LETTERS_SHOWN else f"{text[:LETTERS_SHOWN]}…"


def _list_first(texts: list[str]) -> str:
    """Return texts separated by commas, as many as a message can show."""
    more = ", …" if len(texts) > NAMES_SHOWN else ""
    return ", ".join(texts[:NAMES_SHOWN]) + more


def _find_cause(lines: list[_Line], expected: list[str]) -> str:
    """Return what is wrong with a file none of whose columns is known; empty if nothing is."""
    header = lines[0].fields
    first = SEPARATOR.join(header)
    if first.lower().startswith("sep="):
        return f"starts with {_shorten(first)!r}, a line for Excel alone; delete it and keep commas"
    for separator, name in OTHER_SEPARATORS.items():
        if _names_columns(first.split(separator), expected):
            return f"is separated by {name} ({separator!r}) where commas are expected"
    if _names_columns(header, expected):
        return ""
    for line in lines[1:LINES_SEARCHED_FOR_HEADER]:
        if _names_columns(line.fields, expected):
            return f"names its columns in line {line.number}; delete the lines above it"
    if len(header) == len(expected):
        return "has no line that names the columns; put it first: " + SEPARATOR.join(expected)
    return ""


def _names_columns(fields: list[str], expected: list[str]) -> bool:
    """Tell whether at least half of the expected names are among the fields of a line."""
    known = set(expected)
    found = {field.strip().strip('"') for field in fields}
    return len(found & known) >= len(known) / 2


def _list_similar_names(header: list[str], expected: list[str]) -> str:
    """Return a sentence on the names in a header that look like missing ones."""
    missing = [name for name in expected if name not in header]
    simplified = {_simplify(name): name for name in missing}
    pairs = []
    for name in map(_shorten, header[:NAMES_COMPARED]):
        similar = get_close_matches(_simplify(name), simplified, n=1, cutoff=0.8)
        if similar and name != simplified[similar[0]]:
            pairs.append(f"{name!r} looks like {simplified[similar[0]]}")
    return f" {'; '.join(pairs)}." if pairs else ""


def _simplify(name: str) -> str:
    """Return a name without what writers vary: case, blanks, underscores, hyphens."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _check_width(line: _Line, width: int) -> _Line:
    """Return the line, called damaged if it has more fields than there are columns."""
    surplus = line.fields[width:]
    if line.damage or not surplus:
        return line
    shown = _list_first([repr(_shorten(field)) for field in surplus])
    damage = f"has {len(line.fields)} fields where {width} are expected, surplus: {shown}"
    return _Line(line.number, line.fields, damage)


def _check_damage(path: Path, data: list[_Line]) -> None:
    """Refuse a file without rows, and one with more damaged lines than sound ones."""
    if not data:
        raise DataError(f"{path} has a header but no rows; ask for the delivery again.")
    damaged = [line for line in data if line.damage]
    if len(damaged) > DAMAGED_SHARE * len(data):
        raise DataError(
            f"{len(damaged)} of {len(data)} line(s) of {path} are damaged, so its form is wrong. "
            f"Line {damaged[0].number} {damaged[0].damage}."
        )


def _build_frame(header: list[str], data: list[_Line], our_names: dict[str, str]) -> pd.DataFrame:
    """Return the lines as ``read_delivery`` does."""
    width = len(header)
    values = [line.fields[:width] + [""] * (width - len(line.fields)) for line in data]
    index = pd.Index([line.number for line in data], name="line")
    frame = pd.DataFrame(values, columns=header, index=index)
    ordered = frame[list(our_names)].rename(columns=our_names)
    rows = ordered.apply(lambda column: column.str.strip())
    damage = [line.damage for line in data]
    return rows.assign(**{DAMAGE: damage}) if any(damage) else rows
