"""Offers that are made: who gets one, who is kept as control, and what the labels then still say.

A label after an offer says what the offer did, not whether the customer would have churned. A
random part of the customers who are selected for an offer gets none (the control group), so that
the untreated rows, each weighted by 1 / (1 - probability of treatment), stand for all customers:
inverse probability weighting (Horvitz and Thompson, 1952).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from churn_utils.data import table_writes, tables
from churn_utils.errors import DataError
from churn_utils.features.offer_policy import CONTROL, NOT_SELECTED, TREATED, OfferPolicy

WEIGHT = "weight"
KEY = ["customer_id", "snapshot_date"]


def assign_groups(
    customer_ids: pd.Series, is_selected: np.ndarray, policy: OfferPolicy
) -> pd.DataFrame:
    """Divide customers into those who get the offer, the control group and the others.

    Args:
        customer_ids: of all customers that were scored.
        is_selected: whether the model selects each for an offer, shape (n,).
        policy: says who belongs to the control group.

    Returns:
        Same index: ``group`` (``treated``, ``control`` or ``not_selected``) and
        ``treatment_probability``: the share of the selected who are treated, 0 where not selected.
        It is counted and not taken from the policy, because customers that an offer kept are there
        a month later more often than those of the control group.
    """
    decided = zip(customer_ids, is_selected, strict=True)
    groups = [policy.assign(customer_id, selected) for customer_id, selected in decided]
    return _add_probability(pd.Series(groups, index=customer_ids.index, dtype=object))


def _add_probability(groups: pd.Series) -> pd.DataFrame:
    """Return ``group`` and ``treatment_probability``, as ``assign_groups`` says."""
    is_selected = groups != NOT_SELECTED
    treated_share = (groups == TREATED).sum() / max(is_selected.sum(), 1)
    return pd.DataFrame(
        {"group": groups, "treatment_probability": np.where(is_selected, treated_share, 0.0)}
    )


def record_offers(predictions: pd.DataFrame, policy: OfferPolicy) -> pd.DataFrame:
    """Write to ``offers`` what becomes of the champion's decisions about a month.

    Args:
        predictions: as ``batch.score_snapshot`` returns them, in the role ``champion``.
        policy: how this home makes offers.

    Returns:
        The rows written: ``customer_id, snapshot_date, group, treatment_probability,
        model_version, made_at``.
    """
    is_selected = (predictions["decision"] == "offer").to_numpy()
    groups = assign_groups(predictions["customer_id"], is_selected, policy)
    rows = predictions[[*KEY, "model_version"]].join(groups)
    rows = rows.assign(made_at=predictions["scored_at"])
    table_writes.merge("offers", rows)
    return rows


def record_reported(rows: pd.DataFrame, month: pd.Timestamp) -> int:
    """Take in what a company reports about the offers of a month.

    Where this home decided about offers, the report must say the same. Where it did not, the offers
    were made without it: they are written to ``offers``, with version 0.

    Args:
        rows: ``customer_id`` and ``group`` (``treated`` or ``control``; who is not named was not
            selected).
        month: that the rows describe.

    Returns:
        Number of rows written.

    Raises:
        DataError: another group, a customer who is named twice or is not in that month, or a report
            that contradicts what was decided. Nothing is written then.
    """
    customers = tables.read("customers", snapshot_date=month, columns=["customer_id"])
    customers = customers.drop_duplicates(ignore_index=True)
    _check_report(rows, customers["customer_id"], month)
    decided = read_offers(snapshot_date=month)
    if len(decided):
        _check_agrees(rows, decided, month)
        return 0
    made = customers.merge(rows, on="customer_id", how="left")
    groups = _add_probability(made["group"].fillna(NOT_SELECTED))
    facts = {"snapshot_date": month, "model_version": 0, "made_at": month}
    return table_writes.merge("offers", customers.assign(**facts, **groups))


def _check_report(rows: pd.DataFrame, known: pd.Series, month: pd.Timestamp) -> None:
    """Refuse a report of offers whose rows cannot be; ``known`` are the ids of the month."""
    wrong = {
        f"in a group other than {TREATED} and {CONTROL}": ~rows["group"].isin([TREATED, CONTROL]),
        "named twice": rows["customer_id"].duplicated(keep=False),
        "not in that month": ~rows["customer_id"].isin(known),
    }
    for what, is_wrong in wrong.items():
        if is_wrong.any():
            example = rows.loc[is_wrong, "customer_id"].iloc[0]
            raise DataError(
                f"{is_wrong.sum():,} of {len(rows):,} customers in the offers of {month:%Y-%m} "
                f"are {what}, such as {example!r}. None was written; correct the file, then run "
                "again."
            )


def _check_agrees(rows: pd.DataFrame, decided: pd.DataFrame, month: pd.Timestamp) -> None:
    """Refuse a report that contradicts the groups that were decided."""
    both = decided[["customer_id", "group"]].merge(
        rows, on="customer_id", how="left", suffixes=("", "_reported")
    )
    reported = both["group_reported"].fillna(NOT_SELECTED)
    differs = reported != both["group"]
    if differs.any():
        example = both[differs].iloc[0]
        raise DataError(
            f"the offers of {month:%Y-%m} contradict what was decided about {differs.sum():,} of "
            f"{len(both):,} customers, such as {example['customer_id']!r}: {example['group']} by "
            f"the table offers, {reported[differs].iloc[0]} by the file. Nothing was written. What "
            "offers achieve can only be measured where they are made as decided: correct the file, "
            "or leave it out if the decisions were carried out."
        )


def read_offers(
    version: int | None = None, snapshot_date: pd.Timestamp | None = None
) -> pd.DataFrame:
    """Return the rows of ``offers``, of a Delta version or a month; empty where none were made."""
    if not tables.exists("offers"):
        return pd.DataFrame(columns=[*KEY, "group", "treatment_probability", "model_version"])
    return tables.read("offers", version=version, snapshot_date=snapshot_date)


def list_months_without_control(
    rows: pd.DataFrame, month: str = "snapshot_date"
) -> list[pd.Timestamp]:
    """Return the months in which offers were made and no customer was kept as control.

    ``rows`` have the column ``group``, and their month in the column that ``month`` names.
    """
    groups = rows.groupby(month)["group"].agg(set)
    return [date for date, found in groups.items() if TREATED in found and CONTROL not in found]


def describe_missing_control(months: list[pd.Timestamp]) -> str:
    """Return the sentence with which training, gate and drift refuse such months."""
    listed = ", ".join(f"{month:%Y-%m}" for month in months)
    return (
        f"in {listed} offers were made and no customer was kept as control: the labels say what "
        "the offers did and nothing about churn. Keep a control group (--control-share 0.2)"
    )


def add_weights(labels: pd.DataFrame, offers: pd.DataFrame) -> pd.DataFrame:
    """Add to labels what each counts for in learning and judging.

    Args:
        labels: ``customer_id, snapshot_date`` and anything else.
        offers: as ``read_offers`` returns them.

    Returns:
        The labels with ``group`` (empty where no offers were made) and ``weight``: 0 after an
        offer, else 1 / (1 - probability of treatment). Of a month without control group all rows
        weigh 0: those that were not selected stand for no one else.
    """
    if offers.empty:
        return labels.assign(group="", **{WEIGHT: 1.0})
    known = labels[KEY].merge(offers[[*KEY, "group", "treatment_probability"]], on=KEY, how="left")
    is_void = known["snapshot_date"].isin(list_months_without_control(offers))
    is_treated = known["group"] == TREATED
    untreated_share = 1 - known["treatment_probability"].fillna(0.0)
    # A treated row weighs 0; its share may be 0 too, which must not be divided by.
    usual_weight = 1 / untreated_share.where(~is_treated, 1.0)
    weight = np.where(is_treated | is_void, 0.0, usual_weight)
    groups = known["group"].fillna("").to_numpy()
    return labels.assign(group=groups, **{WEIGHT: weight})


def sample_weights(rows: pd.DataFrame) -> np.ndarray | None:
    """Return the weights of rows, shape (n,); None where each counts once, as without offers."""
    if WEIGHT not in rows or (rows[WEIGHT] == 1).all():
        return None
    return rows[WEIGHT].to_numpy(dtype=float)


def draw_by_weight(rows: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Draw as many rows as the rows stand for, each as often as it counts on average.

    It is for tools that take no weights.

    Returns:
        The columns of ``rows``; the same rows where each counts once.
    """
    weights = sample_weights(rows)
    if weights is None:
        return rows
    drawn = rows.sample(round(weights.sum()), replace=True, weights=weights, random_state=seed)
    return drawn.reset_index(drop=True)


def keep_untreated(rows: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows from which something can be learned.

    Returns:
        The columns of ``rows``, of customers without an offer.
    """
    return rows[rows[WEIGHT] > 0] if WEIGHT in rows else rows
