import json
import re
from html.parser import HTMLParser

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from churn_utils.reports import html, index
from churn_utils.reports.figures import figures
from churn_utils.reports.index import RunOutcome
from churn_utils.reports.summary import Summary, format_number, read_summary

FIRST_CELL = """# 02 – find a model

*Which model finds churners? It must beat the default.*

**Next:** [03](03_model_registry.ipynb), [04a](04a_challenger_validation.ipynb), [docs](https://example.org/docs)
"""
SECRET = "secret_variable = compute_everything()"
FACTS = {"run": "20250201 <seed 42>", "N_TRIALS": 40}


class Page(HTMLParser):
    """What a browser would find: text, links, scripts, and everything that it would load."""

    def __init__(self, path):
        super().__init__()
        self.text, self.links, self.loads, self.scripts, self.ids = "", [], [], [], []
        self._in = None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self._in = tag if tag in ("script", "style") else self._in
        self.ids += [attrs["id"]] if "id" in attrs else []
        if tag == "a":
            self.links.append(attrs.get("href", ""))
        elif tag == "link":
            self.loads.append(attrs["href"])
        elif "src" in attrs:
            self.loads.append(attrs["src"])

    def handle_endtag(self, tag):
        self._in = None if tag == self._in else self._in

    def handle_data(self, data):
        if self._in == "script":
            self.scripts.append(data)
        elif self._in is None:
            self.text += data


def figure_output(title="Churn </script><b>by</b> contract"):
    figure = figures.plot_bars(pd.Series({"Two year": 7.0}), title, "USD")
    return new_output("display_data", {html.PLOTLY_MIME: json.loads(figure.to_json())})


def summary_output(**numbers):
    return new_output("execute_result", Summary(**numbers)._repr_mimebundle_())


def code_cell(*outputs, **metadata):
    return new_code_cell(SECRET, outputs=list(outputs), execution_count=1, metadata=metadata)


@pytest.fixture
def make_notebook(tmp_path):
    def make(name, *cells):
        path = tmp_path / "notebooks" / f"{name}.ipynb"
        path.parent.mkdir(exist_ok=True)
        nbformat.write(
            new_notebook(cells=[new_markdown_cell(FIRST_CELL.replace("02", name[:2])), *cells]),
            path,
        )
        return path

    return make


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


def test_a_page_shows_prose_results_and_origin(page):
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


def test_a_page_shows_no_code_no_prompt_and_no_stderr(page):
    everything = page.text + "".join(page.scripts)
    for part in ("secret_variable", "compute_everything", "In [", "Out[", "In\xa0[", "noisy"):
        assert part not in everything


def test_a_page_loads_nothing_but_the_shared_plotly(page, tmp_path):
    assert page.loads == ["assets/plotly.min.js"]
    markup = (tmp_path / "run" / "02_hyperparameter_optimisation.html").read_text()
    assert not re.search(r"@import|url\(\s*['\"]?(https?:)?//|MathJax|require\.min\.js|cdn", markup)


def test_links_to_notebooks_lead_to_pages_and_the_source_stays_a_notebook(page):
    assert [link for link in page.links if not link.startswith("#")] == [
        "index.html",
        "03_model_registry.html",
        "04a_challenger_validation.html",
        "https://example.org/docs",
        "notebooks/02_hyperparameter_optimisation.ipynb",
    ]


def test_links_to_a_section_of_a_notebook_lead_to_pages(make_notebook, tmp_path):
    notebook = make_notebook(
        "05_batch_inference", new_markdown_cell("[why](02_hyperparameter_optimisation.ipynb#Why)")
    )
    links = Page(html.export_notebook(notebook, tmp_path / "run", {})).links
    assert "02_hyperparameter_optimisation.html#Why" in links


def test_every_figure_is_drawn_in_a_place_of_its_own_whatever_its_title_holds(page):
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


def test_a_failed_notebook_shows_its_error(make_notebook, tmp_path):
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
    assert format_number(value) == text


def test_a_summary_keeps_order_and_numbers(make_notebook):
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


def test_a_summary_escapes_what_it_shows():
    table = Summary(approved_by="<script>Ada</script>")._repr_mimebundle_()["text/html"]
    assert "<script>" not in table and "&lt;script&gt;Ada" in table and "approved by" in table


