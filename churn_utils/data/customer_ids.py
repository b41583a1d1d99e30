"""What a customer's id may look like: one rule for deliveries and the API."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

LONGEST_ID = 64
ID_FORM = (
    f"1 to {LONGEST_ID} visible characters, no blank at either end, none of = + - @ as the first"
)
# Controls, blanks other than the space, and what Unicode shows as nothing or uses to steer the
# direction of text (Default_Ignorable_Code_Point), private characters.
_INVISIBLE = (
    r"\x00-\x1f\x7f-\xa0\xad"
    "\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f"
    "\u2800\u3000\u3164\ue000-\uf8ff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
)
_UNUSED_PLANES = "\U000e0000-\U0010ffff"  # private and unassigned
_BARRED = _INVISIBLE + _UNUSED_PLANES
# RE2 (pyarrow) and Rust (pydantic) read it alike: escapes only up to \xff, no \p classes.
# A spreadsheet takes a cell that starts with one of = + - @ as a formula.
ID_PATTERN = rf"^[^ =+\-@{_BARRED}]([^{_BARRED}]*[^ {_BARRED}])?$"
# The same rule as the API documents it. Tools that generate examples list every character of a
# class, which takes minutes for whole planes. So these stand in a lookahead; RE2 knows none.
DOCUMENTED_ID_PATTERN = (
    rf"^(?![\s\S]*[{_UNUSED_PLANES}])"
    rf"[^ =+\-@{_INVISIBLE}]([^{_INVISIBLE}]*[^ {_INVISIBLE}])?$"
)


def are_well_formed(ids: pd.Series) -> pd.Series:
    """Tell which ids may be used: those that match ``ID_PATTERN`` and are not too long."""
    texts = pa.array(ids, pa.string())
    matches = pc.match_substring_regex(texts, ID_PATTERN)
    fits = pc.less_equal(pc.utf8_length(texts), LONGEST_ID)
    well_formed = pc.and_(matches, fits).to_numpy(zero_copy_only=False)
    return pd.Series(well_formed, index=ids.index, dtype=bool)
