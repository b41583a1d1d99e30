import re

import nbformat
import pytest
from page_parts import FACTS, Page, code_cell, figure_output, summary_output

from churn_utils.reports import index
from churn_utils.reports.index import RunOutcome


def test_heading_is_title_and_first_sentence_of_question(make_notebook):
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


def test_index_lists_every_number_with_its_page(build_index):
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


def test_index_starts_with_the_main_numbers(build_index):
    _, markup = build_index()
    tiles = re.findall(r'<div class="tile"><b>([^<]*)</b><span>([^<]*)</span>', markup)
    assert [number for number, _ in tiles] == ["9", "90%", "0.8421"]
    assert tiles[0][1] == "version that answers since 2025-05"
    assert "version 8 (gate: &lt;fail&gt;)" in tiles[2][1] and tiles[2][1].endswith(
        ", 0.82 to 0.86"
    )


def test_index_has_a_card_with_cover_per_notebook(build_index):
    page, _ = build_index()
    for title in ("02", "04", "05", "07", "08"):
        assert f"{title} – find a model" in page.text
    drawn = [script for script in page.scripts if "Plotly.newPlot" in script]
    assert len(drawn) == 1 and 'newPlot("card-02_hyperparameter_optimisation"' in drawn[0]


def test_index_loads_only_plotly_and_names_its_run(build_index):
    page, _ = build_index()
    assert page.loads == ["assets/plotly.min.js"]
    assert "run: 20250201 <seed 42>" in page.text


def test_index_links_every_retention_list(build_index, tmp_path):
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


def test_outcome_without_details_is_a_sentence(build_index):
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


def test_pages_are_grouped_newest_first(grouped):
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
