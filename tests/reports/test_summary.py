import numpy as np
from page_parts import code_cell, summary_output

from churn_utils.reports.summary import Summary, read_summary


def test_summary_keeps_order_and_numbers(make_notebook):
    numbers = {
        "zeta": 3,
        "alpha": np.float64(0.25),
        "champion": np.int64(2),
        "verdict": "pass",
        "paid": np.bool_(True),
    }
    summary = Summary(**numbers)
    assert list(summary.numbers.items()) == [
        ("zeta", 3),
        ("alpha", 0.25),
        ("champion", 2),
        ("verdict", "pass"),
        ("paid", True),
    ]
    bundle = summary._repr_mimebundle_()
    assert bundle["text/plain"].splitlines() == [
        "zeta: 3",
        "alpha: 0.25",
        "champion: 2",
        "verdict: pass",
        "paid: True",
    ]
    found = read_summary(make_notebook("03_model_registry", code_cell(summary_output(**numbers))))
    assert list(found.numbers.items()) == list(summary.numbers.items())


def test_summary_escapes_what_it_shows():
    table = Summary(approved_by="<script>Ada</script>")._repr_mimebundle_()["text/html"]
    assert "<script>" not in table and "&lt;script&gt;Ada" in table and "approved by" in table


def test_notebook_without_summary_has_no_numbers(make_notebook):
    assert read_summary(make_notebook("03_model_registry", code_cell())).numbers == {}
