"""Check the header of a delivered CSV file, and say what is wrong with it."""

from __future__ import annotations

from collections import Counter
from difflib import get_close_matches
from pathlib import Path

from churn_utils.data.csv_lines import SEPARATOR, Line
from churn_utils.errors import DataError

OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
LINES_SEARCHED_FOR_HEADER = 20
NAMES_SHOWN = 21  # in a message; a file of another kind may seem to have thousands of columns
LETTERS_SHOWN = 40  # of each of them
NAMES_COMPARED = 200  # with the expected ones


def check_header(path: Path, lines: list[Line], expected: list[str]) -> None:
    """Refuse a file whose first line does not name the columns, and say what is wrong with it.

    Raises:
        DataError: another separator, no header or one further down, or missing, extra or repeated
            names; those that look like a missing one are named.
    """
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
    missing = [name for name in expected if name not in header]
    extra = [repr(shorten(name)) for name in header if name not in expected]
    counts = Counter(header)
    repeated = sorted(shorten(name) for name in counts if counts[name] > 1)
    wrong = {"missing": missing, "extra": extra, "repeated": repeated}
    problems = []
    for what, names in wrong.items():
        if names:
            problems.append(f"{len(names)} {what} ({list_first(names)})")
    return "; ".join(problems)


def shorten(text: str) -> str:
    """Return the beginning of a text, as much as a message can show."""
    if len(text) <= LETTERS_SHOWN:
        return text
    return f"{text[:LETTERS_SHOWN]}…"


def list_first(texts: list[str]) -> str:
    """Return texts separated by commas, as many as a message can show."""
    more = ", …" if len(texts) > NAMES_SHOWN else ""
    return ", ".join(texts[:NAMES_SHOWN]) + more


def _find_cause(lines: list[Line], expected: list[str]) -> str:
    """Return what is wrong with a file none of whose columns is known; empty if nothing is."""
    header = lines[0].fields
    first = SEPARATOR.join(header)
    if first.lower().startswith("sep="):
        return f"starts with {shorten(first)!r}, a line for Excel alone; delete it and keep commas"
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
    for name in map(shorten, header[:NAMES_COMPARED]):
        similar = get_close_matches(_simplify(name), simplified, n=1, cutoff=0.8)
        if not similar:
            continue
        meant = simplified[similar[0]]
        if name != meant:
            pairs.append(f"{name!r} looks like {meant}")
    if not pairs:
        return ""
    return f" {'; '.join(pairs[:NAMES_SHOWN])}."


def _simplify(name: str) -> str:
    """Return a name without what writers vary: case, blanks, underscores, hyphens."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())
