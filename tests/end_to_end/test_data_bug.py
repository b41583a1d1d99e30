"""Months with a broken delivery, and the two notebooks that look back at them."""

import factories
import pandas as pd
import pytest

from churn_utils import settings
from churn_utils.monitoring import ingestion
from churn_utils.pipeline import executor, kernels
from churn_utils.pipeline.plan import Plan
from churn_utils.pipeline.schedule import executed_path
from churn_utils.pipeline.stages import DRIFT, MONITORING, PRODUCTION, Stage
from churn_utils.registry import approvals, promotion
from churn_utils.simulation.scenarios import Simulation

pytestmark = [pytest.mark.e2e, pytest.mark.long]

PLAN = Plan(scenario="data_bug", months=4)


@pytest.fixture
def promoted_home(home, monkeypatch):
    """A home with a champion from month 1 on; months and notebooks run in forked processes."""
    version = factories.build_registered_home()["version"]
    factories.pass_gate(version)
    approvals.approve(version, "Ada Lovelace", "tested", factories.AS_OF)
    promotion.promote(version, factories.AS_OF)
    ingestion.ingest_month(factories.AS_OF, Simulation(PLAN.scenario, PLAN.seed))
    monkeypatch.setenv("CHURN_RUN_REPORTS", str(settings.reports()))
    kernels.use_forked_kernels()
    return home


def test_broken_month_is_held_back_and_told(promoted_home):
    reports = settings.reports()
    lines = []
    stage = Stage(PRODUCTION)
    result = executor.run_production(stage, PLAN, 50, reports, lines.append)
    assert result.retrain is None
    assert any(line.startswith("2025-04  quarantine") for line in lines)
    assert any(line.startswith("2025-05  ok") for line in lines)

    # The retention team gets the list of the last month.
    assert result.call_list == "2025-05"
    customers = pd.read_csv(reports / "retention_list_2025-05.csv")
    assert len(customers) == 50 and customers["expected_value_usd"].is_monotonic_decreasing

    # 07 and 08 hold with a month that was not scored, and with nothing to recover from.
    parameters = {"AS_OF": "2025-05-01", "SCENARIO": "data_bug", "PLAY_MONTHS": False}
    for kind in (MONITORING, DRIFT):
        target = executed_path(reports, kind)
        executor.execute_notebook(Stage(kind), parameters, target, lines.append)
        assert target.exists()
