"""What production left in the tables: decisions, metrics, predictions with their labels."""

from __future__ import annotations

import pandas as pd

from churn_utils.data import tables
from churn_utils.features import definitions
from churn_utils.monitoring import decision, performance


def read_decisions(as_of: pd.Timestamp | None = None) -> pd.DataFrame:
    """Return the table ``decisions`` up to a date, oldest first; empty before the first decision.

    Returns:
        Rows with ``decision.COLUMNS``.
    """
    if not tables.exists("decisions"):
        nothing = pd.DataFrame(columns=decision.COLUMNS)
        return nothing.astype({"as_of_date": "datetime64[ns]"})
    table = tables.read("decisions")
    return table if as_of is None else table[table["as_of_date"] <= as_of].reset_index(drop=True)


def list_quarantined_months() -> set[pd.Timestamp]:
    """Return the months whose snapshot was quarantined on arrival."""
    table = read_decisions()
    return set(table.loc[table["decision"] == decision.QUARANTINE, "as_of_date"])


def list_scored_months(role: str) -> set[pd.Timestamp]:
    """Return the months that were scored in a role: ``champion``, ``shadow`` or ``backfill``."""
    if not tables.exists("predictions"):
        return set()
    rows = tables.read("predictions", columns=["snapshot_date", "role"])
    return set(rows.loc[rows["role"] == role, "snapshot_date"])


def read_metrics(as_of: pd.Timestamp) -> pd.DataFrame:
    """Return the rows of ``monitoring_metrics`` (``performance.COLUMNS``) known at a date."""
    metrics = tables.read("monitoring_metrics")
    return metrics[metrics["as_of_date"] <= as_of].reset_index(drop=True)


def read_inputs(snapshot_date: pd.Timestamp, as_of: pd.Timestamp) -> pd.DataFrame:
    """Return a month's rows as known at a date: ``customer_id`` and all model inputs."""
    stored = tables.read("customer_features", snapshot_date=snapshot_date, as_of=as_of)
    return definitions.add_on_demand(stored)


def read_known_labels(snapshot_date: pd.Timestamp, as_of: pd.Timestamp) -> pd.DataFrame:
    """Return the rows of ``churn_labels`` of a month that had arrived by a date."""
    labels = tables.read("churn_labels", snapshot_date=snapshot_date)
    return labels[labels["label_date"] <= as_of]


def read_scored(snapshot_date: pd.Timestamp, as_of: pd.Timestamp) -> pd.DataFrame:
    """Return the predictions of a month that were made in time, with slices and known labels.

    Returns:
        Columns of ``predictions``, ``SLICES`` and ``churned`` (1.0, 0.0, or missing while the label
        is unknown), without backfilled rows; no rows for a month that was not scored.
    """
    if not tables.exists("predictions"):
        return pd.DataFrame(
            columns=["customer_id", "model_version", "role", "churn_probability", "churned"]
        )
    predictions = tables.read("predictions", snapshot_date=snapshot_date)
    in_time = predictions[predictions["role"] != "backfill"].reset_index(drop=True)
    features = tables.read("customer_features", snapshot_date=snapshot_date, as_of=as_of)
    slices = features[["customer_id", *definitions.SLICES]]
    rows = in_time.merge(slices, on="customer_id", how="left")
    labels = tables.read("churn_labels", snapshot_date=snapshot_date)
    return performance.join_labels(rows, labels, as_of)


def read_labelled(snapshot_date: pd.Timestamp, as_of: pd.Timestamp) -> pd.DataFrame:
    """Return the customers of a month that the champion scored in time and whose label is known.

    Returns:
        ``customer_id``, all model inputs, ``model_version, churn_probability, threshold`` and
        ``churned`` (0 or 1).
    """
    scored = read_scored(snapshot_date, as_of)
    by_champion = scored["role"] == "champion"
    scored = scored[by_champion & scored["churned"].notna()].astype({"churned": "int64"})
    columns = ["customer_id", "model_version", "churn_probability", "threshold", "churned"]
    return read_inputs(snapshot_date, as_of).merge(scored[columns], on="customer_id")
