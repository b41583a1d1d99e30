"""The clock: at each as-of month labels arrive, a snapshot is taken in, drift decides, the champion scores.

A month is a date of simulated time, and every step of it can be done twice: rows are merged, and a decision that
stands is not made again. What the outside world sends comes from the simulator; whatever comes from elsewhere can be
handed in instead.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import pandas as pd

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.errors import DataError
from churn_utils.features import definitions, offline
from churn_utils.inference import batch, scoring
from churn_utils.monitoring import drift, performance
from churn_utils.registry import deployments
from churn_utils.registry import versions as registry_versions
from churn_utils.settings import month_of
from churn_utils.simulation import customers, deliveries
from churn_utils.simulation.scenarios import Simulation, bind_home_to_scenario
from churn_utils.training import models


def take_in(
    as_of: pd.Timestamp,
    world: Simulation,
    delivered: dict[int, pd.DataFrame] | None = None,
    labels: pd.DataFrame | None = None,
) -> pd.Series:
    """Take in what arrives at an as-of month: corrections, the labels of the month before, the month's snapshot.

    Args:
        as_of: first day of the as-of month.
        world: what the home holds.
        delivered: text rows (``source.read_delivery``) by month; the simulator's when not given.
        labels: of the month before: ``customer_id, churn`` (Yes or No), ``slot_id``; the simulator's when not given.

    Returns:
        What ``publish_snapshot`` counted for the snapshot of ``as_of``.

    Raises:
        DataError: the month before was never taken in, or nothing describes this month. Nothing is written.
        DataError: a delivery without rows; what came before it is kept.
    """
    month = month_of(as_of)
    delivered = deliveries.deliver_at(month, world) if delivered is None else delivered
    _check_turn(as_of, month, delivered)
    for known in sorted(set(delivered) - {month}):
        offline.publish_snapshot(delivered[known], settings.month_start(known), written_at=as_of)
        if known < month - 1:  # its labels came before the correction and wait in quarantine
            _record_labels(
                known, as_of, deliveries.make_labels(customers.simulate_month(known, world))
            )
    _record_labels(
        month - 1,
        as_of,
        deliveries.make_labels(customers.simulate_month(month - 1, world))
        if labels is None
        else labels,
    )
    return offline.publish_snapshot(delivered[month], as_of, written_at=as_of)


def _check_turn(as_of: pd.Timestamp, month: int, delivered: dict[int, pd.DataFrame]) -> None:
    if month not in delivered:
        raise DataError(
            f"no snapshot of {as_of:%Y-%m} was delivered; ask upstream for it, then play the month."
        )
    before = settings.month_start(month - 1)
    if not offline.has_arrived(before):
        raise DataError(
            f"{as_of:%Y-%m} was delivered before {before:%Y-%m} had been taken in. Nothing was written; "
            f"take in {before:%Y-%m} first, then deliver {as_of:%Y-%m} again."
        )


def _record_labels(month: int, as_of: pd.Timestamp, labels: pd.DataFrame) -> None:
    offline.record_labels(labels, settings.month_start(month), as_of, labels["slot_id"])


def read_decisions(as_of: pd.Timestamp | None = None) -> pd.DataFrame:
    """The ``decisions`` table up to a date, oldest first; empty when nothing was decided yet."""
    if not tables.exists("decisions"):
        return pd.DataFrame(columns=drift.COLUMNS).astype({"as_of_date": "datetime64[ns]"})
    table = tables.read("decisions")
    return table if as_of is None else table[table["as_of_date"] <= as_of].reset_index(drop=True)


@lru_cache(maxsize=4)
def _champion(home: str, version: int) -> drift.Champion:
    registered = registry_versions.read_version(version)
    params = registered.params
    versions = {table: int(params[f"{table}_version"]) for table in offline.TRAINING_TABLES}
    since = settings.as_of_date(params["since"]) if params["since"] else None
    training_set = offline.build_training_set(settings.as_of_date(params["as_of"]), versions, since)
    rows = offline.training_rows(training_set, "train")
    return drift.Champion(version, scoring.load_model(registered), rows, rows["event_date"].max())


def load_champion(version: int) -> drift.Champion:
    """A version with its training rows, read at the table versions that its training recorded."""
    return _champion(str(settings.home()), version)


def decide_month(as_of: pd.Timestamp, delivery: pd.Series) -> pd.DataFrame:
    """Decide what an as-of month calls for and write it to ``decisions``; a decision that stands is returned as it is.

    Only a quarantine is decided again, when the month was delivered anew and keeps the contract.

    Also writes to ``monitoring_metrics`` how the month before was answered, now that its labels are here, and how far
    the new snapshot lies from the champion's training data.

    Args:
        as_of: the month; it has been taken in.
        delivery: counts that ``take_in`` returned.

    Returns:
        One row with ``drift.COLUMNS``.

    Raises:
        DataError: no champion is in effect.
    """
    history = read_decisions()
    standing = history[history["as_of_date"] == as_of]
    if len(standing) and not (
        standing["decision"].iloc[0] == drift.QUARANTINE and not drift.is_broken(delivery)
    ):
        return standing
    version = deployments.champion_at(as_of)
    if version is None:
        raise DataError(
            f"no champion is in effect on {as_of:%Y-%m-%d}; promote one first (notebooks 02 to 04b)."
        )
    champion = load_champion(version)
    current = _read_snapshot(as_of, as_of)
    since = settings.month_start(max(0, month_of(as_of) - max(drift.WINDOW_MONTHS)))
    labelled = offline.build_training_set(as_of, since=since)
    labelled = labelled[labelled["lookup_status"] == "found"]
    row = drift.decide(
        as_of,
        delivery.to_dict(),
        current,
        labelled,
        champion,
        history,
        registry_versions.read_version(version).economics,
    )
    tables.merge("monitoring_metrics", _measure_month(as_of, champion, current))
    tables.merge("decisions", row)
    return row


def _read_snapshot(snapshot_date: pd.Timestamp, as_of: pd.Timestamp) -> pd.DataFrame:
    return definitions.add_on_demand(
        tables.read("customer_features", snapshot_date=snapshot_date, as_of=as_of)
    )


def _measure_month(
    as_of: pd.Timestamp, champion: drift.Champion, current: pd.DataFrame
) -> pd.DataFrame:
    """Performance of the month before, by version and slice, and the shift of this month's features and labels."""
    before = as_of - pd.DateOffset(months=1)
    scored = read_scored(before, as_of)
    economics = registry_versions.read_version(champion.version).economics
    parts = (
        [performance.measure_performance(scored, as_of, f"{before:%Y-%m}", economics)]
        if len(scored)
        else []
    )
    if len(current):
        shift = performance.measure_shift(champion.with_score(current), champion.reference)
        parts.append(
            performance.report_shift(shift, as_of, f"{as_of:%Y-%m}", champion.version, len(current))
        )
    labels = tables.read("churn_labels", snapshot_date=before)
    labels = labels[labels["label_date"] <= as_of]
    change = performance.measure_label_shift(labels["churned"], champion.training_rows["churned"])
    stamp = {
        "window": f"{before:%Y-%m}",
        "model_version": champion.version,
        "slice": performance.ALL,
    }
    parts.append(change.assign(as_of_date=as_of, rows=len(labels), **stamp)[performance.COLUMNS])
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def read_scored(snapshot_date: pd.Timestamp, as_of: pd.Timestamp) -> pd.DataFrame:
    """Predictions of a month that were made in time, with slices and what the labels known at ``as_of`` say.

    Returns:
        Columns of ``predictions`` but for the backfilled ones, ``monitoring.SLICES``, ``churned`` (1.0, 0.0, or
        missing); no rows for a month that was not scored.
    """
    if not tables.exists("predictions"):
        return pd.DataFrame(
            columns=["customer_id", "model_version", "role", "churn_probability", "churned"]
        )
    rows = tables.read("predictions", snapshot_date=snapshot_date)
    rows = rows[rows["role"] != "backfill"].reset_index(drop=True)
    groups = tables.read("customer_features", snapshot_date=snapshot_date, as_of=as_of)
    rows = rows.merge(groups[["customer_id", *performance.SLICES]], on="customer_id", how="left")
    return performance.join_labels(
        rows, tables.read("churn_labels", snapshot_date=snapshot_date), as_of
    )


