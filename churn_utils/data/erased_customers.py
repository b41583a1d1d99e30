"""Customers who were erased: kept as salted hashes, so that what arrives later leaves them out.

A hash stands for an id and does not show it; a person who has the file and guesses an id can test
the guess.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from pathlib import Path

import pandas as pd

from churn_utils import settings
from churn_utils.data.columns import CUSTOMER_ID
from churn_utils.data.files import write_atomically


def remember(customer_id: str) -> None:
    """Add a customer to those who are left out from now on."""
    salt, hashes = _read()
    hashes |= {_hash(salt, customer_id)}
    text = json.dumps({"salt": salt, "sha256": sorted(hashes)}, indent=1)
    write_atomically(_path(), text)


def is_erased(customer_id: str) -> bool:
    """Tell whether a customer was erased before."""
    salt, hashes = _read()
    return _hash(salt, customer_id) in hashes


def drop_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows with a ``customer_id`` without those of erased customers."""
    salt, hashes = _read()
    if not hashes:
        return rows
    is_left_out = rows[CUSTOMER_ID].map(lambda found: _hash(salt, str(found)) in hashes)
    return rows[~is_left_out.astype(bool)]


def _path() -> Path:
    return settings.home() / "erased.json"


def _read() -> tuple[str, set[str]]:
    """Return the salt, a new one before the first erasure, and the hashes."""
    try:
        kept = json.loads(_path().read_text())
    except FileNotFoundError:
        return secrets.token_hex(16), set()
    return kept["salt"], set(kept["sha256"])


def _hash(salt: str, customer_id: str) -> str:
    salted = f"{salt}{customer_id}"
    return hashlib.sha256(salted.encode()).hexdigest()
