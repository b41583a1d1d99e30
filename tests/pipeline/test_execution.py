"""The stages of a run: which run, in which order, side by side, up to which approval."""

import pytest
from notebook_factory import ALL, MAY, RETRAINED

from churn_utils import settings
from churn_utils.errors import ChurnError, StageError, UsageError
from churn_utils.pipeline import runner, warm_process
from churn_utils.pipeline.plan import DONE, WAITING, Plan
from churn_utils.pipeline.stages import expand_timeline
from churn_utils.pipeline.state import RunState
from churn_utils.registry import deployments

PASSED = "from churn_utils.reports.summary import Summary\nSummary(gate='pass')"


def test_stages_run_after_what_they_need(patched_pipeline):
    patched_pipeline.run()
    order = patched_pipeline.ran()
    for stage in expand_timeline(Plan(), RunState()):
        assert all(order.index(name) < order.index(stage.name) for name in stage.needs)


def test_progress_names_every_stage_and_cell(patched_pipeline):
    seen = []
    runner.run(Plan(), say=lambda line: None, watch=seen.append)
    assert {name for progress in seen for name in progress.running} == set(ALL)
    assert all(len(progress.running) <= 2 for progress in seen)
    places = {place for progress in seen for place in progress.running.values()}
    assert places & {"cell 2", "cell 3"}
    assert (seen[-1].done, seen[-1].running) == (1, {}) or seen[-1].done == seen[-1].total


def test_retraining_runs_its_stages_then_production_goes_on(patched_pipeline):
    patched_pipeline.asked.append(MAY)
    code, _ = patched_pipeline.run()
    assert code == DONE
    order = patched_pipeline.ran()
    assert sorted(order) == sorted(ALL + RETRAINED)
    position = {name: order.index(name) for name in order}
    assert position["production"] < position["02_hyperparameter_optimisation_2025-05"]
    assert position["05_batch_inference"] < position["production"]
    assert position["04b_challenger_approval"] < position["production"]
    assert position["production"] < position["08_drift_detection_2025-05"]
    assert sorted(order[-3:]) == ALL[9:]


def test_finished_retraining_is_not_run_again(patched_pipeline):
    patched_pipeline.asked.append(MAY)
    patched_pipeline.run()
    patched_pipeline.ran()
    code, _ = patched_pipeline.run()
    assert code == DONE
    assert patched_pipeline.ran() == []


def test_more_months_go_on_from_the_last_retraining(patched_pipeline):
    patched_pipeline.asked.append(MAY)
    patched_pipeline.run()
    patched_pipeline.ran()
    code, _ = patched_pipeline.run(months=9)
    assert code == DONE
    ran = sorted(patched_pipeline.ran())
    assert ran == [
        *("07_model_monitoring", "08_drift_detection", "09_offers_and_control", "production")
    ]


def test_manual_approval_waits_at_every_approval(patched_pipeline):
    patched_pipeline.edit("04a_challenger_validation", PASSED)
    patched_pipeline.asked.append(MAY)
    code, lines = patched_pipeline.run(manual_approval=True)
    assert code == WAITING
    assert sorted(patched_pipeline.ran()) == ALL[:5]
    assert "04a_challenger_validation.html" in lines[-1]
    code, _ = patched_pipeline.run(approver="Ada", only=("04b_challenger_approval",))
    assert code == DONE
    assert patched_pipeline.ran() == ["04b_challenger_approval"]
    code, lines = patched_pipeline.run(manual_approval=True)
    assert code == WAITING
    assert "04a_challenger_validation_2025-05.html" in lines[-1]
    assert "04b_challenger_approval_2025-05" not in patched_pipeline.ran()


