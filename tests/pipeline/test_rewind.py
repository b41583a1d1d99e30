"""Repeating stages takes their tables, pages and retrainings back."""

import pandas as pd
import pytest
from notebook_factory import ALL, MAY, RETRAINED, RUN
from upstream_files import write_months

from churn_utils import settings
from churn_utils.data import quarantine, table_writes, tables
from churn_utils.errors import StageError
from churn_utils.pipeline.plan import DONE, Acceptance
from churn_utils.pipeline.state import read_state
from churn_utils.registry import deployments, promotion


def test_stage_before_production_repeats_its_months(patched_pipeline):
    patched_pipeline.asked += [MAY, None, None]
    patched_pipeline.run()
    patched_pipeline.ran()
    code, _ = patched_pipeline.run(start="04b_challenger_approval")
    assert code == DONE
    assert sorted(patched_pipeline.ran()) == sorted(ALL[5:])  # now no retraining was asked for
    folder = settings.reports() / RUN
    assert not list(folder.glob("*_2025-05.html"))
    assert not list((folder / "notebooks").glob("*_2025-05.ipynb"))


def test_accepted_delivery_repeats_the_months_of_its_stage(patched_pipeline, extract):
    patched_pipeline.run()
    april = settings.month_start(3)
    rows = extract.head(8).drop(columns="churn").reset_index()
    faults = {"failed_column": quarantine.WHOLE_DELIVERY, "reason": "the delivery: 8 rows"}
    quarantine.add(rows.assign(snapshot_date=april, written_at=april, **faults))
    patched_pipeline.ran()
    acceptance = Acceptance("2025-04", "Ada Lovelace", "eight are left")
    code, lines = patched_pipeline.run(acceptance=acceptance)
    assert code == DONE
    assert sorted(patched_pipeline.ran()) == sorted(ALL[8:])
    assert lines[0].startswith("8 rows of 2025-04 are accepted by Ada Lovelace")
    patched_pipeline.run()
    assert patched_pipeline.ran() == []


def test_accepted_month_of_a_folder_repeats_its_stage(patched_pipeline, extract, tmp_path):
    deliveries = str(write_months(tmp_path / "months", number=4))
    plan = {"deliveries": deliveries, "first_month": pd.Timestamp("2026-01"), "months": 3}
    patched_pipeline.run(**plan)
    march = pd.Timestamp("2026-03")
    rows = extract.head(8).drop(columns="churn").reset_index()
    faults = {"failed_column": quarantine.WHOLE_DELIVERY, "reason": "the delivery: 8 rows"}
    quarantine.add(rows.assign(snapshot_date=march, written_at=march, **faults))
    patched_pipeline.ran()
    acceptance = Acceptance("2026-03", "Ada Lovelace", "eight are left")
    code, lines = patched_pipeline.run(**plan, acceptance=acceptance)
    assert code == DONE
    assert sorted(patched_pipeline.ran()) == sorted(ALL[8:])
    assert lines[0].startswith("8 rows of 2026-03 are accepted by Ada Lovelace")


def test_shorter_run_takes_a_later_retraining_back(patched_pipeline):
    patched_pipeline.asked += [MAY, None, None, MAY]
    patched_pipeline.run()
    patched_pipeline.run(months=3)
    run_state = read_state()
    known = [*run_state.results, *run_state.versions_at_start]
    assert not [name for name in known if name.endswith("2025-05")]
    patched_pipeline.ran()
    patched_pipeline.run()
    assert sorted(patched_pipeline.ran()) == sorted([*ALL[8:], *RETRAINED])


def test_stage_run_alone_makes_what_needs_it_stale(patched_pipeline):
    patched_pipeline.asked += [MAY, None, None]
    patched_pipeline.run()
    patched_pipeline.run(only=("05_batch_inference",))
    # still known, so that it can be taken back
    assert "04b_challenger_approval_2025-05" in read_state().versions_at_start
    patched_pipeline.ran()
    patched_pipeline.run()
    assert sorted(patched_pipeline.ran()) == sorted(ALL[7:])
    run_state = read_state()
    known = [*run_state.results, *run_state.versions_at_start]
    assert not [name for name in known if name.endswith("2025-05")]


def test_interrupted_rewind_is_completed_by_the_next_run(patched_pipeline, monkeypatch):
    patched_pipeline.run()
    rewound = []
    monkeypatch.setattr(table_writes, "rewind", lambda table, version: rewound.append(table))

    def interrupt():
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(promotion, "realign_champion", interrupt)
        with pytest.raises(KeyboardInterrupt):
            patched_pipeline.run(start="04b_challenger_approval")
    run_state = read_state()
    assert "05_batch_inference" not in run_state.results and run_state.unfinished_rewind
    rewound.clear()
    monkeypatch.setattr(promotion, "realign_champion", lambda: rewound.append("alias"))
    code, _ = patched_pipeline.run()
    assert code == DONE
    assert {"deployments", "predictions", "decisions", "alias"} <= set(rewound)
    assert not read_state().unfinished_rewind


def test_repeated_promotion_is_recorded_as_taken_back(patched_pipeline):
    write = (
        "import pandas as pd; from churn_utils import settings\n"
        "from churn_utils.data import table_writes\n"
        "row = {'entry': 1, 'effective_from': settings.month_start(1), 'version': 1,\n"
        "       'effective_to': pd.NaT, 'action': 'promoted', 'approved_by': 'Ada',\n"
        "       'evidence_sha256': 'f', 'reason': 'tested'}\n"
        "table_writes.merge('deployments', pd.DataFrame([row]))"
    )
    patched_pipeline.edit("04b_challenger_approval", write)
    patched_pipeline.run()
    assert deployments.version_in_effect() == 1
    assert deployments.read_audit().empty  # the small notebook wrote none
    patched_pipeline.edit("04b_challenger_approval")
    patched_pipeline.run(start="04b_challenger_approval")
    assert deployments.version_in_effect() is None
    audit = deployments.read_audit()
    assert audit[["action", "replaced"]].values.tolist() == [["taken back", 1]]


def test_pages_of_stages_taken_back_are_deleted(patched_pipeline):
    patched_pipeline.run()
    patched_pipeline.edit("04b_challenger_approval", "raise ValueError('no')")
    with pytest.raises(StageError):
        patched_pipeline.run()
    folder = settings.reports() / RUN
    assert not (folder / "08_drift_detection.html").exists()
    assert "08_drift_detection.html" not in (folder / "index.html").read_text()


def test_call_list_of_months_taken_back_is_deleted(patched_pipeline):
    patched_pipeline.call_list = "2025-07"
    patched_pipeline.run()
    path = settings.reports() / RUN / "retention_list_2025-07.csv"
    path.write_text("rank\n")
    patched_pipeline.call_list = None
    patched_pipeline.run(start="production")
    assert not path.exists()


def test_more_months_leave_the_tables_and_the_call_list(patched_pipeline):
    patched_pipeline.call_list = "2025-05"
    patched_pipeline.run(months=4)
    path = settings.reports() / RUN / "retention_list_2025-05.csv"
    path.write_text("the customers of May")
    decided = pd.DataFrame({"as_of_date": [settings.month_start(2)], "decision": ["ok"]})
    table_writes.merge("decisions", decided)  # as the months that were run have left it
    patched_pipeline.run(months=6)
    assert path.exists() and len(tables.read("decisions")) == 1
    # Fewer months take back what the others did.
    patched_pipeline.run(months=5)
    assert tables.read("decisions").empty and not path.exists()
