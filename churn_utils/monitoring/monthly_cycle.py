"""The monthly cycle: ingest, decide, score; and run the months one after the other.

A month is a date of simulated time. Every step of it can be repeated: rows are merged, and a
decision that stands is not made again.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from churn_utils.data import table_writes, tables
from churn_utils.features import offers, offline
from churn_utils.features.publishing import PublishedSnapshot
from churn_utils.inference import batch
from churn_utils.monitoring import decision, drift, drift_tests, history, ingestion, performance
from churn_utils.monitoring.champion import Champion, load_champion
from churn_utils.monitoring.decision import Decision, Delivery
from churn_utils.monitoring.retraining_value import WINDOW_MONTHS
from churn_utils.registry import deployments, versions
from churn_utils.training import models
from churn_utils.upstream import months
from churn_utils.upstream.months import ONE_MONTH, MonthSource


def decide_month(as_of: pd.Timestamp, published: PublishedSnapshot) -> Decision:
    """Decide what an as-of month calls for and write it to ``decisions``.

    A decision that stands is returned as it is. Only a quarantine is decided again, once the
    month was delivered again and is sound. ``published`` is what ``ingest_month`` returned.

    Also writes to ``monitoring_metrics`` the performance of the month before, whose labels are here
    now, and how far the new snapshot lies from the champion's training data.

    Raises:
        DataError: no champion is in effect.
    """
    delivery = Delivery(published.delivered, published.quarantined, published.faults)
    decided = history.read_decisions()
    standing = _find_standing(decided, as_of, delivery)
    if standing is not None:
        return standing
    champion = load_champion(batch.choose_version(as_of, "champion"))
    current = champion.keep_complete(history.read_inputs(as_of, as_of), f"drift of {as_of:%Y-%m}")
    labelled = champion.keep_complete(_read_recent_labelled(as_of), f"labels by {as_of:%Y-%m}")
    made = drift.decide(as_of, delivery, current, labelled, champion, decided)
    table_writes.merge("monitoring_metrics", _measure_month(as_of, champion, current))
    table_writes.merge("decisions", made.to_frame())
    return made


def _find_standing(
    decided: pd.DataFrame, as_of: pd.Timestamp, delivery: Delivery
) -> Decision | None:
    """Return the decision that stands for a month, or None if it is to be decided."""
    rows = decided[decided["as_of_date"] == as_of]
    if rows.empty:
        return None
    standing = Decision.from_row(rows.iloc[0])
    was_corrected = standing.action == decision.QUARANTINE and not drift.is_broken(delivery)
    return None if was_corrected else standing


def _read_recent_labelled(as_of: pd.Timestamp) -> pd.DataFrame:
    """Return the labelled rows known at a date, as far back as the decision looks."""
    since = as_of - pd.DateOffset(months=max(WINDOW_MONTHS))
    rows = offline.read_labelled(as_of, since=since)
    has_features = rows["lookup_status"] == "found"
    return rows[has_features]


def _measure_month(as_of: pd.Timestamp, champion: Champion, current: pd.DataFrame) -> pd.DataFrame:
    """Return the month's rows of ``monitoring_metrics``.

    They hold performance (by version and slice) and shift of the labels of the month before, and
    the shift of this month's features.
    """
    before = as_of - ONE_MONTH
    window = f"{before:%Y-%m}"
    parts = []
    scored = history.read_scored(before, as_of)
    if len(scored):
        economics = champion.economics
        parts.append(performance.measure_performance(scored, as_of, window, economics))
    if len(current):
        shift = drift_tests.measure_shift(champion.with_score(current), champion.reference)
        moved = drift_tests.list_shift_metrics(shift)
        month = f"{as_of:%Y-%m}"
        parts.append(performance.stamp(moved, as_of, month, champion.version, len(current)))
    labels = offers.keep_untreated(history.read_known_labels(before, as_of))
    churn = drift_tests.measure_label_shift(
        labels["churned"], champion.training_rows["churned"], offers.sample_weights(labels)
    )
    parts.append(performance.stamp(churn, as_of, window, champion.version, len(labels)))
    return pd.concat(parts, ignore_index=True)


def score_month(as_of: pd.Timestamp) -> int:
    """Score a month with the champion, and its predecessor in the shadow; count the customers.

    Also writes the estimated performance to ``monitoring_metrics``. A quarantined month is not
    scored; once corrected, it is filled in with role ``backfill``.
    """
    if as_of in history.list_quarantined_months():
        return 0
    champion = versions.read_version(batch.choose_version(as_of, "champion"))
    predictions = batch.score_with(champion, as_of, as_of, "champion")
    scored_by_champion = len(predictions)
    predecessor = deployments.predecessor_at(as_of)
    if predecessor is not None:
        shadow = batch.score_snapshot(as_of, as_of, "shadow", version=predecessor)
        predictions = pd.concat([predictions, shadow])
    window = f"{as_of:%Y-%m}"
    errors = {
        version: load_champion(version).calibration_error
        for version in predictions["model_version"].unique()
    }
    estimate = performance.estimate_performance(
        predictions, as_of, window, champion.economics, errors
    )
    table_writes.merge("monitoring_metrics", estimate)
    return scored_by_champion


def backfill_months(as_of: pd.Timestamp) -> None:
    """Score, once, the quarantined months that were corrected since; no offer depends on it."""
    waiting = history.list_quarantined_months() - history.list_scored_months("backfill")
    for month in waiting:
        if month >= as_of:
            continue
        rows = tables.read("customer_features", snapshot_date=month, as_of=as_of)
        if (rows["written_at"] > month).any():
            batch.score_snapshot(month, as_of, "backfill")


@models.one_thread
def run_months(
    until: pd.Timestamp, source: MonthSource, report: Callable[[str], None] = print
) -> Decision | None:
    """Run the months that have not been run yet, until one of them calls for a retraining.

    A retraining counts as done, whether the challenger was promoted or refused, once the champion
    has scored the month that called for it.

    Args:
        until: last as-of month.
        source: the one that this home is bound to.
        report: called with a line of text for each month.

    Returns:
        The decision that calls for a retraining, or None when all months have been run.

    Raises:
        DataError: no champion, or a month that was not delivered.
        UsageError: this home follows another source.
    """
    months.bind_home(source)
    scored = history.list_scored_months("champion")
    second = months.first_month(source) + ONE_MONTH  # notebook 01 has ingested it
    for as_of in pd.date_range(max(scored, default=second), until, freq="MS"):
        if as_of > second and as_of not in scored:
            made = decide_month(as_of, ingestion.ingest_month(as_of, source))
            report(f"{as_of:%Y-%m}  {made.action}: {made.reason}")
            if made.action == decision.RETRAIN:
                return made
        backfill_months(as_of)
        score_month(as_of)
    return None
