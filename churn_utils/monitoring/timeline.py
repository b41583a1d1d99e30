"""What happened when, and the evidence behind the decisions as tables."""

from __future__ import annotations

import pandas as pd

from churn_utils import settings
from churn_utils.monitoring import decision, history
from churn_utils.monitoring.decision import Evidence
from churn_utils.registry import deployments
from churn_utils.simulation.scenarios import Simulation

GAIN_COLUMNS = [
    "as_of_date",
    "decision",
    "from",
    "to",
    "rows",
    "gain_usd",
    "lower",
    "upper",
    "newest_gain_usd",
    "prior_gain_usd",
]


def list_events(as_of: pd.Timestamp, simulation: Simulation) -> pd.DataFrame:
    """List what happened up to a date, in order of time.

    Returns:
        ``date, event, what``. Events are ``world`` (the simulated change itself, which monitoring
        is not told of), ``alert``, ``quarantine`` and ``retrain`` (decisions), and ``promoted`` or
        ``refused`` (what became of the retraining).
    """
    events = []
    change = settings.month_start(simulation.start_month)
    if simulation.scenario != "none" and change <= as_of:
        events.append((change, "world", simulation.description))
    decided = history.read_decisions(as_of)
    for row in decided[decided["decision"] != decision.OK].itertuples():
        events.append((row.as_of_date, row.decision, f"{row.diagnosis}: {row.why}"))
    retrainings = decided.loc[decided["decision"] == decision.RETRAIN, "as_of_date"]
    events += _list_outcomes(retrainings, as_of)
    table = pd.DataFrame(events, columns=["date", "event", "what"])
    return table.sort_values("date", kind="stable", ignore_index=True)


def _list_outcomes(retrainings: pd.Series, as_of: pd.Timestamp) -> list[tuple]:
    """Return ``(date, event, what)`` of each retraining whose outcome is known."""
    deployed = deployments.read_deployments()
    events = []
    for date in retrainings:
        promoted = deployed[deployed["effective_from"] == date]
        if len(promoted):
            row = promoted.iloc[-1]
            what = f"version {row['version']}, approved by {row['approved_by']}"
            events.append((date, "promoted", what))
        elif date < as_of:
            events.append((date, "refused", "the challenger did not pass its gate"))
    return events


def tabulate_shifts(decisions: pd.DataFrame) -> pd.DataFrame:
    """Return the shifts by feature and month, the evidence behind alerts.

    Args:
        decisions: rows of the table ``decisions``.

    Returns:
        Index ``feature``, one column of PSI beyond chance per ``as_of_date`` (missing where that
        month's champion did not rely on the feature, and where the delivery was broken), and
        ``use``: the last champion's reliance on the feature (1 for the champion's own score).
    """
    psi: dict[pd.Timestamp, dict[str, float]] = {}
    reliance: dict[str, float] = {}
    for row in decisions.itertuples():
        shifts = Evidence.model_validate_json(row.evidence).shifts
        psi[row.as_of_date] = {name: shift.psi for name, shift in shifts.items()}
        reliance |= {name: shift.use for name, shift in shifts.items()}
    table = pd.DataFrame(psi).assign(use=pd.Series(reliance, dtype=float))
    return table.rename_axis("feature")


def tabulate_gains(decisions: pd.DataFrame) -> pd.DataFrame:
    """Return what a refit would have been worth at each as-of month, for its best window.

    Args:
        decisions: rows of the table ``decisions``.

    Returns:
        ``as_of_date, decision, from, to`` (labelled months), ``rows`` and in USD per customer
        ``gain_usd, lower, upper, newest_gain_usd, prior_gain_usd``; no row for a month without
        labels that were news to the champion.
    """
    rows = []
    for row in decisions.itertuples():
        best = Evidence.model_validate_json(row.evidence).best_window
        if best is not None:
            gain = best.model_dump(by_alias=True)
            rows.append({"as_of_date": row.as_of_date, "decision": row.decision, **gain})
    return pd.DataFrame(rows, columns=GAIN_COLUMNS)
