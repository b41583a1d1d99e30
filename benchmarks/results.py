"""Keep the tables that the benchmarks print in ``benchmarks/results.md``, one section per table."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

RESULTS = Path(__file__).parent / "results.md"
HEAD = "# Measured figures\n\nWritten by `make bench` and `make drill`; not edited by hand.\n"


def to_markdown(frame: pd.DataFrame) -> str:
    """Write a frame as a Markdown table."""
    head = frame.columns.astype(str).tolist()
    line = ["---"] * len(head)
    rows = frame.astype(str).values.tolist()
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, line, *rows])


def save_table(title: str, frame: pd.DataFrame, script: str) -> None:
    """Print a table and put it in its section of ``results.md`` in place of the one before."""
    section = f"\n## {title}\n\n`benchmarks/{script}`\n\n{to_markdown(frame)}\n"
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else HEAD
    text = re.sub(rf"\n## {re.escape(title)}\n.*?(?=\n## |\Z)", "", text, flags=re.S)
    RESULTS.write_text(text.rstrip("\n") + "\n" + section, encoding="utf-8")
    print(section)