def read_labelled(snapshot_date: pd.Timestamp, as_of: pd.Timestamp) -> pd.DataFrame:
    """Customers of a month that the champion scored in time and whose labels were known at ``as_of``.

    Returns:
        ``customer_id``, all model inputs, ``model_version, churn_probability, threshold`` and ``churned`` (0 or 1).
    """
    scored = read_scored(snapshot_date, as_of)
    scored = scored[(scored["role"] == "champion") & scored["churned"].notna()].astype(
        {"churned": "int64"}
    )
    answers = scored[["customer_id", "model_version", "churn_probability", "threshold", "churned"]]
    return _read_snapshot(snapshot_date, as_of).merge(answers, on="customer_id")


def read_metrics(as_of: pd.Timestamp) -> pd.DataFrame:
    """The ``monitoring_metrics`` known at a date."""
    metrics = tables.read("monitoring_metrics")
    return metrics[metrics["as_of_date"] <= as_of].reset_index(drop=True)


def score_month(as_of: pd.Timestamp) -> int:
    """Score a month's snapshot: the champion for real, the one before it in the shadow; estimate how well.

    A month that was quarantined is not scored; once corrected it is filled in with role ``backfill``.

    Returns:
        Number of customers scored by the champion.
    """
    if as_of in quarantined_months():
        return 0
    predictions = batch.score_snapshot(as_of, as_of, "champion")
    before = deployments.predecessor_at(as_of)
    if before is not None:
        shadow = batch.score_snapshot(as_of, as_of, "shadow", version=before)
        predictions = pd.concat([predictions, shadow])
    economics = registry_versions.read_version(deployments.champion_at(as_of)).economics
    tables.merge(
        "monitoring_metrics",
        performance.estimate_performance(predictions, as_of, f"{as_of:%Y-%m}", economics),
    )
    return int((predictions["role"] == "champion").sum())


