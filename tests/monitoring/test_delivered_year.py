"""Months of a company of which several are not as they should be, run as they come."""

import delivered_year
import factories
import pandas as pd
import pytest
from delivered_year import REASON

from churn_utils.data import tables
from churn_utils.monitoring import accepted_deliveries, history, monthly_cycle
from churn_utils.monitoring.ingestion import ingest_month
from churn_utils.registry import approvals, promotion
from churn_utils.settings import month_start
from churn_utils.simulation.scenarios import Simulation
from churn_utils.upstream import export, months


@pytest.fixture
def company(built_home, tmp_path):
    """A company whose first month trained the champion of this home."""
    path, contents = built_home
    with factories.at_copy(path, tmp_path):
        version = contents["version"]
        factories.pass_gate(version, factories.AS_OF)
        approvals.approve(version, "Ada Lovelace", "tested", factories.AS_OF)
        promotion.promote(version, factories.AS_OF)
        exported = tmp_path / "exported"
        export.export_deliveries(exported, Simulation("none", seed=5), last=8)
        yield delivered_year.Company(exported, tmp_path / "months")


def run_available(company):
    """Run the months that have come; return how far the folder goes."""
    source = months.open_source("", 0, str(company.target))
    found = months.find_available(source)
    if found.last == month_start(1):
        ingest_month(found.last, source)
    monthly_cycle.run_months(found.last, source)
    return found


def read_decisions():
    decided = history.read_decisions().set_index("as_of_date")["decision"]
    return {f"{month:%Y-%m}": action for month, action in decided.items()}


def test_bad_late_corrected_and_missing_months(company):
    decisions = {}
    for step in delivered_year.play(company):
        if step.accepted:
            accepted_deliveries.accept_delivery(step.accepted, "Ada Lovelace", REASON)
        found = run_available(company)
        decisions |= step.decisions
        assert f"{found.last:%Y-%m}" == step.last
        assert found.waiting.startswith(step.waiting)
        assert read_decisions() == decisions
    assert delivered_year.find_lost(company.target) == {}
    scored = tables.read("predictions").groupby("role")["snapshot_date"].unique()
    as_they_came = ["2025-02", "2025-03", "2025-04", "2025-06", "2025-08"]
    assert sorted(scored["champion"]) == [pd.Timestamp(month) for month in as_they_came]
    assert list(scored["backfill"]) == [pd.Timestamp("2025-05")]  # once it was corrected
    why = history.read_decisions().set_index("as_of_date")["why"]
    assert "its rows are those of 2025-06" in why[pd.Timestamp("2025-07")]
