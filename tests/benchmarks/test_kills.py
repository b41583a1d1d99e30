"""Killed runs against one undisturbed; ``CHURN_KILLS`` sets how many kills the long form makes."""

import importlib
import os
import tempfile
from pathlib import Path

import pandas as pd
import pytest

from churn_utils import settings


@pytest.fixture(scope="module")
def kills():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(settings.PROJECT / "benchmarks"))
        yield importlib.import_module("kills")


def test_comparison_names_what_differs(kills):
    rows = pd.DataFrame({"id": ["a", "b"], "bill": [1.0, None]})
    expected = {"same": rows, "longer": rows, "other": rows, "missing": rows}
    found = {"same": rows.copy(), "longer": rows.head(1), "other": rows.assign(bill=2.0)}
    assert sorted(kills.compare(found, expected)) == [
        "longer: (1, 2) instead of (2, 2)",
        "missing: only in one run",
        "other: bill",
    ]


@pytest.mark.long
def test_killed_run_ends_as_an_undisturbed_one(kills, home):
    number = int(os.environ.get("CHURN_KILLS", "20"))
    with tempfile.TemporaryDirectory() as folder:  # a short path, for the sockets in it
        outcome = kills.measure(number, Path(folder))
    assert outcome.differences == [] and outcome.left_behind == []
    assert len(outcome.kills) >= number / 2  # the others came after their stage was finished