def test_a_notebook_without_summary_has_no_numbers(make_notebook):
    assert read_summary(make_notebook("03_model_registry", code_cell())).numbers == {}


def test_heading_is_the_title_and_the_first_sentence_of_the_question(make_notebook):
    assert index.read_heading(nbformat.read(make_notebook("02_x"), as_version=4)) == (
        "02 – find a model",
        "Which model finds churners?",
    )


@pytest.fixture
def build_index(make_notebook, tmp_path):
    def build(outcome=None):
        notebooks = [
            make_notebook(
                "02_hyperparameter_optimisation",
                code_cell(figure_output("Not the cover")),
                code_cell(figure_output("The cover"), tags=["cover"]),
                code_cell(
                    summary_output(
                        test_roc_auc=0.8421, test_roc_auc_interval="0.82 to 0.86", n_trials=40
                    )
                ),
            ),
            make_notebook(
                "04a_challenger_validation", code_cell(summary_output(challenger=8, gate="<fail>"))
            ),
            make_notebook(
                "05_batch_inference", code_cell(summary_output(champion=7, n_trials=1234))
            ),
            make_notebook(
                "07_model_monitoring",
                code_cell(summary_output(champion_in_effect=9, in_effect_since="2025-05")),
            ),
            make_notebook("08_drift_detection", code_cell(summary_output(value_recovered="90%"))),
        ]
        return Page(index.write_index(tmp_path / "run", notebooks, FACTS, outcome)), (
            tmp_path / "run" / "index.html"
        ).read_text()

    return build


def test_the_index_lists_every_number_with_its_page(build_index):
    _, markup = build_index()
    rows = re.findall(r'<tr><td>([^<]*)</td><td>([^<]*)</td><td><a href="([^"]*)">', markup)
    assert rows == [
        ("test roc auc", "0.8421", "02_hyperparameter_optimisation.html"),
        ("test roc auc interval", "0.82 to 0.86", "02_hyperparameter_optimisation.html"),
        ("n trials", "40", "02_hyperparameter_optimisation.html"),
        ("challenger", "8", "04a_challenger_validation.html"),
        ("gate", "&lt;fail&gt;", "04a_challenger_validation.html"),
        ("champion", "7", "05_batch_inference.html"),
        ("n trials", "1,234", "05_batch_inference.html"),
        ("champion in effect", "9", "07_model_monitoring.html"),
        ("in effect since", "2025-05", "07_model_monitoring.html"),
        ("value recovered", "90%", "08_drift_detection.html"),
    ]


def test_the_index_starts_with_the_main_numbers_that_there_are_and_says_whose_they_are(build_index):
    _, markup = build_index()
    tiles = re.findall(r'<div class="tile"><b>([^<]*)</b><span>([^<]*)</span>', markup)
    assert [number for number, _ in tiles] == ["9", "90%", "0.8421"]
    assert tiles[0][1] == "version that answers since 2025-05"
    assert "version 8 (gate: &lt;fail&gt;)" in tiles[2][1] and tiles[2][1].endswith(
        ", 0.82 to 0.86"
    )


def test_the_index_has_a_card_for_each_notebook_with_its_cover(build_index):
    page, _ = build_index()
    for title in ("02", "04", "05", "07", "08"):
        assert f"{title} – find a model" in page.text
    drawn = [script for script in page.scripts if "Plotly.newPlot" in script]
    assert len(drawn) == 1 and 'newPlot("card-02_hyperparameter_optimisation"' in drawn[0]


def test_the_index_loads_nothing_but_the_shared_plotly_and_names_its_run(build_index):
    page, _ = build_index()
    assert page.loads == ["assets/plotly.min.js"]
    assert "run: 20250201 <seed 42>" in page.text


def test_the_index_links_every_retention_list_that_there_is(build_index, tmp_path):
    assert not any("retention_list" in link for link in build_index()[0].links)
    for name in ("retention_list_2025-05.csv", "retention_list_2025-02.csv", "other.csv"):
        (tmp_path / "run" / name).write_text("rank\n")
    lists = [link for link in build_index()[0].links if link.endswith(".csv")]
    assert lists == ["retention_list_2025-02.csv", "retention_list_2025-05.csv"]


