"""Offers that are made: who gets one, who is kept as control, and what the labels then still say.

A label after an offer says what the offer did, not whether the customer would have churned. A
random part of the customers who are selected for an offer gets none (the control group), so that
the untreated rows, each weighted by 1 / (1 - probability of treatment), stand for all customers:
inverse probability weighting (Horvitz and Thompson, 1952).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.data.files import write_atomically
from churn_utils.errors import DataError, UsageError

NONE, MADE = "none", "made"  # modes
TREATED, CONTROL, NOT_SELECTED = "treated", "control", "not_selected"  # groups
WEIGHT = "weight"
DEFAULT_SHARE = 0.1
KEY = ["customer_id", "snapshot_date"]


@dataclass(frozen=True)
class OfferPolicy:
    """That decisions are carried out, and for which share of the selected they are not.

    Attributes:
        control_share: share of the selected customers who get no offer.
        salt: decides, with a customer's id, who they are.

    Raises:
        UsageError: a share of the control group that is no number from 0 to below 1.
    """

    control_share: float = DEFAULT_SHARE
    salt: str = "control group"

    def __post_init__(self) -> None:
        """Refuse a share that leaves no offer, or is no share."""
        if not 0 <= self.control_share < 1:
            raise UsageError(
                f"the share of the control group is {self.control_share}; valid are numbers from 0 "
                "to below 1, such as 0.1. With 1 no offer would be made."
            )


def _policy_path():
    return settings.home() / "offers.json"


def read_policy() -> OfferPolicy | None:
    """Return how this home makes offers; None if it makes none.

    Raises:
        DataError: the file that says so is damaged.
    """
    path = _policy_path()
    if not path.exists():
        return None
    try:
        stored = json.loads(path.read_bytes())
        return OfferPolicy(float(stored["control_share"]), str(stored["salt"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}, which says how this home makes offers, is damaged: write "
            f"{json.dumps(asdict(OfferPolicy()))} to it if that is right, or start again with "
            "run_all.py --fresh."
        ) from error


def bind_policy(policy: OfferPolicy | None) -> None:
    """Write how this home makes offers, or compare it with what is there.

    Raises:
        UsageError: the home makes offers in another way, or has scored months without any.
    """
    standing = read_policy()
    if standing == policy:
        return
    if standing is None and policy is not None and not tables.exists("predictions"):
        write_atomically(_policy_path(), json.dumps(asdict(policy)))
        return
    raise UsageError(
        f"{settings.home()} {_describe(standing)}, and is now asked to work as one that "
        f"{_describe(policy)}. Use another home (run_all.py --home DIR), or start again with "
        "run_all.py --fresh."
    )


def _describe(policy: OfferPolicy | None) -> str:
    if policy is None:
        return "makes no offers"
    return f"makes offers with a control group of {policy.control_share:.0%}"


def is_control(customer_id: str, policy: OfferPolicy) -> bool:
    """Tell whether a customer belongs to the control group, whenever it is selected.

    It follows from the SHA-256 of the salt and the id, so a customer stays on one side.
    """
    digest = hashlib.sha256(f"{policy.salt} {customer_id}".encode()).hexdigest()
    draw = int(digest[:8], 16) / 2**32  # spread evenly over 0 to 1
    return draw < policy.control_share


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
        ``treatment_probability``, before the draw: 0 where not selected.
    """
    control = [is_control(customer_id, policy) for customer_id in customer_ids]
    groups = np.select([~is_selected, control], [NOT_SELECTED, CONTROL], default=TREATED)
    probability = np.where(is_selected, 1 - policy.control_share, 0.0)
    return pd.DataFrame(
        {"group": groups, "treatment_probability": probability}, index=customer_ids.index
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
    tables.merge("offers", rows)
    return rows


def read_offers(
    version: int | None = None, snapshot_date: pd.Timestamp | None = None
) -> pd.DataFrame:
    """Return the rows of ``offers``, of a Delta version or a month; empty where none were made."""
    if not tables.exists("offers"):
        return pd.DataFrame(columns=[*KEY, "group", "treatment_probability", "model_version"])
    return tables.read("offers", version=version, snapshot_date=snapshot_date)


def list_months_without_control(offers: pd.DataFrame) -> list[pd.Timestamp]:
    """Return the months in which offers were made and no customer was kept as control."""
    groups = offers.groupby("snapshot_date")["group"].agg(set)
    return [month for month, found in groups.items() if TREATED in found and CONTROL not in found]


def describe_missing_control(months: list[pd.Timestamp]) -> str:
    """Return the sentence with which training, gate and drift refuse such months."""
    listed = ", ".join(f"{month:%Y-%m}" for month in months)
    return (
        f"in {listed} offers were made and no customer was kept as control: the labels say what "
        "the offers did and nothing about churn. Keep a control group (--control-share 0.1)"
    )


def add_weights(labels: pd.DataFrame, offers: pd.DataFrame) -> pd.DataFrame:
    """Add to labels what each counts for in learning and judging.

    Args:
        labels: ``customer_id, snapshot_date`` and anything else.
        offers: as ``read_offers`` returns them.

    Returns:
        The labels with ``weight``: 0 after an offer, else 1 / (1 - probability of treatment).
    """
    if offers.empty:
        return labels.assign(**{WEIGHT: 1.0})
    known = labels[KEY].merge(offers[[*KEY, "group", "treatment_probability"]], on=KEY, how="left")
    untreated_share = 1 - known["treatment_probability"].fillna(0.0)
    is_treated = known["group"] == TREATED
    # A treated row weighs 0; its share may be 0 too, which must not be divided by.
    weight = np.where(is_treated, 0.0, 1 / untreated_share.where(~is_treated, 1.0))
    return labels.assign(**{WEIGHT: weight})


def sample_weights(rows: pd.DataFrame) -> np.ndarray | None:
    """Return the weights of rows, shape (n,); None where each counts once, as without offers."""
    if WEIGHT not in rows or (rows[WEIGHT] == 1).all():
        return None
    return rows[WEIGHT].to_numpy(dtype=float)


def keep_untreated(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows from which something can be learned: those without an offer."""
    return rows[rows[WEIGHT] > 0] if WEIGHT in rows else rows
