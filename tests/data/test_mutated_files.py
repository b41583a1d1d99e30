"""Files that were damaged on their way: every row is accepted or quarantined, or the file refused.

Whatever is done to a delivery, nothing but an error of our own comes out, and no row is lost.
"""

import gzip
import re
import tempfile
from pathlib import Path

import factories
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from churn_utils.data import csv_lines, delivered_files, tables
from churn_utils.errors import DataError
from churn_utils.features import publishing
from churn_utils.settings import month_start

ROWS = 40
ODD_TEXTS = [
    *("", " ", '"', '""', ",", ";", "\t", "\r", "\n", "\0", "\x1a", "\x85", "\u2028", "\ufeff"),
    *("\u200b", "\u202e", "é", "🙂", "=1+1", "-5", "1e999", "nan", "inf", "1_000", "٣", "0x10"),
    *("1,5", "9" * 400, "None", "NULL", "#N/A", "true", "Yes", "No"),
]
ENCODINGS = ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252", "cp500", "utf-7"]


def pick(draw, items):
    """Draw the position of an item."""
    return draw(st.integers(0, max(len(items) - 1, 0)))


def change_lines(change):
    """Make a mutation of bytes of one that changes a list of lines in place."""

    def mutate(draw, content):
        lines = content.split(b"\n")
        change(draw, lines)
        return b"\n".join(lines)

    return mutate


def change_fields(change):
    """Make a mutation of bytes of one that changes the fields of one line in place."""

    def change_one(draw, lines):
        position = pick(draw, lines)
        fields = lines[position].split(b",")
        change(draw, fields)
        lines[position] = b",".join(fields)

    return change_lines(change_one)


def flip_bytes(draw, content):
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 5)) if changed else 0):
        changed[pick(draw, changed)] = draw(st.integers(0, 255))
    return bytes(changed)


def cut_end(draw, content):
    return content[: pick(draw, content)]


def insert_text(draw, content):
    position = pick(draw, content)
    text = draw(st.sampled_from(ODD_TEXTS)).encode()
    return content[:position] + text + content[position:]


def encode(draw, content):
    return content.decode(errors="replace").encode(draw(st.sampled_from(ENCODINGS)), "replace")


def change_separator(draw, content):
    return content.replace(b",", draw(st.sampled_from([b";", b"\t", b"|", b", ", b'","'])))


def change_line_ends(draw, content):
    return content.replace(b"\n", draw(st.sampled_from([b"\r\n", b"\r", b"\n\r", b"\n\n"])))


def compress(draw, content):
    return gzip.compress(content)


def compress_and_damage(draw, content):
    damage = draw(st.sampled_from([cut_end, flip_bytes]))
    return damage(draw, gzip.compress(content))


@change_lines
def drop_lines(draw, lines):
    first = pick(draw, lines)
    del lines[first : first + draw(st.integers(1, 20))]


@change_lines
def repeat_lines(draw, lines):
    first = pick(draw, lines)
    lines[first:first] = lines[first : first + draw(st.integers(1, 20))]


@change_lines
def join_lines(draw, lines):
    first = pick(draw, lines)
    lines[first : first + 2] = [b"".join(lines[first : first + 2])]


@change_lines
def change_header(draw, lines):
    header = lines[0].split(b",")
    position, other = pick(draw, header), pick(draw, header)
    changes = [b"", header[other], header[position].upper(), header[position] + b" ", b'"', b"sep="]
    header[position] = draw(st.sampled_from(changes))
    lines[0] = b",".join(header)


@change_fields
def swap_fields(draw, fields):
    first, second = pick(draw, fields), pick(draw, fields)
    fields[first], fields[second] = fields[second], fields[first]


@change_fields
def drop_field(draw, fields):
    del fields[pick(draw, fields)]


@change_fields
def replace_field(draw, fields):
    fields[pick(draw, fields)] = draw(st.sampled_from(ODD_TEXTS)).encode()


@change_fields
def quote_field(draw, fields):
    position = pick(draw, fields)
    quoted = draw(st.sampled_from([b'"%s"', b'"%s', b'%s"', b'""%s""']))
    fields[position] = quoted.replace(b"%s", fields[position])


MUTATIONS = [
    *(flip_bytes, cut_end, insert_text, encode, change_separator, change_line_ends),
    *(compress, compress_and_damage, drop_lines, repeat_lines, join_lines, change_header),
    *(swap_fields, drop_field, replace_field, quote_field),
]


@pytest.fixture(scope="module")
def first_lines(extract_file):
    return b"\n".join(extract_file.read_bytes().splitlines()[: ROWS + 1]) + b"\n"


@st.composite
def damage(draw, content):
    """Damage a file in one to three ways."""
    for mutate in draw(st.lists(st.sampled_from(MUTATIONS), min_size=1, max_size=3)):
        content = mutate(draw, content)
    return content


def count_rows(content):
    """Count the lines after the header that hold more than commas and blanks: fewest and most.

    Whether a line of quotes alone holds anything depends on where they stand.
    """
    if content.startswith(csv_lines.GZIP):
        content = gzip.decompress(content)
    lines = re.split(r"\r\n|\r|\n", content.decode("utf-8-sig"))
    fewest = sum(bool(re.sub(r'[\s,"]', "", line)) for line in lines)
    most = sum(bool(re.sub(r"[\s,]", "", line)) for line in lines)
    return fewest - 1, most - 1


def ingest(content):
    """Publish a file in a new home; return its counts, or None if the file is refused."""
    with tempfile.TemporaryDirectory() as folder, factories.at_home(folder):
        path = Path(folder) / "customers.csv"
        path.write_bytes(content)
        try:
            rows = delivered_files.read_delivery(path)
        except DataError as error:
            assert "\n" not in str(error) and len(str(error)) < 5000
            return None
        published = publishing.publish_snapshot(rows, month_start(0), month_start(0))
        assert published.accepted + published.quarantined == published.delivered == len(rows)
        assert len(tables.read("quarantine")) == published.quarantined
        if published.accepted:
            assert len(tables.read("customers")) == published.accepted
        return published


def check(content):
    """Check that every row of a file is accepted or quarantined, or the file refused."""
    published = ingest(content)
    if published is not None:
        fewest, most = count_rows(content)
        assert fewest <= published.delivered <= most


def run(first_lines, examples):
    """Try a number of mutated files, the same ones in every run."""

    @settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(damage(first_lines))
    def try_one(content):
        check(content)

    try_one()


def test_file_without_damage_is_accepted_whole(first_lines):
    assert ingest(first_lines).accepted == ROWS


def test_mutated_files_lose_no_row(first_lines):
    run(first_lines, examples=50)


@pytest.mark.long
def test_1000_mutated_files_lose_no_row(first_lines):
    run(first_lines, examples=1000)
