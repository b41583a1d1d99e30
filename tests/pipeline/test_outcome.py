"""How a run ends, in words: done, refused, waiting, failed; and the same in a second call."""

import pandas as pd
import pytest
from notebook_factory import MAY, RUN

from churn_utils import settings
from churn_utils.errors import StageError
from churn_utils.pipeline.gate_result import describe_refusal
from churn_utils.pipeline.plan import DONE, WAITING
from churn_utils.pipeline.state import read_state
from churn_utils.registry import deployments
from churn_utils.registry.gate_evidence import CheckResult

REFUSED = """
from churn_utils.reports.summary import Summary
Summary(challenger=7, gate='fail')
"""
REFUSED_IN_MAY = """
from churn_utils.reports.summary import Summary
Summary(challenger=8, gate='fail' if AS_OF == '2025-05-01' else 'pass')
"""
PASSED = """
from churn_utils.reports.summary import Summary
Summary(challenger=7, gate='pass')
"""
CHECKS = [
    {
        "check": "auc_floor",
        "verdict": "fail",
        "value": 0.5512,
        "lower": 0.52,
        "upper": 0.58,
        "detail": "1373 test rows",
        "requirement": "ROC AUC interval above 0.6",
    },
    {
        "check": "latency",
        "verdict": "fail",
        "value": None,
        "lower": None,
        "upper": None,
        "detail": "one customer takes 260.0 ms of CPU, at most 5",
        "requirement": "CPU: at most 5 ms for one customer in the API",
    },
    {
        "check": "lineage",
        "verdict": "not_evaluated",
        "value": None,
        "lower": None,
        "upper": None,
        "detail": "IsolationError: no answer",
        "requirement": "trained again it answers the same",
    },
    {
        "check": "slices",
        "verdict": "pass",
        "value": 3.0,
        "lower": None,
        "upper": None,
        "detail": "12 groups",
        "requirement": "no group clearly worse (Holm)",
    },
]
FIGURES = (
    "auc_floor (0.5512 [0.52, 0.58] 1373 test rows; required: ROC AUC interval above 0.6); "
    "latency (one customer takes 260.0 ms of CPU, at most 5; "
    "required: CPU: at most 5 ms for one customer in the API); not evaluated: lineage"
)


@pytest.fixture
def folders():
    """The part of a command that names home and reports of this test."""

    def describe():
        return f"--home {settings.home()} --reports {settings.reports()}"

    return describe


def list_deployments(version, month):
    start = settings.month_start(month)
    return pd.DataFrame({"version": [version], "effective_from": [start]})


def read_checks(checks):
    return [CheckResult(**check) for check in checks]


def index_text():
    return (settings.reports() / RUN / "index.html").read_text()


def test_refusal_names_failed_checks_with_figure_and_limit():
    assert describe_refusal(read_checks(CHECKS)) == FIGURES


def test_refusal_without_a_failed_check_says_why():
    text = describe_refusal(read_checks(CHECKS[2:]))
    assert text.startswith("lineage (IsolationError: no answer; required: trained again")


def test_first_challenger_refused(patched_pipeline, monkeypatch, folders):
    monkeypatch.setattr(deployments, "champion_at", lambda date: None)
    patched_pipeline.refusal = FIGURES
    patched_pipeline.edit("04a_challenger_validation", REFUSED)
    code, lines = patched_pipeline.run(months=4)
    assert code == DONE
    assert lines[-2] == f"REFUSED by {FIGURES}: no model was promoted, 05 to 08 were left out."
    assert lines[-1] == f"Ask again with:  run_all.py --months 4 {folders()} --from 04a"
    assert "REFUSED by auc_floor" in index_text()


def test_refused_retraining_keeps_the_champion(patched_pipeline, monkeypatch, folders):
    monkeypatch.setattr(deployments, "read_deployments", lambda: list_deployments(1, 1))
    patched_pipeline.refusal = "champion (wins on nothing)"
    patched_pipeline.edit("04a_challenger_validation", REFUSED_IN_MAY)
    patched_pipeline.asked.append(MAY)
    code, lines = patched_pipeline.run(approver="Ada Lovelace")
    assert code == DONE
    assert lines[-3] == (
        "REFUSED by champion (wins on nothing): "
        "the model of the retraining of 2025-05 was not promoted."
    )
    assert lines[-2] == "Still in effect: version 1 answers since 2025-02."
    again = "--from 04a_challenger_validation_2025-05 --approve-as 'Ada Lovelace'"
    assert lines[-1] == f"Ask again with:  run_all.py {folders()} {again}"


def test_done_names_version_date_and_call_list(patched_pipeline, monkeypatch):
    monkeypatch.setattr(deployments, "champion_at", lambda date: 2)
    monkeypatch.setattr(deployments, "read_deployments", lambda: list_deployments(2, 4))
    patched_pipeline.edit("04a_challenger_validation", PASSED)
    reports = settings.reports() / RUN
    older, path = (reports / f"retention_list_{month}.csv" for month in ("2025-05", "2025-07"))
    # lists of before would be deleted with the pages of the stages that run again
    write = f"for path in {[str(older), str(path)]}: open(path, 'w').close()"
    patched_pipeline.edit("05_batch_inference", write)
    _, lines = patched_pipeline.run()
    expected = f"Done: version 2 answers since 2025-05; call list of 2025-07: {path}."
    assert lines[-1] == expected
    assert "version 2 answers since 2025-05" in index_text()


def test_waiting_says_what_to_read_and_how_to_go_on(patched_pipeline, folders):
    patched_pipeline.edit("04a_challenger_validation", PASSED)
    code, lines = patched_pipeline.run(manual_approval=True)
    assert code == WAITING
    page = settings.reports() / RUN / "04a_challenger_validation.html"
    assert lines[-1] == (
        f"Waiting for approval: the challenger passed its gate. Read {page}, then go on with:  "
        f"run_all.py {folders()} --approve-as 'YOUR NAME'"
    )
    assert "Waiting for approval" in index_text()


def test_second_call_repeats_the_outcome(patched_pipeline, monkeypatch):
    monkeypatch.setattr(deployments, "champion_at", lambda date: None)
    patched_pipeline.refusal = FIGURES
    patched_pipeline.edit("04a_challenger_validation", REFUSED)
    _, first = patched_pipeline.run()
    patched_pipeline.ran()
    patched_pipeline.refusal = "not read a second time"
    code, second = patched_pipeline.run()
    assert code == DONE
    assert patched_pipeline.ran() == []
    assert second[-2:] == first[-2:]
    assert "nothing to do" in second[0]
    assert read_state().results["04a_challenger_validation"].gate.refused_by == FIGURES


def test_failure_stands_on_the_index(patched_pipeline):
    patched_pipeline.edit("01_feature_engineering", "raise ValueError('no data today')")
    with pytest.raises(StageError):
        patched_pipeline.run()
    assert "stage 01_feature_engineering failed: ValueError" in index_text()


def test_stages_run_alone_leave_others_to_do(patched_pipeline):
    patched_pipeline.run()
    _, lines = patched_pipeline.run(only=("05_batch_inference",))
    assert lines[-2] == "Done: version 1 answers."
    assert lines[-1].startswith("Not up to date: 06_real_time_serving, production")
