"""Score a snapshot with the champion in effect, and list the customers who are worth an offer."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from churn_utils import settings
from churn_utils.data import table_writes
from churn_utils.data.files import write_csv
from churn_utils.errors import DataError
from churn_utils.evaluation.economics import OFFER
from churn_utils.features import definitions, model_inputs, offer_policy, offers, offline
from churn_utils.inference import scoring
from churn_utils.registry import deployments, promotion, versions
from churn_utils.registry.versions import ModelVersion

ROLES = ["champion", "shadow", "backfill"]
ROWS_AT_ONCE = 100_000
IDS_SHOWN = 5
REASONS = ["reason_1", "reason_2", "reason_3"]
RETENTION_LIST = [
    *("rank", "customer_id", "churn_probability", "expected_value_usd"),
    *REASONS,
    *("snapshot_date", "model_version"),
]


def score_snapshot(
    snapshot_date: pd.Timestamp,
    as_of: pd.Timestamp,
    role: str,
    customer_ids: list[str] | None = None,
    version: int | None = None,
) -> pd.DataFrame:
    """Score customers of a snapshot as known at ``as_of`` and write ``predictions``.

    Args:
        snapshot_date: month whose features are used.
        as_of: simulated date of scoring; decides features, champion and ``scored_at``.
        role: ``champion``, ``shadow`` or ``backfill`` (a month that was over before the champion
            was trained).
        customer_ids: only these; the whole snapshot if None.
        version: another version than the champion in effect; only in the shadow.

    Returns:
        The predictions, in customer order: columns of the table ``predictions``. The same call
        again changes no row of the table. Customers whose row lacks an input of the version,
        because the feature was defined later, are not among them; the log says how many.

    Raises:
        DataError: unknown role, a version that is named for another role than the shadow, no
            champion in effect, no features of that month, unknown customers, or no row that holds
            all inputs of the version.
    """
    scoring_version = versions.read_version(choose_version(as_of, role, version))
    return score_with(scoring_version, snapshot_date, as_of, role, customer_ids)


def score_with(
    scoring_version: ModelVersion,
    snapshot_date: pd.Timestamp,
    as_of: pd.Timestamp,
    role: str,
    customer_ids: list[str] | None = None,
) -> pd.DataFrame:
    """Score as ``score_snapshot`` does, with a version that was read before.

    Where this home makes offers, what becomes of the champion's decisions goes to ``offers``.
    """
    rows = read_scoring_rows(snapshot_date, as_of, customer_ids)
    rows = _keep_complete(rows, scoring_version)
    parts = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows.iloc[start : start + ROWS_AT_ONCE]
        parts.append(scoring.score_rows(scoring_version, part))
    predictions = rows[["customer_id", "snapshot_date"]].assign(
        model_version=scoring_version.version, role=role
    )
    predictions = predictions.join(pd.concat(parts)).assign(scored_at=as_of)
    table_writes.merge("predictions", predictions)
    policy = offer_policy.read_policy()
    if role == "champion" and policy is not None:
        offers.record_offers(predictions, policy)
    return predictions


def _keep_complete(rows: pd.DataFrame, version: versions.ModelVersion) -> pd.DataFrame:
    """Return the rows that hold all inputs of a version."""
    inputs = model_inputs.inputs_of(scoring.load_model(version))
    use = f"the predictions of version {version.version}"
    complete = model_inputs.drop_incomplete(rows, inputs, use).reset_index(drop=True)
    if complete.empty:
        lacking = model_inputs.describe_lacking(rows, inputs).value_counts().to_dict()
        raise DataError(
            f"version {version.version} cannot score any of {len(rows)} rows: they were written "
            f"before some of its features were defined {lacking}. Run "
            "`python -m churn_utils republish-features`, then score again."
        )
    return complete


def choose_version(as_of: pd.Timestamp, role: str, version: int | None = None) -> int:
    """Return the version that scores in a role: the champion in effect, or the one named.

    Args:
        as_of: simulated date of scoring.
        role: one of ``ROLES``.
        version: another version than the champion; only for the role ``shadow``.

    Raises:
        DataError: unknown role, a version named for another role, or no champion in effect.
        DeploymentError: the champion's approval, evidence, files or costs were changed.
    """
    if role not in ROLES:
        raise DataError(f"there is no role {role!r}; the roles are {', '.join(ROLES)}.")
    if version is not None:
        if role != "shadow":
            raise DataError(
                f"version {version} was named for role {role!r}; a version may be named in the "
                "shadow only."
            )
        return version
    champion = deployments.champion_at(as_of)
    if champion is None:
        raise DataError(
            f"no champion is in effect on {as_of:%Y-%m-%d}; promote one first (notebooks 02 to "
            "04b)."
        )
    promotion.check_deployed(champion)
    return champion


def read_scoring_rows(
    snapshot_date: pd.Timestamp, as_of: pd.Timestamp, customer_ids: list[str] | None = None
) -> pd.DataFrame:
    """Read the model inputs of a snapshot as known at ``as_of``.

    Returns:
        One row per customer, in customer order: ``customer_id, snapshot_date`` and the model
        inputs, on-demand features included.

    Raises:
        DataError: the snapshot has no features by then, or lacks some of the customers.
    """
    rows = offline.read_features(snapshot_date=snapshot_date, as_of=as_of)
    if rows.empty:
        raise DataError(
            f"no features of {snapshot_date:%Y-%m-%d} had been written by {as_of:%Y-%m-%d}."
        )
    if customer_ids is not None:
        unknown = sorted(set(customer_ids) - set(rows["customer_id"]))
        if unknown:
            more = " …" if len(unknown) > IDS_SHOWN else ""
            raise DataError(
                f"{len(unknown)} customer(s) are not in the snapshot of {snapshot_date:%Y-%m-%d}: "
                f"{', '.join(unknown[:IDS_SHOWN])}{more}. Nothing was scored."
            )
        rows = rows[rows["customer_id"].isin(customer_ids)].reset_index(drop=True)
    return definitions.add_on_demand(rows)


def build_retention_list(predictions: pd.DataFrame, as_of: pd.Timestamp, size: int) -> pd.DataFrame:
    """Rank the customers who are worth an offer by expected value and say why they may leave.

    The control group is left out where offers are made.

    Args:
        predictions: as ``score_snapshot`` returns them, of one snapshot and version.
        as_of: date that the features are read as of.
        size: at most this many customers.

    Returns:
        Columns ``RETENTION_LIST``, best first; empty when no offer pays.
    """
    selected = predictions[predictions["decision"] == OFFER]
    selected = selected[~selected["customer_id"].isin(_list_control(predictions))]
    ranked = selected.sort_values(["expected_value_usd", "customer_id"], ascending=[False, True])
    worth = ranked.head(size).reset_index(drop=True)
    if worth.empty:
        return worth.reindex(columns=RETENTION_LIST)
    worth = worth.assign(rank=range(1, len(worth) + 1))
    snapshot_date = predictions["snapshot_date"].iloc[0]
    version = versions.read_version(int(predictions["model_version"].iloc[0]))
    rows = _keep_complete(read_scoring_rows(snapshot_date, as_of), version)
    chosen = rows.set_index("customer_id").loc[worth["customer_id"]].reset_index()
    model = scoring.load_model(version)
    reasons = scoring.explain_rows(model, chosen, rows, top=len(REASONS))
    return worth.join(reasons)[RETENTION_LIST]


def _list_control(predictions: pd.DataFrame) -> pd.Series:
    """Return the ids of the customers of a snapshot who were selected and get no offer."""
    made = offers.read_offers(snapshot_date=predictions["snapshot_date"].iloc[0])
    return made.loc[made["group"] == offer_policy.CONTROL, "customer_id"]


def write_retention_list(table: pd.DataFrame, as_of: pd.Timestamp) -> Path:
    """Write a retention list into the run's reports folder, probabilities and USD rounded.

    Returns:
        Path of ``retention_list_<month>.csv``.
    """
    path = settings.run_reports() / f"retention_list_{as_of:%Y-%m}.csv"
    write_csv(path, table.round({"churn_probability": 4, "expected_value_usd": 2}))
    return path
