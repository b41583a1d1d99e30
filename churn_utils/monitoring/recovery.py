"""What drift cost and what a retraining won back, measured on months that were labelled since."""

from __future__ import annotations

import numpy as np
import pandas as pd

from churn_utils.errors import DataError
from churn_utils.evaluation import bootstrap
from churn_utils.evaluation.economics import Economics, value_of_deciding_usd
from churn_utils.features import offers
from churn_utils.inference import batch
from churn_utils.monitoring import history
from churn_utils.registry import versions
from churn_utils.upstream import months
from churn_utils.upstream.months import ONE_MONTH, MonthSource

MODELS = ["champion", "shadow", "best"]


def compare_with_best(as_of: pd.Timestamp, source: MonthSource) -> pd.DataFrame:
    """Compare the value of each labelled customer's decision with the best possible one.

    Labels known at ``as_of`` count; only a simulation knows every customer's true probability.

    Returns:
        One row per customer and month: ``customer_id, snapshot_date``, and in USD ``champion``,
        ``shadow`` (the champion before, missing while there is none) and ``best`` (offers decided
        by the true probabilities), and ``weight``, what the row counts: customers who got an offer
        are left out, as their labels say what the offer did. In a month that was not scored in time
        the champion has 0, because no offer was made. ``best`` is missing where the source does not
        know the truth.

    Raises:
        DataError: no month of production had been labelled by then, or no champion is in effect.
    """
    first_scored = months.first_month(source) + ONE_MONTH
    if as_of <= first_scored:
        raise DataError(
            f"no month of production had been labelled by {as_of:%Y-%m-%d}; run at least one month."
        )
    economics = versions.read_version(batch.choose_version(as_of, "champion")).economics
    dates = pd.date_range(first_scored, as_of - ONE_MONTH, freq="MS")
    parts = [_compare_month(date, as_of, source, economics) for date in dates]
    return pd.concat(parts, ignore_index=True)


def _compare_month(
    date: pd.Timestamp, as_of: pd.Timestamp, source: MonthSource, economics: Economics
) -> pd.DataFrame:
    rows = offers.keep_untreated(history.read_known_labels(date, as_of))
    truth = months.find_true_probabilities(source, date)
    if truth is not None:
        rows = rows.merge(truth.reset_index(), on="customer_id")
    churned = rows["churned"].to_numpy(dtype=float)
    values = rows[["customer_id", "snapshot_date", offers.WEIGHT]]
    values = values.assign(shadow=np.nan, champion=0.0, best=np.nan)
    if truth is not None:
        true_probability = rows["churn_probability"].to_numpy()
        values["best"] = value_of_deciding_usd(churned, true_probability, economics)
    for role, group in history.read_scored(date, as_of).groupby("role"):
        by_customer = group.set_index("customer_id")["churn_probability"]
        probability = rows["customer_id"].map(by_customer).fillna(0.0).to_numpy()
        values[role] = value_of_deciding_usd(churned, probability, economics)
    return values


def value_by_month(values: pd.DataFrame) -> pd.DataFrame:
    """Average ``compare_with_best`` by month.

    Returns:
        One row per month: ``snapshot_date, customers`` (that the rows stand for), USD per customer
        of ``champion``, ``shadow`` and ``best`` with 95 % bounds ``<model>_lower`` and
        ``<model>_upper``, and ``lost_usd``: what the month's decisions earned less than the best
        ones, all customers together. What needs the best ones is missing where they are not known.
    """
    rows = []
    for date, month in values.groupby("snapshot_date"):
        weights = _weigh(month)
        row = {"snapshot_date": date, "customers": round(weights.sum())}
        for model in MODELS:
            mean, half = _average(month[model], weights)
            row[model] = mean
            row[f"{model}_lower"] = mean - half
            row[f"{model}_upper"] = mean + half
        row["lost_usd"] = ((month["best"] - month["champion"]) * weights).sum(min_count=1)
        rows.append(row)
    return pd.DataFrame(rows)


def _weigh(rows: pd.DataFrame) -> np.ndarray:
    """Return what each row counts, shape (n,)."""
    weights = offers.sample_weights(rows)
    return np.ones(len(rows)) if weights is None else weights


def _average(values: pd.Series, weights: np.ndarray) -> tuple[float, float]:
    """Return the weighted mean of a month's values and half the width of its 95 % interval."""
    mean = (values * weights).sum() / weights.sum() if values.notna().all() else np.nan
    rows = len(values)
    variance = (weights**2 * (values - mean) ** 2).sum(min_count=1) * rows / (rows - 1)
    return mean, 1.96 * np.sqrt(variance) / weights.sum()


def measure_recovery(
    values: pd.DataFrame, since: pd.Timestamp, draws: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Compare old champion, new champion and the best possible on months that both scored.

    These months came after the retraining, so none of their labels was learned from.

    Args:
        values: as ``compare_with_best`` returns them.
        since: month of the last promotion; what an earlier pair of champions did is not mixed in.
        draws, seed: of the bootstrap; a customer's months are drawn together.

    Returns:
        Index ``old champion, new champion, best possible`` (USD per customer) and ``recovered``
        (share of the value lost to drift, best less old, that the new champion won back), columns
        ``value, lower, upper`` (95 %); empty while no labelled month was scored by two champions.
        Without the last two where the best decisions are not known.
    """
    both = values[values["snapshot_date"] >= since].dropna(subset=["shadow"])
    if both.empty:
        return pd.DataFrame(columns=["value", "lower", "upper"], dtype=float)
    weighted = both[MODELS].mul(_weigh(both), axis=0).assign(rows=_weigh(both))
    sums = weighted.groupby(both["customer_id"]).sum(min_count=1)
    drawn = bootstrap.resample(pd.Series(sums.index), draws, seed)
    totals = bootstrap.with_all_rows_first(drawn) @ sums.to_numpy()
    new, old, best = (totals[:, :3] / totals[:, 3:]).T
    measured = pd.DataFrame({"old champion": old, "new champion": new})
    if both["best"].notna().any():
        measured["best possible"] = best
        measured["recovered"] = (new - old) / (best - old)
    return bootstrap.summarize_draws(measured)