def test_person_approves_only_the_gate_page_that_waits(patched_pipeline):
    patched_pipeline.edit("04a_challenger_validation", PASSED)
    costs = {"OFFER_COST_USD": "900"}
    code, lines = patched_pipeline.run(months=4, overrides=costs, manual_approval=True)
    assert code == WAITING
    folders = f"--home {settings.home()} --reports {settings.reports()}"
    call = f"run_all.py --months 4 -p OFFER_COST_USD=900 {folders}"
    assert f"go on with:  {call} --approve-as 'YOUR NAME'" in lines[-1]
    patched_pipeline.ran()
    for other in (
        {"approver": "Ada"},
        {"overrides": {"APPROVER": "Ada"}},
        {"overrides": costs, "approver": "Ada", "start": "04a_challenger_validation"},
    ):
        message = "waits for approval, and this call would run it again"
        with pytest.raises(UsageError, match=message) as raised:
            patched_pipeline.run(months=4, **other)
        assert call in str(raised.value) and patched_pipeline.ran() == []
    code, _ = patched_pipeline.run(months=4, overrides=costs, approver="Ada")
    assert code == DONE
    assert "04a_challenger_validation" not in patched_pipeline.ran()
    code, _ = patched_pipeline.run(months=4, approver="Ada")  # no approval is waited for any more
    assert code == DONE


def test_production_that_raises_is_a_failed_stage(patched_pipeline, monkeypatch):
    def fail(function, *arguments, report):
        raise ChurnError("no snapshot of 2025-03 was delivered")

    monkeypatch.setattr(warm_process, "call_in_warm_process", fail)
    message = "(?s)production failed: ChurnError: no snapshot of 2025-03.*production_failed.txt"
    with pytest.raises(StageError, match=message):
        patched_pipeline.run()


def test_months_cannot_be_run_alone(patched_pipeline):
    patched_pipeline.run()
    with pytest.raises(UsageError, match="use --from production"):
        patched_pipeline.run(only=("production",))


def test_notebook_edited_during_a_run_belongs_to_the_next(patched_pipeline):
    path = patched_pipeline.notebooks / "02_hyperparameter_optimisation.ipynb"
    edit = (
        f"p = {str(path)!r}; t = open(p).read()\n"
        "open(p, 'w').write(t.replace('# seed', '# seed, edited'))"
    )
    patched_pipeline.edit("03_model_registry", edit)
    patched_pipeline.run()
    assert sorted(patched_pipeline.ran()) == sorted(ALL)
    patched_pipeline.run()
    assert "02_hyperparameter_optimisation" in patched_pipeline.ran()


def test_changed_notebook_runs_again_with_what_needs_it(patched_pipeline):
    patched_pipeline.run()
    patched_pipeline.ran()
    patched_pipeline.edit("04a_challenger_validation", "x = 2")
    patched_pipeline.run()
    assert patched_pipeline.ran()[:3] == ALL[4:7]


def test_only_and_from_repeat_finished_stages(patched_pipeline):
    with pytest.raises(UsageError, match="--only 03_model_registry needs 02_hyper"):
        patched_pipeline.run(only=("03_model_registry",))
    patched_pipeline.run()
    patched_pipeline.ran()
    patched_pipeline.run(only=("03_model_registry",))
    assert patched_pipeline.ran() == ["03_model_registry"]
    patched_pipeline.run()
    assert patched_pipeline.ran()[:3] == ALL[4:7]  # what needs it is no longer up to date
    patched_pipeline.run(start="04b_challenger_approval")
    assert patched_pipeline.ran()[:2] == ALL[5:7]


def test_failed_repetition_is_not_taken_for_the_run_before(patched_pipeline):
    patched_pipeline.run()
    path = patched_pipeline.notebooks / "03_model_registry.ipynb"
    original = path.read_text()
    patched_pipeline.edit("03_model_registry", "raise ValueError('no')")
    with pytest.raises(StageError):
        patched_pipeline.run(start="02_hyperparameter_optimisation")
    path.write_text(original)
    patched_pipeline.ran()
    patched_pipeline.run()
    assert patched_pipeline.ran()[:4] == ALL[3:7]


def test_without_a_champion_its_stages_are_left_out(patched_pipeline, monkeypatch):
    monkeypatch.setattr(deployments, "champion_at", lambda date: None)
    code, lines = patched_pipeline.run()
    assert code == DONE
    assert set(patched_pipeline.ran()) == set(ALL[:6])
    assert sum("is left out" in line for line in lines) == 6
    code, lines = patched_pipeline.run()
    assert code == DONE
    assert patched_pipeline.ran() == []
    assert any("is finished" in line for line in lines)
