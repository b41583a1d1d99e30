"""What production left in the tables: decisions and events, metrics, predictions with labels."""

from __future__ import annotations

import pandas as pd

from churn_utils.data import tables
from churn_utils.features import definitions, offers, offline
from churn_utils.monitoring import decision, performance
from churn_utils.monitoring.decision import Evidence
from churn_utils.monitoring.retraining_value import WindowGain
from churn_utils.registry import deployments
from churn_utils.upstream import months
from churn_utils.upstream.months import MonthSource

STORED_GAIN = WindowGain.model_json_schema(mode="serialization")["properties"]  # by stored name
GAIN_COLUMNS = ["as_of_date", "decision", *STORED_GAIN]


def read_decisions(as_of: pd.Timestamp | None = None) -> pd.DataFrame:
    """Return the rows of ``decisions`` (``decision.COLUMNS``) up to a date, oldest first."""
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
    stored = offline.read_features(snapshot_date=snapshot_date, as_of=as_of)
    return definitions.add_on_demand(stored)


def read_known_labels(snapshot_date: pd.Timestamp, as_of: pd.Timestamp) -> pd.DataFrame:
    """Return the labels of a month that had arrived by a date.

    Returns:
        Columns of ``churn_labels``, and ``group`` and ``weight`` as of ``offers.add_weights``.
    """
    labels = tables.read("churn_labels", snapshot_date=snapshot_date)
    known = labels[labels["label_date"] <= as_of]
    return offers.add_weights(known, offers.read_offers(snapshot_date=snapshot_date))


def read_scored(snapshot_date: pd.Timestamp, as_of: pd.Timestamp) -> pd.DataFrame:
    """Return the predictions of a month that were made in time, with slices and known labels.

    Returns:
        Columns of ``predictions``, ``SLICES``, ``churned`` (1.0, 0.0, or missing while the label
        is unknown), ``group`` and ``weight`` (``offers.add_weights``), without backfilled rows; no
        rows for a month that was not scored.
    """
    if not tables.exists("predictions"):
        return pd.DataFrame(
            columns=[
                *("customer_id", "model_version", "role", "churn_probability", "churned"),
                *("group", offers.WEIGHT),
            ]
        )
    predictions = tables.read("predictions", snapshot_date=snapshot_date)
    in_time = predictions[predictions["role"] != "backfill"].reset_index(drop=True)
    features = offline.read_features(snapshot_date=snapshot_date, as_of=as_of)
    slices = features[["customer_id", *definitions.SLICES]]
    rows = in_time.merge(slices, on="customer_id", how="left")
    labels = tables.read("churn_labels", snapshot_date=snapshot_date)
    labelled = performance.join_labels(rows, labels, as_of)
    return offers.add_weights(labelled, offers.read_offers(snapshot_date=snapshot_date))


def read_labelled(snapshot_date: pd.Timestamp, as_of: pd.Timestamp) -> pd.DataFrame:
    """Return the customers of a month that the champion scored in time and whose label is known.

    Those who got an offer are not among them: their labels say what the offer did.

    Returns:
        ``customer_id``, all model inputs, ``model_version, churn_probability, threshold, weight``
        and ``churned`` (0 or 1).
    """
    scored = offers.keep_untreated(read_scored(snapshot_date, as_of))
    by_champion = scored["role"] == "champion"
    scored = scored[by_champion & scored["churned"].notna()].astype({"churned": "int64"})
    columns = ["customer_id", "model_version", "churn_probability", "threshold", "churned"]
    columns.append(offers.WEIGHT)
    return read_inputs(snapshot_date, as_of).merge(scored[columns], on="customer_id")


def read_offered(as_of: pd.Timestamp) -> pd.DataFrame:
    """Return what became of the customers that decisions were made about.

    Returns:
        Columns of ``offers`` and ``churned`` (0 or 1), of the months whose labels had arrived; no
        rows in a home that makes no offers.
    """
    made = offers.read_offers()
    if made.empty:
        return made.assign(churned=pd.Series(dtype="int64"))
    labels = tables.read("churn_labels")
    return performance.join_labels(made, labels, as_of).dropna(subset=["churned"])


def list_events(as_of: pd.Timestamp, source: MonthSource) -> pd.DataFrame:
    """List what happened up to a date, in order of time.

    Returns:
        ``date, event, what``. Events are ``world`` (the simulated change itself, which monitoring
        is not told of), ``alert``, ``quarantine`` and ``retrain`` (decisions), and ``promoted`` or
        ``refused`` (what became of the retraining).
    """
    events = []
    change = months.find_change(source)
    if change is not None and change.month <= as_of:
        events.append((change.month, "world", change.description))
    decided = read_decisions(as_of)
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

    Returns:
        Index ``feature``, one column of PSI beyond chance per ``as_of_date`` (missing where that
        month's champion did not rely on the feature, and where the delivery was broken), and
        ``feature_reliance``: that of the last champion (1 for its own score).
    """
    psi: dict[pd.Timestamp, dict[str, float]] = {}
    reliance: dict[str, float] = {}
    for row in decisions.itertuples():
        shifts = Evidence.model_validate_json(row.evidence).shifts
        psi[row.as_of_date] = {name: shift.psi for name, shift in shifts.items()}
        reliance |= {name: shift.feature_reliance for name, shift in shifts.items()}
    table = pd.DataFrame(psi)
    table["feature_reliance"] = pd.Series(reliance, dtype=float)
    return table.rename_axis("feature")


def tabulate_gains(decisions: pd.DataFrame) -> pd.DataFrame:
    """Return what a refit would have been worth at each as-of month, for its best window.

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
