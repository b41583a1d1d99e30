"""What upstream sends about the simulated customers: monthly snapshots as text, and labels."""

from __future__ import annotations

import numpy as np
import pandas as pd

from churn_utils import settings
from churn_utils.data import contract
from churn_utils.data.columns import CUSTOMER_COLUMNS
from churn_utils.features import definitions, labelling
from churn_utils.simulation.customers import NO_OFFERS, Treated, simulate_month
from churn_utils.simulation.scenarios import Simulation

FIRST_LINE = 2  # of a delivered file: line 1 holds the names


def deliver_month(
    customers: pd.DataFrame,
    broken: bool = False,
) -> pd.DataFrame:
    """Write rows of ``simulate_month`` down as upstream sends them.

    With the data bug (``broken``) all charges are in cents and a payment method has a new name.

    Returns:
        Text as ``delivered_files.read_delivery`` returns it for an unlabelled file: no label, no
        slot, no probability. Index ``line``, 2 for the first slot.
    """
    rows = customers[list(CUSTOMER_COLUMNS)].astype({"senior_citizen": str, "tenure": str})
    first_line = int(customers.index[0]) + FIRST_LINE
    rows.index = pd.RangeIndex(first_line, first_line + len(rows), name="line")
    for name in ("monthly_charges", "total_charges"):
        rows[name] = _write_amounts(rows[name], in_cents=broken)
    if broken:
        rows = rows.replace({"payment_method": {"Electronic check": "E-check"}})
    return rows


def _write_amounts(usd: pd.Series, in_cents: bool) -> pd.Series:
    """Return amounts as text; a missing one is empty."""
    text = (usd * 100).map("{:.0f}".format) if in_cents else usd.map("{:.2f}".format)
    return text.where(usd.notna(), "")


def deliver_at(
    as_of_month: int, simulation: Simulation, treated: Treated = NO_OFFERS
) -> dict[int, pd.DataFrame]:
    """Return what arrives at an as-of month, in the order in which it has to be ingested.

    Args:
        as_of_month: its number.
        simulation: the company.
        treated: who got an offer in the months before, by month number.

    Returns:
        Text rows by the month that they describe: that of ``as_of_month`` and, in the month after
        ``data_bug``, ahead of it the corrected file of the month before.
    """
    bug_month = simulation.start_month if simulation.scenario == "data_bug" else None
    delivered = {}
    if bug_month is not None and as_of_month == bug_month + 1:
        delivered[bug_month] = deliver_month(simulate_month(bug_month, simulation, treated))
    broken = as_of_month == bug_month
    delivered[as_of_month] = deliver_month(simulate_month(as_of_month, simulation, treated), broken)
    return delivered


def make_labels(customers: pd.DataFrame) -> pd.DataFrame:
    """Return ``customer_id, slot_id, churn`` (Yes or No) for ``labelling.record_labels``."""
    labels = customers[["customer_id", "slot_id"]]
    return labels.assign(churn=np.where(customers["churned"], "Yes", "No"))


LATER = (
    "churned",
    "churn_probability",
    "probability_with_offer",
    "churns_without_offer",
    "churns_with_offer",
)


def ingest_in_memory(
    month: int, simulation: Simulation, broken: bool = False, treated: Treated = NO_OFFERS
) -> tuple[pd.DataFrame, int]:
    """Deliver, check and featurise a month without any table, and add what is known of it later.

    Args:
        month: its number.
        simulation: the company.
        broken: whether it is sent with the data bug.
        treated: who got an offer in this month and those before, by month number.

    Returns:
        ``(rows, quarantined)``. ``rows`` are those that passed the contract, in order:
        ``customer_id``, the model inputs, ``snapshot_date`` and ``event_date`` (the month),
        ``split``, ``churned`` and what only the simulation knows: ``churn_probability``,
        ``probability_with_offer``, ``churns_without_offer`` and ``churns_with_offer``.
        ``quarantined`` is the number of those that did not pass.
    """
    customers = simulate_month(month, simulation, treated)
    delivery = deliver_month(customers, broken)
    accepted, rejected = contract.check_rows(delivery)

    date = settings.month_start(month)
    stamped = accepted.assign(snapshot_date=date, written_at=date)
    rows = definitions.add_on_demand(definitions.build_features(stamped))

    later = customers.set_axis(delivery.index).loc[accepted.index]
    rows = rows.assign(
        event_date=date,
        split=labelling.split_of(later["slot_id"]),
        **{name: later[name] for name in LATER},
    )
    return rows.reset_index(drop=True), len(rejected)
