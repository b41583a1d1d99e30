import json
import re
from html.parser import HTMLParser

import factories
import pytest
from sklearn.metrics import recall_score, roc_auc_score

from churn_utils import settings
from churn_utils.features import definitions, offline
from churn_utils.inference import scoring
from churn_utils.monitoring.champion import Champion
from churn_utils.monitoring.retraining_value import REFIT_PARAMS
from churn_utils.reports import evidently_page

# evidently's own imports
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:evidently", "ignore::DeprecationWarning:litestar"
)
THRESHOLD = 0.25
MOVED = ["monthly_charges", "payment_method"]


class Loads(HTMLParser):
    """What a browser would load for a page, and the scripts in it."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.scripts, self._in_script = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self._in_script = tag == "script"
        loading = ("src", "srcset", "data", *(["href"] if tag == "link" else []))
        self.loads += [value for name, value in attrs if name in loading]

    def handle_data(self, data):
        self.scripts += [data] if self._in_script else []


def data_of(text):
    """Return what the page says, as evidently wrote it."""
    return json.JSONDecoder().raw_decode(text, re.search(r"var metric_\w+ = ", text).end())[0]


def dictionaries(found):
    """Yield every dictionary within nested ones."""
    if isinstance(found, dict):
        yield found
        found = list(found.values())
    if isinstance(found, list):
        for part in found:
            yield from dictionaries(part)


def drifted(text):
    """Return the verdict by column."""
    rows = [
        row for row in dictionaries(data_of(text)) if "data_drift" in row and "column_name" in row
    ]
    return {row["column_name"]: row["data_drift"] == "Detected" for row in rows}


def quality(text, side):
    """Return the counters of the classification by label."""
    counters = (
        row
        for row in dictionaries(data_of(text))
        if row.get("title") == f"{side}: Model Quality Metrics"
    )
    return {
        counter["label"]: float(counter["value"])
        for counter in next(counters)["params"]["counters"]
    }


@pytest.fixture(scope="module")
def champion(first_month):
    rows = offline.training_rows(first_month, "train")
    model = factories.fit_model(first_month, REFIT_PARAMS)
    return Champion(1, model, rows, settings.month_start(0))


@pytest.fixture(scope="module")
def labelled(first_month, champion):
    """Customers that the champion was not trained on, as ``read_labelled`` returns them."""
    rows = offline.training_rows(first_month, "test")
    rows = rows.assign(churn_probability=scoring.predict_probability(champion.model, rows))
    return rows.astype({"churned": "int64"})[
        ["customer_id", *definitions.MODEL_INPUTS, "churn_probability", "churned"]
    ]


def write_page(rows, champion, window):
    """Run the report of notebook 07 and write its page."""
    from evidently import Report
    from evidently.presets import ClassificationPreset, DataDriftPreset

    drift = DataDriftPreset(
        columns=list(definitions.MODEL_INPUTS),
        num_method="psi",
        cat_method="psi",
        num_threshold=0.1,
        cat_threshold=0.1,
    )
    report = Report([drift, ClassificationPreset(probas_threshold=THRESHOLD)])
    reference = evidently_page.describe_reference(champion)
    snapshot = report.run(evidently_page.describe(rows, champion.inputs), reference)
    return evidently_page.write_page(snapshot, window), snapshot


@pytest.fixture(scope="module")
def written(tmp_path_factory, champion, labelled):
    """Pages of an unchanged month, then of a month with drift: their folder and snapshots."""
    run = tmp_path_factory.mktemp("run")
    moved = labelled.assign(
        monthly_charges=1.3 * labelled["monthly_charges"], payment_method="Mailed check"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHURN_RUN_REPORTS", str(run))
        quiet_page, quiet = write_page(labelled, champion, "2025-03")
        drifted_page, drifted = write_page(moved, champion, "2025-04")
    assert quiet_page == run / "evidently" / "2025-03.html"
    assert drifted_page == run / "evidently" / "2025-04.html"
    return run / "evidently", quiet, drifted


@pytest.fixture(scope="module")
def folder(written):
    return written[0]


@pytest.fixture(scope="module")
def pages(folder):
    return {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.html")}


def test_pages_share_one_script_beside_them(folder, pages):
    script = folder / "evidently.js"
    assert sorted(path.name for path in folder.iterdir()) == [
        "2025-03.html",
        "2025-04.html",
        "evidently.js",
    ]
    assert script.stat().st_size > 1e6 and "drawDashboard" in script.read_text(encoding="utf-8")
    for name, text in pages.items():
        assert (folder / f"{name}.html").stat().st_size < 2e6
        assert text.index('src="evidently.js"') < text.index("window.drawDashboard(")


def test_page_loads_nothing_but_that_script(pages):
    for text in pages.values():
        assert Loads(text).loads == ["evidently.js"]
        assert not re.search(r"@import|url\(\s*['\"]?(?!data:)", text)
        assert not any(
            re.search(r"fetch\(|\bimport\b|\.src\s*=", script) for script in Loads(text).scripts
        )


def test_unchanged_month_has_no_drifted_column(pages):
    verdicts = drifted(pages["2025-03"])
    assert set(verdicts) == set(definitions.MODEL_INPUTS) and not any(verdicts.values())


def test_drifted_month_has_its_drifted_columns(pages):
    assert sorted(name for name, found in drifted(pages["2025-04"]).items() if found) == MOVED


def test_drift_table_agrees_with_the_page(written):
    _, quiet, drifted = written
    scores = evidently_page.tabulate_drift(drifted)
    assert sorted(scores[scores > 0.1].index) == MOVED == sorted(scores.index[:2])
    assert set(scores.index) == set(definitions.MODEL_INPUTS)
    assert evidently_page.tabulate_drift(quiet).max() < 0.1


def test_classification_quality_is_that_of_the_offers(pages, labelled):
    found, p = quality(pages["2025-03"], "Current"), labelled["churn_probability"]
    assert found["ROC AUC"] == pytest.approx(roc_auc_score(labelled["churned"], p), abs=6e-4)
    assert found["Recall"] == pytest.approx(
        recall_score(labelled["churned"], p >= THRESHOLD), abs=6e-4
    )


def test_reference_is_what_the_champion_was_trained_on(pages, champion):
    expected = roc_auc_score(
        champion.training_rows["churned"], champion.reference["champion_score"]
    )
    for text in pages.values():
        assert quality(text, "Reference")["ROC AUC"] == pytest.approx(expected, abs=6e-4)
