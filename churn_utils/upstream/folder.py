"""A folder of deliveries: which files it holds, which months are there, and what is in a file.

``DIR/2026-01/customers.csv`` describes the customers of January, ``DIR/2026-01/labels.csv`` who of
them left, ``DIR/2026-01/offers.csv`` who got an offer, where any were made;
``DIR/2026-02/customers-2026-01.csv`` is a corrected file that came with February's.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from churn_utils.data.columns import BY_NAME, CUSTOMER_COLUMNS, CUSTOMER_ID, LABEL
from churn_utils.data.csv_lines import read_content
from churn_utils.data.delivered_files import DAMAGE, parse_table
from churn_utils.data.integrity import hash_file
from churn_utils.errors import DataError, UsageError

CUSTOMERS, LABELS, OFFERS = "customers", "labels", "offers"  # kinds of files
FORMS = (".csv", ".csv.gz", ".parquet")
FILE_NAME = re.compile(r"(customers|labels|offers)(?:-(\d{4}-\d{2}))?(\.csv|\.csv\.gz|\.parquet)")
MONTH_NAME = re.compile(r"\d{4}-(?:0[1-9]|1[0-2])")
PARQUET = b"PAR1"
NAMES_SHOWN = 5  # in a message
ONE_MONTH = pd.DateOffset(months=1)

# Names in a file, and ours.
CUSTOMER_NAMES = {BY_NAME[name].source_name: name for name in CUSTOMER_COLUMNS}
LABEL_NAMES = {BY_NAME[name].source_name: name for name in (CUSTOMER_ID, LABEL)}
SLOT_NAMES = {"slotID": "slot_id"}
OFFER_NAMES = {BY_NAME[CUSTOMER_ID].source_name: CUSTOMER_ID, "group": "group"}


@dataclass(frozen=True)
class DeliveredFile:
    """A file in a folder of deliveries.

    Attributes:
        kind: ``customers``, ``labels`` or ``offers``.
        month: that it describes.
        folder: month whose folder it lies in.
        path: where it is.
    """

    kind: str
    month: pd.Timestamp
    folder: pd.Timestamp
    path: Path

    @property
    def name(self) -> str:
        """Its folder and name without the form, such as ``2026-02/customers``."""
        return f"{self.path.parent.name}/{self.path.name.split('.')[0]}"

    @property
    def arrives(self) -> pd.Timestamp:
        """First as-of month at which it may be read: what happened, when its month is over."""
        known = self.month if self.kind == CUSTOMERS else self.month + ONE_MONTH
        return max(self.folder, known)


def list_files(folder: Path) -> list[DeliveredFile]:
    """List the deliveries in a folder in the order of their months.

    What is no delivery (hidden files, other names within a month's folder) is left out.

    Raises:
        UsageError: the folder cannot be read, holds a folder that is no month, deliveries outside
            of a month's folder, a file twice, or a correction that comes before its month.
    """
    months = _list_months(folder)
    files = [file for month in months for file in _list_month(month)]
    seen: dict[str, Path] = {}
    for file in files:
        other = seen.setdefault(file.name, file.path)
        if other != file.path:
            raise UsageError(f"{other} and {file.path} are the same delivery twice; remove one.")
        if file.month > file.folder:
            raise UsageError(
                f"{file.path} describes a later month than that of its folder; put it into "
                f"{folder / f'{file.month:%Y-%m}'}."
            )
    return files


def _list_months(folder: Path) -> list[Path]:
    """Return the folders of months, in order."""
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        folders = [path for path in entries if path.is_dir()]
    except OSError as error:
        raise UsageError(
            f"the folder of deliveries {folder} cannot be read: {error.strerror}. Give the folder "
            "that holds one folder a month, such as 2026-01."
        ) from error
    _check_months(folder, [path.name for path in folders])
    others = [path.name for path in entries if path not in folders]
    _check_others(folder, others)
    return folders


def _check_months(folder: Path, names: list[str]) -> None:
    """Refuse folders whose name is no month."""
    no_months = [name for name in names if not MONTH_NAME.fullmatch(name)]
    if no_months:
        raise UsageError(
            f"{folder} holds {len(no_months)} folder(s) whose name is no month: "
            f"{_show(no_months)}. Name them like 2026-01, or move them elsewhere."
        )


def _check_others(folder: Path, names: list[str]) -> None:
    """Refuse files that may be deliveries and lie outside of a month's folder."""
    astray = [name for name in names if name.endswith(FORMS)]
    if astray:
        raise UsageError(
            f"{folder} holds {len(astray)} file(s) outside of a month's folder: {_show(astray)}. "
            f"Put the customers of January 2026 at {folder / '2026-01' / 'customers.csv'}."
        )


def _list_month(folder: Path) -> list[DeliveredFile]:
    """Return the deliveries in the folder of a month."""
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise UsageError(f"{folder} cannot be read: {error.strerror}.") from error
    files = []
    for path in paths:
        found = FILE_NAME.fullmatch(path.name)
        if found and (found[2] is None or MONTH_NAME.fullmatch(found[2])):
            month = pd.Timestamp(found[2] or folder.name)
            files.append(DeliveredFile(found[1], month, pd.Timestamp(folder.name), path))
    return files


def _show(names: list[str]) -> str:
    """Return names, as many as a message can show."""
    more = ", …" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a delivered file, computed once while it stays as it is.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        state = path.stat()
        return _digest_of(path, state.st_mtime_ns, state.st_size, state.st_ino)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error


@lru_cache(maxsize=1024)
def _digest_of(path: Path, *state: int) -> str:
    """Return the SHA-256 of a file in a state of it: time of change, size, inode."""
    return hash_file(path)


def read_as_csv(path: Path) -> bytes:
    """Return the content of a delivered file as plain CSV, whatever its form is.

    Raises:
        DataError: the file cannot be read or unpacked.
    """
    content = read_content(path)
    return _convert_parquet(path, content) if content.startswith(PARQUET) else content


def _convert_parquet(path: Path, content: bytes) -> bytes:
    """Return a Parquet file as CSV."""
    try:
        table = pyarrow.parquet.read_table(io.BytesIO(content))
        texts = [column.cast(pa.string()).fill_null("") for column in table.columns]
    except pa.ArrowException as error:
        raise DataError(f"{path} is no Parquet file that can be read: {error}.") from error
    written = io.BytesIO()
    pyarrow.csv.write_csv(pa.table(texts, names=table.column_names), written)
    return written.getvalue()


def parse(kind: str, content: bytes, path: Path) -> pd.DataFrame:
    """Read the content of a delivery as text, refusing a file whose form is wrong.

    Args:
        kind: ``customers``, ``labels`` or ``offers``.
        content: as ``read_as_csv`` returns it.
        path: how a message calls it.

    Returns:
        Of customers ``CUSTOMER_COLUMNS`` as ``delivered_files.read_delivery`` returns them; a
        column ``Churn`` is left out, because labels arrive in a file of their own. Of labels
        ``customer_id, churn, slot_id``: the last is the customer's own id where the file has no
        column ``slotID``. A line that cannot be read has the damage as its label. Of offers
        ``customer_id, group``.

    Raises:
        DataError: as ``delivered_files.read_delivery``.
    """
    if kind == CUSTOMERS:
        label = {BY_NAME[LABEL].source_name: LABEL}
        return parse_table(content, path, CUSTOMER_NAMES, label).drop(
            columns=LABEL, errors="ignore"
        )
    if kind == OFFERS:
        return parse_table(content, path, OFFER_NAMES, {})[list(OFFER_NAMES.values())]
    labels = parse_table(content, path, LABEL_NAMES, SLOT_NAMES)
    if DAMAGE in labels:
        damage = "in a line that " + labels[DAMAGE]
        labels[LABEL] = labels[LABEL].mask(labels[DAMAGE] != "", damage)
    slots = labels["slot_id"] if "slot_id" in labels else labels[CUSTOMER_ID]
    slots = slots.mask(slots == "", labels[CUSTOMER_ID])
    return labels[[CUSTOMER_ID, LABEL]].assign(slot_id=slots)