def quarantined_months() -> set[pd.Timestamp]:
    """Months whose snapshot was quarantined on arrival."""
    table = read_decisions()
    return set(table.loc[table["decision"] == drift.QUARANTINE, "as_of_date"])


@models.one_thread
def play_months(
    until: pd.Timestamp, world: Simulation, report: Callable[[str], None] = print
) -> pd.DataFrame | None:
    """Play the months that have not been played yet, up to ``until``, or up to one that asks for a retraining.

    A retraining has been dealt with, be the challenger promoted or refused, once the champion has scored its month.

    Args:
        until: last as-of month.
        world: what the home holds.
        report: called with a line of text for each month.

    Returns:
        The decision that asks for a retraining (one row with ``drift.COLUMNS``), or None when all months are played.

    Raises:
        DataError: no champion, or a month that was not delivered.
        UsageError: this home holds another world.
    """
    bind_home_to_scenario(world)
    scored = _months_scored("champion")
    first = max(scored, default=settings.month_start(1))
    for month in range(month_of(first), month_of(until) + 1):
        as_of = settings.month_start(month)
        if month > 1 and as_of not in scored:
            decision = decide_month(as_of, take_in(as_of, world))
            report(f"{as_of:%Y-%m}  {decision['decision'].iloc[0]}: {decision['why'].iloc[0]}")
            if decision["decision"].iloc[0] == drift.RETRAIN:
                return decision
        _backfill(as_of)
        score_month(as_of)
    return None


def play_run(
    until: str, scenario: str, seed: int, report: Callable[[str], None]
) -> dict[str, str] | None:
    """``play_months`` in plain values: ``as_of`` and ``since`` (first month to train on) of a retraining, or None."""
    asked = play_months(settings.as_of_date(until), Simulation(scenario, seed), report)
    if asked is None:
        return None
    return {
        "as_of": f"{asked['as_of_date'].iloc[0]:%Y-%m-%d}",
        "since": f"{asked['labels_from'].iloc[0]:%Y-%m-%d}",
    }


def _months_scored(role: str) -> set[pd.Timestamp]:
    if not tables.exists("predictions"):
        return set()
    rows = tables.read("predictions", columns=["snapshot_date", "role"])
    return set(rows.loc[rows["role"] == role, "snapshot_date"])


def _backfill(as_of: pd.Timestamp) -> None:
    """Score, once, the months that were quarantined and have been corrected since: nobody acts on it any more."""
    for month in quarantined_months() - _months_scored("backfill"):
        rows = tables.read("customer_features", snapshot_date=month, as_of=as_of)
        if month < as_of and (rows["written_at"] > month).any():
            batch.score_snapshot(month, as_of, "backfill")
