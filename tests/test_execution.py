"""The retraining branch and going back in time, over tiny notebooks (``tiny``, ``conftest``)."""

import pytest
from tiny import ALL, MAY, RETRAINED, RUN

from churn_utils import execution, pipeline, settings
from churn_utils.stages import Plan, StageError


def test_a_retraining_runs_its_stages_for_its_month_and_production_goes_on(notebooks, ran, asked):
    asked.append(MAY)
    assert pipeline.run(Plan(), say=lambda line: None) == pipeline.DONE
    order = ran()
    assert sorted(order) == sorted(ALL + RETRAINED)
    assert order.index("production") < order.index("02_hyperparameter_optimisation_2025-05")
    assert order.index("05_batch_inference") < order.index("production")
    looks, approval = order.index("08_drift_detection_2025-05"), order.index("04b_challenger_approval")
    assert looks > order.index("production") > approval
    assert sorted(order[-2:]) == ALL[9:]


def test_a_finished_retraining_is_not_run_again(notebooks, ran, asked):
    asked.append(MAY)
    pipeline.run(Plan(), say=lambda line: None)
    ran()
    assert pipeline.run(Plan(), say=lambda line: None) == pipeline.DONE
    assert ran() == []


def test_more_months_go_on_from_the_last_retraining(notebooks, ran, asked):
    asked.append(MAY)
    pipeline.run(Plan(), say=lambda line: None)
    ran()
    assert pipeline.run(Plan(months=9), say=lambda line: None) == pipeline.DONE
    assert sorted(ran()) == ["07_model_monitoring", "08_drift_detection", "production"]


def test_a_stage_before_production_brings_its_months_again(notebooks, ran, asked):
    asked += [MAY, None, None]
    pipeline.run(Plan(), say=lambda line: None)
    ran()
    lines = []
    assert pipeline.run(Plan(start="04b_challenger_approval"), say=lines.append) == pipeline.DONE
    assert sorted(ran()) == sorted(ALL[5:])  # this time nothing asked for a retraining
    folder = settings.reports() / RUN
    assert not list(folder.glob("*_2025-05.html")) and not list((folder / "notebooks").glob("*_2025-05.ipynb"))


def test_manual_approval_waits_at_every_approval(notebooks, ran, asked):
    summary = "from churn_utils import reporting\nreporting.Summary(gate='pass')"
    notebooks("04a_challenger_validation", summary)
    asked.append(MAY)
    lines = []
    assert pipeline.run(Plan(manual_approval=True), say=lines.append) == pipeline.WAITING
    assert sorted(ran()) == ALL[:5] and "04a_challenger_validation.html" in lines[-1]
    assert pipeline.run(Plan(approver="Ada", only=("04b_challenger_approval",)), say=lines.append) == pipeline.DONE
    assert ran() == ["04b_challenger_approval"]
    assert pipeline.run(Plan(manual_approval=True), say=lines.append) == pipeline.WAITING
    assert "04a_challenger_validation_2025-05.html" in lines[-1]
    assert "04b_challenger_approval_2025-05" not in ran()


def test_production_that_raises_is_a_failed_stage(notebooks, monkeypatch):
    def fail(function, *arguments, report):
        raise settings.ChurnError("no snapshot of 2025-03 was delivered")

    monkeypatch.setattr(execution.kernels, "call_in_warm_process", fail)
    with pytest.raises(StageError, match="production failed: ChurnError: no snapshot of 2025-03"):
        pipeline.run(Plan(), say=lambda line: None)
