"""Files written for people."""

import csv

import pandas as pd
import pytest

from churn_utils.data.files import write_csv


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_text_is_no_formula_in_a_spreadsheet(tmp_path, start):
    table = pd.DataFrame({"reason": [f"{start}HYPERLINK(A1)", "a = b"], "kind": ["x", "y"]})
    write_csv(tmp_path / "list.csv", table.astype({"kind": "category"}))
    with (tmp_path / "list.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["reason", "kind"], [f"'{start}HYPERLINK(A1)", "x"], ["a = b", "y"]]


def test_numbers_stay_numbers(tmp_path):
    table = pd.DataFrame({"usd": [-1.5, 2.25], "mixed": [-3, None], "rank": [1, 2]})
    write_csv(tmp_path / "list.csv", table)
    assert (tmp_path / "list.csv").read_text() == "usd,mixed,rank\n-1.5,-3.0,1\n2.25,,2\n"
