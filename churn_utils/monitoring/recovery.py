"""Look back at months of production: what was decided on which evidence, what drift cost, what retraining won back."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from churn_utils import settings
from churn_utils.data import tables
from churn_utils.errors import DataError
from churn_utils.evaluation import bootstrap
from churn_utils.evaluation.economics import Economics, decision_value_usd
from churn_utils.monitoring import drift, monthly_cycle
from churn_utils.registry import deployments, versions
from churn_utils.settings import month_of
from churn_utils.simulation import customers, deliveries
from churn_utils.simulation.scenarios import START_MONTH, Simulation

MODELS = ["champion", "shadow", "best"]


def compare_with_best(as_of: pd.Timestamp, world: Simulation) -> pd.DataFrame:
    """Value of what was decided for each labelled customer, beside the best that anybody could have decided.

    Args:
        as_of: labels known by then count.
        world: knows every customer's true probability of churn; only a simulated world does.

    Returns:
        One row per customer and month: ``customer_id, snapshot_date``, and in USD ``champion``, ``shadow`` (the
        champion before, missing while there is none) and ``best`` (offers decided by the world's own probabilities).
        A month that was not scored in time has 0 for the champion: nobody got an offer.

    Raises:
        DataError: no month of production had been labelled by then.
    """
    if month_of(as_of) < 2:
        raise DataError(
            f"no month of production had been labelled by {as_of:%Y-%m-%d}; play at least one month."
        )
    economics = versions.read_version(deployments.champion_at(as_of)).economics
    dates = [settings.month_start(month) for month in range(1, month_of(as_of))]
    parts = [_compare_month(date, as_of, world, economics) for date in dates]
    return pd.concat(parts, ignore_index=True)


def _compare_month(
    date: pd.Timestamp, as_of: pd.Timestamp, world: Simulation, economics: Economics
) -> pd.DataFrame:
    labels = tables.read("churn_labels", snapshot_date=date)
    truth = customers.simulate_month(month_of(date), world)[["customer_id", "churn_probability"]]
    rows = labels[labels["label_date"] <= as_of].merge(truth, on="customer_id")
    probability = {"champion": np.zeros(len(rows)), "best": rows["churn_probability"]}
    scored = monthly_cycle.read_scored(date, as_of)
    for role, group in scored.groupby("role"):
        probability[role] = (
            rows["customer_id"].map(group.set_index("customer_id")["churn_probability"]).fillna(0.0)
        )
    churned = rows["churned"].to_numpy(dtype=float)
    values = {
        model: decision_value_usd(churned, np.asarray(p) >= economics.threshold, economics)
        for model, p in probability.items()
    }
    return rows[["customer_id", "snapshot_date"]].assign(shadow=np.nan).assign(**values)


def value_by_month(values: pd.DataFrame) -> pd.DataFrame:
    """Average ``compare_with_best`` by month.

    Returns:
        One row per month: ``snapshot_date, customers``, USD per customer of ``champion``, ``shadow`` and ``best`` with
        95 % bounds ``<model>_lower`` and ``<model>_upper``, and ``lost_usd``: what the month's decisions earned less
        than the best ones, all customers together.
    """
    rows = []
    for date, month in values.groupby("snapshot_date"):
        row = {"snapshot_date": date, "customers": len(month)}
        for model in MODELS:
            error = 1.96 * month[model].std() / np.sqrt(len(month))
            row[model] = month[model].mean()
            row |= {f"{model}_lower": row[model] - error, f"{model}_upper": row[model] + error}
        rows.append(row | {"lost_usd": (month["best"] - month["champion"]).sum()})
    return pd.DataFrame(rows)


def measure_recovery(
    values: pd.DataFrame, since: pd.Timestamp, draws: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Compare old champion, new champion and the best possible on the months that both champions scored.

    These months came after the retraining, so none of their labels was learned from.

    Args:
        values: as ``compare_with_best`` returns them.
        since: month of the last promotion; what an earlier pair of champions did is not mixed in.
        draws: bootstrap draws; a customer's months are drawn together.
        seed: of the bootstrap.

    Returns:
        Index ``old champion, new champion, best possible`` (USD per customer) and ``recovered`` (share of the value
        lost to drift, best less old, that the new champion won back), columns ``value, lower, upper`` (95 %); empty
        while no labelled month was scored by two champions.
    """
    both = values[values["snapshot_date"] >= since].dropna(subset=["shadow"])
    if both.empty:
        return pd.DataFrame(columns=["value", "lower", "upper"], dtype=float)
    sums = both.assign(rows=1.0).groupby("customer_id")[[*MODELS, "rows"]].sum()
    weights = bootstrap.resample(pd.Series(sums.index), draws, seed)
    totals = bootstrap.with_all_rows_first(weights) @ sums.to_numpy()
    new, old, best = (totals[:, :3] / totals[:, 3:]).T
    measured = pd.DataFrame(
        {
            "old champion": old,
            "new champion": new,
            "best possible": best,
            "recovered": (new - old) / (best - old),
        }
    )
    return bootstrap.summarize_draws(measured)


def list_events(as_of: pd.Timestamp, world: Simulation) -> pd.DataFrame:
    """What happened when: ``date, event, what``, in order of time.

    Events are ``world`` (the change itself, which nobody was told of), ``alert``, ``quarantine`` and ``retrain``
    (decisions), and ``promoted`` or ``refused`` (what became of the retraining).
    """
    events = []
    change = settings.month_start(world.start_month)
    if world.scenario != "none" and change <= as_of:
        events.append({"date": change, "event": "world", "what": world.description})
    decisions = monthly_cycle.read_decisions(as_of)
    for row in decisions[decisions["decision"] != drift.OK].itertuples():
        events.append(
            {"date": row.as_of_date, "event": row.decision, "what": f"{row.diagnosis}: {row.why}"}
        )
    events += _outcomes(decisions.loc[decisions["decision"] == drift.RETRAIN, "as_of_date"], as_of)
    return pd.DataFrame(events, columns=["date", "event", "what"]).sort_values(
        "date", kind="stable", ignore_index=True
    )


def _outcomes(retrainings: pd.Series, as_of: pd.Timestamp) -> list[dict]:
    table = deployments.read_deployments().set_index("effective_from")
    events = []
    for date in retrainings:
        if date in table.index:
            row = table.loc[[date]].iloc[-1]
            events.append(
                {
                    "date": date,
                    "event": "promoted",
                    "what": f"version {row['version']}, approved by {row['approved_by']}",
                }
            )
        elif date < as_of:
            events.append(
                {"date": date, "event": "refused", "what": "the challenger did not pass its gate"}
            )
    return events


def table_shifts(decisions: pd.DataFrame) -> pd.DataFrame:
    """PSI beyond chance of each feature that the champion uses, by month; the evidence behind alerts.

    Args:
        decisions: rows of ``decisions``.

    Returns:
        Index feature, one column per ``as_of_date`` (missing where that month's champion did not use the feature, and
        where the delivery was broken), and ``use``: its share of what the last champion that used it uses (1 for the
        champion's own score).
    """
    shifts = {row.as_of_date: json.loads(row.evidence)["shifts"] for row in decisions.itertuples()}
    table = pd.DataFrame(
        {date: {name: of["psi"] for name, of in found.items()} for date, found in shifts.items()}
    )
    use = {name: of["use"] for found in shifts.values() for name, of in found.items()}
    return table.assign(use=pd.Series(use, dtype=float)).rename_axis("feature")


def table_gains(decisions: pd.DataFrame) -> pd.DataFrame:
    """What a refit would have been worth at each as-of month, for the window that said most for it.

    Args:
        decisions: rows of ``decisions``.

    Returns:
        ``as_of_date, decision, from, to`` (labelled months), ``rows`` and in USD per customer ``gain_usd, lower, upper,
        newest_gain_usd, prior_gain_usd``; no row for a month without news.
    """
    rows = []
    for row in decisions.itertuples():
        best = drift.best_window(json.loads(row.evidence)["gains"])
        rows += (
            []
            if best is None
            else [{"as_of_date": row.as_of_date, "decision": row.decision, **best}]
        )
    columns = [
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
    return pd.DataFrame(rows, columns=columns)


def try_scenario(
    scenario: str,
    seed: int,
    champion: drift.Champion,
    economics: Economics | None = None,
    start_month: int = START_MONTH,
) -> pd.DataFrame:
    """Ask a champion what another world would call for, in its month of change and the one after; nothing is written.

    Args:
        scenario: name in ``scenarios.SCENARIOS``.
        seed: of the world.
        champion: the one in effect before the change.
        economics: of decisions in USD.
        start_month: month in which the world changes.

    Returns:
        Two rows with ``drift.COLUMNS``.

    Raises:
        DataError: unknown scenario.
    """
    tried, decisions = Simulation(scenario, seed, start_month), None
    for month in (start_month, start_month + 1):
        broken = scenario == "data_bug" and month == start_month
        current, quarantined = deliveries.ingest_in_memory(month, tried, broken)
        past = [deliveries.ingest_in_memory(known, tried)[0] for known in range(month)]
        delivery = {"delivered": len(current) + quarantined, "quarantined": quarantined}
        as_of, past = settings.month_start(month), pd.concat(past)
        row = drift.decide(as_of, delivery, current, past, champion, decisions, economics)
        decisions = row if decisions is None else pd.concat([decisions, row], ignore_index=True)
    return decisions
