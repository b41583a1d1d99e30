import re
import tomllib

import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_markdown_cell, new_output
from page_parts import FACTS, Page, code_cell, figure_output, summary_output

from churn_utils import settings
from churn_utils.reports import html


@pytest.fixture
def page(make_notebook, tmp_path):
    notebook = make_notebook(
        "02_hyperparameter_optimisation",
        code_cell(new_output("stream", name="stdout", text="trial 1 of 40\n")),
        code_cell(
            new_output("stream", name="stderr", text="WARNING: something noisy\n"),
            new_output("stream", name="stdout", text="trial 2 of 40\n"),
        ),
        code_cell(figure_output()),
        code_cell(figure_output("Another")),
        code_cell(
            new_output("execute_result", {"text/html": "<table><tr><td>0.8421</td></tr></table>"})
        ),
        code_cell(summary_output(test_roc_auc=np.float64(0.84215), customers=np.int64(7043))),
    )
    return Page(html.export_notebook(notebook, tmp_path / "run", FACTS))


def test_page_shows_prose_results_and_origin(page):
    for part in (
        "find a model",
        "Which model finds churners?",
        "trial 1 of 40",
        "trial 2 of 40",
        "0.8421",
        "7,043",
    ):
        assert part in page.text
    assert "run: 20250201 <seed 42>" in page.text and "N_TRIALS: 40" in page.text


def test_page_shows_no_code_prompt_or_stderr(page):
    everything = page.text + "".join(page.scripts)
    for part in ("secret_variable", "compute_everything", "In [", "Out[", "In\xa0[", "noisy"):
        assert part not in everything


def test_page_loads_only_the_shared_plotly(page, tmp_path):
    assert page.loads == ["assets/plotly.min.js"]
    markup = (tmp_path / "run" / "02_hyperparameter_optimisation.html").read_text()
    assert not re.search(r"@import|url\(\s*['\"]?(https?:)?//|MathJax|require\.min\.js|cdn", markup)


def test_links_to_notebooks_lead_to_their_pages(page):
    assert [link for link in page.links if not link.startswith("#")] == [
        "index.html",
        "03_model_registry.html",
        "04a_challenger_validation.html",
        "https://example.org/docs",
        "notebooks/02_hyperparameter_optimisation.ipynb",
    ]


def test_links_to_sections_lead_to_pages(make_notebook, tmp_path):
    notebook = make_notebook(
        "05_batch_inference", new_markdown_cell("[why](02_hyperparameter_optimisation.ipynb#Why)")
    )
    links = Page(html.export_notebook(notebook, tmp_path / "run", {})).links
    assert "02_hyperparameter_optimisation.html#Why" in links


def test_figures_have_their_own_places_whatever_their_title(page):
    drawn = [script for script in page.scripts if "Plotly.newPlot" in script]
    places = [re.search(r'newPlot\("([^"]+)"', script).group(1) for script in drawn]
    assert len(places) == len(set(places)) == 2
    assert set(places) <= set(page.ids)
    assert "Two year" in drawn[0] and "contract" in drawn[0]


def test_plotly_is_copied_once_and_whole(tmp_path):
    html.copy_assets(tmp_path)
    asset = tmp_path / "assets" / "plotly.min.js"
    assert (
        asset.stat().st_size > 1_000_000
        and "plotly.js v" in asset.read_text(encoding="utf-8")[:200]
    )
    asset.write_text("kept")
    html.copy_assets(tmp_path)
    assert asset.read_text() == "kept"


def test_failed_notebook_shows_its_error(make_notebook, tmp_path):
    error = new_output(
        "error",
        ename="ChurnError",
        evalue="table customers is empty",
        traceback=["ChurnError: table customers is empty"],
    )
    page = Page(
        html.export_notebook(
            make_notebook("01_feature_engineering", code_cell(error)), tmp_path, {}
        )
    )
    assert "table customers is empty" in page.text


@pytest.fixture
def cells():
    """What a styled table shows, row by row, its names first."""

    def read(table):
        markup = html.style_table(table).to_html()
        assert re.findall(r"text-align: (\w+)", markup) and set(
            re.findall(r"text-align: (\w+)", markup)
        ) == {"left"}
        rows = re.findall(r"<tr>(.*?)</tr>", markup, re.S)
        return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]

    return read


def test_table_shows_months_and_one_decimal(cells):
    table = pd.DataFrame(
        {
            "month": pd.to_datetime(["2025-04-01", "2025-05-01"]),
            "why": ["moved", "asked"],
            "gain": [1.26, -40.0],
            "rows": [4200, 7],
        },
        index=["a", "b"],
    )
    assert cells(table) == [
        ["month", "why", "gain", "rows"],
        ["2025-04", "moved", "1.3", "4200"],
        ["2025-05", "asked", "-40.0", "7"],
    ]


def test_table_shows_dates_as_tables_hold_them(cells):
    dates = pd.Series(pd.to_datetime(["2025-04-01"])).astype("datetime64[ms]")
    assert cells(pd.DataFrame({"effective_from": dates})) == [["effective_from"], ["2025-04"]]


def test_missing_dates_and_words_are_blank(cells):
    table = pd.DataFrame({"month": [pd.Timestamp("2025-04-01"), pd.NaT], "why": ["moved", None]})
    assert cells(table)[2] == ["", ""]


def test_missing_numbers_are_blank(cells):
    assert cells(pd.DataFrame({"gain": [1.0, np.nan]})) == [["gain"], ["1.0"], [""]]


def test_table_escapes_what_it_shows(cells):
    table = pd.DataFrame({"reason": ["<b>'x'</b> & co"], "gain": [1.0]})
    assert cells(table)[1][0] == "&lt;b&gt;&#39;x&#39;&lt;/b&gt; &amp; co"


def test_table_without_rows_has_its_column_names(cells):
    assert cells(pd.DataFrame({"date": [], "event": []}, dtype=object)) == [["date", "event"]]


# --- numbers and templates


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "0"),
        (7043, "7,043"),
        (-7043, "-7,043"),
        (1234.5, "1,234"),
        (0.842149, "0.8421"),
        (223.96, "224"),
        (-0.00012345, "-0.0001234"),
        (1e6, "1,000,000"),
        (True, "True"),
        (None, "None"),
        ("pass", "pass"),
        ([1], "[1]"),
    ],
)
def test_numbers_are_written_as_people_read_them(value, text):
    assert html.format_number(value) == text


def test_templates_are_package_data():
    project = tomllib.loads((settings.PROJECT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["churn_utils.reports"]
    folder = settings.PROJECT / "churn_utils" / "reports"
    installed = {path for pattern in patterns for path in folder.glob(pattern)}
    assert installed == {path for path in folder.rglob("*") if path.suffix in (".html", ".css")}
