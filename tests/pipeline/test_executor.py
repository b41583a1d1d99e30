"""The retraining branch and going back in time, over tiny notebooks (``tiny``, ``conftest``)."""

import pytest
from notebook_factory import ALL, MAY, RETRAINED, RUN

from churn_utils import settings
from churn_utils.errors import ChurnError, StageError, UsageError
from churn_utils.pipeline import executor, runner
from churn_utils.pipeline import state as run_state
from churn_utils.pipeline.stages import Plan
from churn_utils.registry import deployments


def test_a_retraining_runs_its_stages_for_its_month_and_production_goes_on(notebooks, ran, asked):
    asked.append(MAY)
    assert runner.run(Plan(), say=lambda line: None) == runner.DONE
    order = ran()
    assert sorted(order) == sorted(ALL + RETRAINED)
    assert order.index("production") < order.index("02_hyperparameter_optimisation_2025-05")
    assert order.index("05_batch_inference") < order.index("production")
    looks, approval = (
        order.index("08_drift_detection_2025-05"),
        order.index("04b_challenger_approval"),
    )
    assert looks > order.index("production") > approval
    assert sorted(order[-2:]) == ALL[9:]


def test_a_finished_retraining_is_not_run_again(notebooks, ran, asked):
    asked.append(MAY)
    runner.run(Plan(), say=lambda line: None)
    ran()
    assert runner.run(Plan(), say=lambda line: None) == runner.DONE
    assert ran() == []


def test_more_months_go_on_from_the_last_retraining(notebooks, ran, asked):
    asked.append(MAY)
    runner.run(Plan(), say=lambda line: None)
    ran()
    assert runner.run(Plan(months=9), say=lambda line: None) == runner.DONE
    assert sorted(ran()) == ["07_model_monitoring", "08_drift_detection", "production"]


def test_a_stage_before_production_brings_its_months_again(notebooks, ran, asked):
    asked += [MAY, None, None]
    runner.run(Plan(), say=lambda line: None)
    ran()
    lines = []
    assert runner.run(Plan(start="04b_challenger_approval"), say=lines.append) == runner.DONE
    assert sorted(ran()) == sorted(ALL[5:])  # this time nothing asked for a retraining
    folder = settings.reports() / RUN
    assert not list(folder.glob("*_2025-05.html")) and not list(
        (folder / "notebooks").glob("*_2025-05.ipynb")
    )


def test_manual_approval_waits_at_every_approval(notebooks, ran, asked):
    summary = "from churn_utils.reports import html\nhtml.Summary(gate='pass')"
    notebooks("04a_challenger_validation", summary)
    asked.append(MAY)
    lines = []
    assert runner.run(Plan(manual_approval=True), say=lines.append) == runner.WAITING
    assert sorted(ran()) == ALL[:5] and "04a_challenger_validation.html" in lines[-1]
    assert (
        runner.run(Plan(approver="Ada", only=("04b_challenger_approval",)), say=lines.append)
        == runner.DONE
    )
    assert ran() == ["04b_challenger_approval"]
    assert runner.run(Plan(manual_approval=True), say=lines.append) == runner.WAITING
    assert "04a_challenger_validation_2025-05.html" in lines[-1]
    assert "04b_challenger_approval_2025-05" not in ran()


def test_a_person_approves_what_waits_and_not_what_the_call_would_make_anew(
    notebooks, ran, tmp_path
):
    notebooks(
        "04a_challenger_validation",
        "from churn_utils.reports import html\nhtml.Summary(gate='pass')",
    )
    lines, costs = [], {"OFFER_COST_USD": "900"}
    assert (
        runner.run(Plan(months=4, overrides=costs, manual_approval=True), say=lines.append)
        == runner.WAITING
    )
    call = f"run_all.py --months 4 -p OFFER_COST_USD=900 --home {settings.home()} --reports {settings.reports()}"
    assert f"go on with:  {call} --approve-as 'YOUR NAME'" in lines[-1]
    ran()
    for other in (
        Plan(months=4, approver="Ada"),
        Plan(months=4, overrides={"APPROVER": "Ada"}),
        Plan(months=4, overrides=costs, approver="Ada", start="04a_challenger_validation"),
    ):
        with pytest.raises(
            UsageError, match="waits for approval, and this call would run it again"
        ) as raised:
            runner.run(other, say=lines.append)
        assert call in str(raised.value) and ran() == []
    assert (
        runner.run(Plan(months=4, overrides=costs, approver="Ada"), say=lines.append) == runner.DONE
    )
    assert "04a_challenger_validation" not in ran()
    assert (
        runner.run(Plan(months=4, approver="Ada"), say=lines.append) == runner.DONE
    )  # nothing waits any more


