"""Read a delivered CSV file: refuse a file of the wrong form, mark single damaged lines."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from churn_utils.data.columns import COLUMNS, LABEL
from churn_utils.data.csv_header import check_header, list_first, shorten
from churn_utils.data.csv_lines import Line, decode, read_content, split_lines
from churn_utils.errors import DataError

DAMAGE = "damage"
# Of lines that are damaged, above which the file as a whole has the wrong form.
DAMAGED_SHARE = 0.5


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
    lines = split_lines(decode(path, content))
    if not lines:
        raise DataError(f"{path} is empty; ask for the delivery again.")
    header, data = lines[0], lines[1:]
    present = {name: ours for name, ours in (optional or {}).items() if name in header.fields}
    our_names = our_names | present
    expected = list(our_names)
    check_header(path, lines, expected)
    data = [_check_width(line, len(expected)) for line in data]
    _check_damage(path, data)
    return _build_frame(header.fields, data, our_names)


def _check_width(line: Line, width: int) -> Line:
    """Return the line, called damaged if it has more fields than there are columns."""
    surplus = line.fields[width:]
    if line.damage or not surplus:
        return line
    shown = list_first([repr(shorten(field)) for field in surplus])
    damage = f"has {len(line.fields)} fields where {width} are expected, surplus: {shown}"
    return Line(line.number, line.fields, damage)


def _check_damage(path: Path, data: list[Line]) -> None:
    """Refuse a file without rows, and one with more damaged lines than sound ones."""
    if not data:
        raise DataError(f"{path} has a header but no rows; ask for the delivery again.")
    damaged = [line for line in data if line.damage]
    if len(damaged) > DAMAGED_SHARE * len(data):
        raise DataError(
            f"{len(damaged)} of {len(data)} line(s) of {path} are damaged, so its form is wrong. "
            f"Line {damaged[0].number} {damaged[0].damage}."
        )


def _build_frame(header: list[str], data: list[Line], our_names: dict[str, str]) -> pd.DataFrame:
    """Return the lines as ``read_delivery`` does."""
    values = [_fill_up(line.fields, len(header)) for line in data]
    numbers = [line.number for line in data]
    index = pd.Index(numbers, name="line")
    frame = pd.DataFrame(values, columns=header, index=index)
    ordered = frame[list(our_names)].rename(columns=our_names)
    rows = ordered.apply(lambda column: column.str.strip())
    damage = [line.damage for line in data]
    if any(damage):
        rows[DAMAGE] = damage
    return rows


def _fill_up(fields: list[str], width: int) -> list[str]:
    """Return as many fields as there are columns: blanks for those that a line lacks."""
    lacking = width - len(fields)
    return fields[:width] + [""] * lacking