@pytest.mark.parametrize(
    "status, label",
    [
        ("done", "Run complete"),
        ("refused", "Challenger refused"),
        ("waiting", "Waiting"),
        ("failed", "Run failed"),
    ],
)
def test_outcome_stands_above_the_numbers_in_words(build_index, status, label):
    outcome = RunOutcome(
        "Refused by <latency>", status, ["05 to 08 were left out"], "run_all.py --from 04a"
    )
    page, markup = build_index(outcome)
    shown = [label, "Refused by <latency>", "05 to 08 were left out", "run_all.py --from 04a"]
    places = [page.text.index(text) for text in [*shown, "version that answers since"]]
    assert places == sorted(places)
    assert f'class="outcome {status}"' in markup


def test_outcome_without_details_or_command_is_a_sentence(build_index):
    _, markup = build_index(RunOutcome("Version 2 answers since 2025-05", "done"))
    banner = markup.split("</section>")[0]
    assert "Version 2 answers" in banner and "<li>" not in banner and "<pre>" not in banner


def test_index_without_outcome_has_no_banner(build_index):
    assert '<section class="outcome' not in build_index()[1]


@pytest.fixture
def grouped(make_notebook, tmp_path):
    """Write an index over notebooks of these names; return the pages on its cards by heading."""

    def build(*names):
        path = index.write_index(tmp_path / "run", [make_notebook(name) for name in names], {})
        found, heading = {}, None
        for title in re.findall(r"<h2>(.*?)</h2>", path.read_text()):
            card = re.match(r'<a href="(.*?)\.html">', title)
            if card:
                found[heading].append(card[1])
            else:
                heading = title
                found[heading] = []
        last = found.popitem()
        assert last == ("Every number, and the page it comes from", [])
        return found

    return build


def test_pages_stand_under_what_they_tell_of(grouped):
    looks = ["07_model_monitoring", "08_drift_detection"]
    may = ["07_model_monitoring_2025-05", "02_hyperparameter_optimisation_2025-05"]
    september = ["08_drift_detection_2025-09", "05_batch_inference_2025-09"]
    first = ["00_overview", "02_hyperparameter_optimisation"]
    assert list(grouped(*first, *may, *september, *looks).items()) == [
        ("Where it stands", looks),
        ("The retraining of 2025-09", september),
        ("The retraining of 2025-05", may),
        ("How it began", first),
    ]


@pytest.mark.parametrize(
    "name, heading",
    [
        ("07_model_monitoring", "Where it stands"),
        ("05_batch_inference_2025-05", "The retraining of 2025-05"),
        ("04a_challenger_validation", "How it began"),
    ],
)
def test_headings_without_pages_are_left_out(grouped, name, heading):
    assert grouped(name) == {heading: [name]}


# --- tables


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


def test_a_table_shows_months_and_one_decimal_and_no_index(cells):
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


def test_a_table_shows_dates_as_the_lakehouse_holds_them(cells):
    dates = pd.Series(pd.to_datetime(["2025-04-01"])).astype("datetime64[ms]")
    assert cells(pd.DataFrame({"effective_from": dates})) == [["effective_from"], ["2025-04"]]


def test_missing_dates_and_words_are_blank(cells):
    table = pd.DataFrame({"month": [pd.Timestamp("2025-04-01"), pd.NaT], "why": ["moved", None]})
    assert cells(table)[2] == ["", ""]


def test_missing_numbers_are_blank(cells):
    assert cells(pd.DataFrame({"gain": [1.0, np.nan]})) == [["gain"], ["1.0"], [""]]


def test_a_table_escapes_what_it_shows(cells):
    table = pd.DataFrame({"reason": ["<b>'x'</b> & co"], "gain": [1.0]})
    assert cells(table)[1][0] == "&lt;b&gt;&#39;x&#39;&lt;/b&gt; &amp; co"


def test_a_table_without_rows_or_numbers_has_its_names(cells):
    assert cells(pd.DataFrame({"date": [], "event": []}, dtype=object)) == [["date", "event"]]