def test_production_that_raises_is_a_failed_stage(notebooks, monkeypatch):
    def fail(function, *arguments, report):
        raise ChurnError("no snapshot of 2025-03 was delivered")

    monkeypatch.setattr(executor.kernels, "call_in_warm_process", fail)
    with pytest.raises(
        StageError,
        match="(?s)production failed: ChurnError: no snapshot of 2025-03.*production_failed.txt",
    ):
        runner.run(Plan(), say=lambda line: None)


def test_a_shorter_run_takes_the_retraining_beyond_it_back(notebooks, ran, asked):
    asked += [MAY, None, None, MAY]
    runner.run(Plan(), say=lambda line: None)
    runner.run(Plan(months=3), say=lambda line: None)
    held = run_state.read_state()
    assert not [name for name in [*held["stages"], *held["began"]] if name.endswith("2025-05")]
    ran()
    runner.run(Plan(), say=lambda line: None)
    assert sorted(ran()) == sorted([*ALL[8:], *RETRAINED])


def test_what_needs_a_stage_that_ran_alone_is_run_again_and_its_retraining_taken_back(
    notebooks, ran, asked
):
    asked += [MAY, None, None]
    runner.run(Plan(), say=lambda line: None)
    runner.run(Plan(only=("05_batch_inference",)), say=lambda line: None)
    assert (
        "04b_challenger_approval_2025-05" in run_state.read_state()["began"]
    )  # still known, so it can be taken back
    ran()
    runner.run(Plan(), say=lambda line: None)
    assert sorted(ran()) == sorted(ALL[7:])
    held = run_state.read_state()
    assert not [name for name in [*held["stages"], *held["began"]] if name.endswith("2025-05")]


def test_months_cannot_be_played_alone(notebooks):
    runner.run(Plan(), say=lambda line: None)
    with pytest.raises(UsageError, match="use --from production"):
        runner.run(Plan(only=("production",)), say=lambda line: None)


def test_a_rewind_that_was_interrupted_is_completed_by_the_next_run(notebooks, monkeypatch):
    runner.run(Plan(), say=lambda line: None)
    rewound = []
    monkeypatch.setattr(executor.tables, "rewind", lambda table, version: rewound.append(table))

    def interrupt():
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(executor.deployments, "realign_champion", interrupt)
        with pytest.raises(KeyboardInterrupt):
            runner.run(Plan(start="04b_challenger_approval"), say=lambda line: None)
    assert (
        "05_batch_inference" not in run_state.read_state()["stages"]
        and run_state.read_state()["rewind"]
    )
    rewound.clear()
    monkeypatch.setattr(executor.deployments, "realign_champion", lambda: rewound.append("alias"))
    assert runner.run(Plan(), say=lambda line: None) == runner.DONE
    assert {"deployments", "predictions", "decisions", "alias"} <= set(
        rewound
    ) and not run_state.read_state()["rewind"]


def test_a_repeated_promotion_is_taken_back_on_record(notebooks):
    write = (
        "import pandas as pd; from churn_utils import settings; from churn_utils.data import tables\n"
        "row = {'entry': 1, 'effective_from': settings.month_start(1), 'version': 1, 'effective_to': pd.NaT,\n"
        "       'action': 'promoted', 'approved_by': 'Ada', 'evidence_sha256': 'f', 'reason': 'tested'}\n"
        "tables.merge('deployments', pd.DataFrame([row]))"
    )
    notebooks("04b_challenger_approval", write)
    runner.run(Plan(), say=lambda line: None)
    assert (
        deployments.version_in_effect() == 1 and deployments.read_audit().empty
    )  # the tiny notebook wrote none
    notebooks("04b_challenger_approval")
    runner.run(Plan(start="04b_challenger_approval"), say=lambda line: None)
    assert deployments.version_in_effect() is None
    assert deployments.read_audit()[["action", "replaced"]].values.tolist() == [["taken back", 1]]


def test_a_notebook_that_is_edited_while_the_run_goes_on_belongs_to_the_next_one(notebooks, ran):
    path = settings.notebooks() / "02_hyperparameter_optimisation.ipynb"
    edit = f"p = {str(path)!r}; t = open(p).read(); open(p, 'w').write(t.replace('# seed', '# seed, edited'))"
    notebooks("03_model_registry", edit)
    runner.run(Plan(), say=lambda line: None)
    assert sorted(ran()) == sorted(ALL)
    runner.run(Plan(), say=lambda line: None)
    assert "02_hyperparameter_optimisation" in ran()


def test_pages_of_what_was_taken_back_do_not_pose_as_the_present(notebooks):
    runner.run(Plan(), say=lambda line: None)
    notebooks("04b_challenger_approval", "raise ValueError('no')")
    with pytest.raises(StageError):
        runner.run(Plan(), say=lambda line: None)
    folder = settings.reports() / RUN
    assert not (folder / "08_drift_detection.html").exists()
    assert "08_drift_detection.html" not in (folder / "index.html").read_text()
