import re

import pytest

from churn_utils.registry import gate_evidence
from churn_utils.registry.gate_evidence import GateEvidence
from churn_utils.reports import html
from churn_utils.reports.figures import style

EVIDENCE = {
    "version": 3,
    "verdict": "fail",
    "as_of": "2025-05-01",
    "champion": 1,
    "run_id": "abc",
    "draws": 10,
    "seed": 0,
    "rows": 1373,
    "since": "2025-04-01",
    "offer_cost_usd": 500.0,
    "churner_value_usd": 2000.0,
    "run": 2,
    "model_sha256": "a" * 64,
    "checks": [
        {
            "check": "auc_floor",
            "verdict": "pass",
            "requirement": "above <0.6>",
            "detail": "1373 rows",
            "value": 0.84,
            "lower": 0.82,
            "upper": 0.86,
        },
        {
            "check": "slices",
            "verdict": "not_evaluated",
            "requirement": "none",
            "detail": "<b>boom</b>",
            "value": None,
            "lower": None,
            "upper": None,
        },
    ],
}


def test_page_holds_every_check_and_no_address():
    page = html.render_gate(GateEvidence(**EVIDENCE), "f" * 64)
    assert "Gate of telco_churn 3" in page and "champion 1" in page and "f" * 64 in page
    assert "1373 test rows of 2025-04-01 and later" in page and "run 2" in page and "a" * 64 in page
    assert "0.84 [0.82, 0.86]" in page and "not evaluated" in page
    assert "<b>boom</b>" not in page and "&lt;b&gt;boom" in page and "above &lt;0.6&gt;" in page
    assert "http" not in page and "<script" not in page


def test_page_of_a_gate_is_written_beside_the_reports(shared_serving_home, tmp_path, monkeypatch):
    monkeypatch.setenv("CHURN_RUN_REPORTS", str(tmp_path))
    version = shared_serving_home.predecessor
    evidence, digest = gate_evidence.read_evidence(version)
    path = html.write_gate(evidence, digest)
    assert path == tmp_path / f"gate_v{version}.html"
    text = path.read_text()
    names = [check.check for check in evidence.checks]
    assert len(names) > 5 and all(name.replace("_", " ") in text for name in names)
    assert "no champion yet" in text


@pytest.mark.parametrize("verdict", list(style.VERDICT_COLOURS))
def test_verdict_has_the_colour_of_the_figures(verdict):
    evidence = GateEvidence(**{**EVIDENCE, "verdict": verdict, "checks": []})
    page = html.render_gate(evidence, "")
    assert f'class="verdict {verdict}"' in page
    variable = re.search(rf"\.verdict\.{verdict} {{ background: var\((--\w+)\)", page)[1]
    colour = re.search(rf"{variable}: (#\w+);", page)[1]
    assert colour.upper() == style.VERDICT_COLOURS[verdict]
