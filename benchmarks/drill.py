"""Drill the drift detection: every scenario over many seeds, in memory, scored against what the design demands.

Each run is a production year in the design's order: labels of the month before arrive, the snapshot is delivered and
checked, drift decides, a retraining passes a simplified gate (``checks.check_champion`` on the same kind of rows) and
is promoted, the champion in effect scores. What decides and what is decided about is the package's own code; tables,
registry and approval are left out. All runs share month 0, so they are not fully independent.

USD are expected values under the world's own probabilities on ``test`` slots, so that luck with labels does not count.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from results import save_table

START_MONTH = 3
LIMITS = "limits set beforehand by judgement, no seed changed them"
# as-of month: (decision, diagnosis); in every other month the right decision is ok
RIGHT = {
    "none": {},
    "price_rise": {3: ("alert", "covariate"), 4: ("retrain", "concept")},
    "competitor": {4: ("retrain", "concept")},
    "mix_shift": {3: ("alert", "covariate")},
    "data_bug": {3: ("quarantine", "data quality")},
}


@cache
def deliver(month: int, seed: int, scenario: str, broken: bool) -> tuple[pd.DataFrame, int]:
    """One month as taken in: accepted rows with inputs, split, label and the world's probability; rows quarantined."""
    from churn_utils import contract, feature_store, features, settings, simulator

    truth = simulator.simulate_month(month, seed, scenario, START_MONTH)
    accepted, rejected = contract.check_rows(simulator.deliver_month(truth, broken))
    date = settings.month_start(month)
    rows = features.add_on_demand(features.build_features(accepted.assign(snapshot_date=date, written_at=date)))
    known = truth.set_index(truth.index + 2).loc[accepted.index]  # lines of the delivery, from 2 on
    split = feature_store.split_of(known["slot_id"])
    rows = rows.assign(split=split, churned=known["churned"], churn_probability=known["churn_probability"])
    return rows.assign(event_date=date).reset_index(drop=True), len(rejected)


def take_in(month: int, seed: int, scenario: str, as_of: int, champion=None) -> tuple[pd.DataFrame, int]:
    """A month as known at an as-of month, and the number of rows quarantined: the corrected file comes a month later.

    With a champion, rows carry its score as ``champion_score``.
    """
    # the months before the change are one and the same in all scenarios, and so is the true world of data_bug
    world = "none" if month < START_MONTH or scenario == "data_bug" else scenario
    broken = scenario == "data_bug" and month == as_of == START_MONTH
    return score(month, seed, world, broken, champion) if champion else deliver(month, seed, world, broken)


@cache
def score(month: int, seed: int, scenario: str, broken: bool, champion) -> tuple[pd.DataFrame, int]:
    """``deliver`` with the champion's score of every accepted row."""
    from churn_utils import monitoring, scoring

    rows, quarantined = deliver(month, seed, scenario, broken)
    if len(rows):
        rows = rows.assign(**{monitoring.SCORE: scoring.predict_probability(champion.model, rows)})
    return rows, quarantined


def train(rows: pd.DataFrame, version: int):
    """Fit, calibrate and describe a champion on labelled rows."""
    from churn_utils import drift, training

    fit, calibrate = rows[rows["split"] == "train"], rows[rows["split"] == "validate"]
    model = training.fit_calibrated(drift.REFIT_PARAMS, fit, calibrate, seed=0)
    return drift.Champion(version, model, fit, rows["event_date"].max())


@cache
def first_champion():
    """The champion of as-of 1; month 0 is the same for all seeds."""
    return train(deliver.__wrapped__(0, 0, "none", False)[0], version=1)


def passes_gate(challenger, champion, labelled: pd.DataFrame) -> bool:
    """As ``checks.check_champion``: clearly better in ROC AUC or USD, in neither clearly worse."""
    from churn_utils import checks, evaluation, scoring, settings

    rows = labelled[labelled["split"] == "test"]
    models = {"new": challenger.model, "old": champion.model}
    scores = {name: scoring.predict_probability(model, rows) for name, model in models.items()}
    draws = evaluation.bootstrap_metrics(rows["churned"], scores, rows["customer_id"], settings.Economics(), 400)
    difference = draws["new"] - draws["old"]
    two_routes, plain = evaluation.interval(difference, level=1 - 0.05 / 2), evaluation.interval(difference)
    wins = (two_routes.loc[["roc_auc", "value_usd"], "lower"] > 0).any()
    return bool(
        wins
        and plain.loc["roc_auc", "lower"] > -checks.AUC_MARGIN
        and plain.loc["value_usd", "lower"] > -checks.USD_MARGIN
    )


def expected_value(rows: pd.DataFrame, probability: np.ndarray) -> float:
    """USD per customer that offers decided by ``probability`` are worth under the world's own probabilities."""
    from churn_utils import settings

    economics = settings.Economics()
    treated = probability >= economics.threshold
    return float((treated * economics.expected_value_usd(rows["churn_probability"].to_numpy())).mean())


def play(seed: int, scenario: str, months: int) -> pd.DataFrame:
    """Play one production year.

    Returns:
        One row per as-of month: the decision, ``promoted``, and in USD per customer the value of the champion in
        effect, of the first champion and the best possible.
    """
    from churn_utils import drift, settings

    champion = first_champion()
    decisions, played = [], []
    for month in range(1, months + 1):
        current, quarantined = take_in(month, seed, scenario, month, champion)
        delivery = {"delivered": len(current) + quarantined, "quarantined": quarantined}
        newest = range(max(0, month - max(drift.WINDOW_MONTHS)), month)  # as far back as drift looks
        labelled = [take_in(known, seed, scenario, month, champion)[0] for known in newest]
        labelled = pd.concat(labelled, ignore_index=True)
        history = pd.concat(decisions) if decisions else None
        row = drift.decide(settings.month_start(month), delivery, current, labelled, champion, history, seed=seed)
        decisions.append(row)
        record = {"month": month, **row.iloc[0][["decision", "diagnosis", "why"]].to_dict(), "promoted": False}
        if record["decision"] == drift.RETRAIN:
            window = labelled[labelled["event_date"] >= row["labels_from"].iloc[0]]
            challenger = train(window, champion.version + 1)
            record["promoted"] = passes_gate(challenger, champion, window)
            champion = challenger if record["promoted"] else champion
        played.append(record | value_month(month, seed, scenario, champion))
    return pd.DataFrame(played).assign(seed=seed, scenario=scenario)


def value_month(month: int, seed: int, scenario: str, champion) -> dict[str, float]:
    """USD per customer in a month: ``own`` (champion in effect), ``old`` (first champion) and ``best`` possible.

    A month that was quarantined whole is not scored, so nobody gets an offer: 0 USD.
    """
    from churn_utils import monitoring

    values = {}
    for name, model in (("own", champion), ("old", first_champion())):
        rows = take_in(month, seed, scenario, month, model)[0]
        rows = rows[rows["split"] == "test"]
        values[name] = expected_value(rows, rows[monitoring.SCORE].to_numpy()) if len(rows) else 0.0
    truth = take_in(month, seed, scenario, as_of=month + 1)[0]
    truth = truth[truth["split"] == "test"]
    return values | {"best": expected_value(truth, truth["churn_probability"].to_numpy())}


def judge_run(played: pd.DataFrame) -> dict:
    """Score one run against the scenario table of the design."""
    scenario = played["scenario"].iloc[0]
    acted = played[played["decision"] != "ok"].set_index("month")
    actions, right = acted["decision"].to_dict(), {month: action for month, (action, _) in RIGHT[scenario].items()}
    diagnoses = {month: diagnosis for month, (_, diagnosis) in RIGHT[scenario].items()}
    wrong = [month for month, action in actions.items() if right.get(month) != action]
    after = [month for month in actions if month >= START_MONTH and scenario != "none"]
    promoted = played.loc[played["promoted"], "month"].min()
    later = played[played["month"] >= promoted]
    lost = (later["best"] - later["old"]).sum()
    return {
        "scenario": scenario,
        "seed": played["seed"].iloc[0],
        "right": actions == right,
        "detected": bool(after),
        "false_alarms": len(wrong) / len(played),
        "false_retraining": any(actions[month] == "retrain" for month in wrong),
        "delay": min(after) - START_MONTH if after else np.nan,
        "diagnosed": all(acted["diagnosis"].get(month) == name for month, name in diagnoses.items()),
        "promoted_in_time": promoted == min((m for m, a in right.items() if a == "retrain"), default=np.nan),
        "regret": (played["best"] - played["own"]).mean(),
        "regret_frozen": (played["best"] - played["old"]).mean(),
        "recovered": (later["own"] - later["old"]).sum() / lost if len(later) else np.nan,
        "actions": ", ".join(f"{month} {action}" for month, action in actions.items()) or "none",
    }


def play_seed(arguments: tuple[int, int]) -> pd.DataFrame:
    """Play every scenario with one seed."""
    import sklearn

    seed, months = arguments
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):  # thousands of small calls
        played = pd.concat([play(seed, scenario, months) for scenario in RIGHT])
    deliver.cache_clear()
    score.cache_clear()
    return played


def summarise(runs: pd.DataFrame, head: str) -> pd.DataFrame:
    """One row per scenario, as it is printed."""
    rows = []
    for scenario, group in runs.groupby("scenario", sort=False):
        acts, retrains = bool(RIGHT[scenario]), "retrain" in [action for action, _ in RIGHT[scenario].values()]
        rows.append(
            {
                head: scenario,
                "right action": f"{group['right'].mean():.0%}",
                "detected": f"{group['detected'].mean():.0%}" if acts else "–",
                "delay, months": f"{group['delay'].median():.0f}" if acts else "–",
                "right diagnosis": f"{group['diagnosed'].mean():.0%}" if acts else "–",
                "false alarms, share of months": f"{group['false_alarms'].mean():.1%}",
                "runs without false retraining": f"{1 - group['false_retraining'].mean():.0%}",
                "new champion with the first labels": f"{group['promoted_in_time'].mean():.0%}" if retrains else "–",
                "lost value recovered (median)": f"{group['recovered'].median():.1%}" if retrains else "–",
                "regret, USD": f"{group['regret'].median():.1f}",
                "regret if never retrained, USD": f"{group['regret_frozen'].median():.1f}",
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    """Play all runs in two processes, print what went wrong, print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="number of seeds")
    parser.add_argument("--months", type=int, default=12, help="as-of months of each run")
    parser.add_argument("--first-seed", type=int, default=0, help="first seed; seeds share month 0")
    parser.add_argument("--runs", type=Path, help="keep every month of every run in this CSV file")
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args()
    started, seeds = time.perf_counter(), range(options.first_seed, options.first_seed + options.seeds)
    with tempfile.TemporaryDirectory() as home:
        # each process has one core; threads of its own would only wait for each other
        os.environ.update(CHURN_HOME=home, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
        from churn_utils import source

        source.obtain_extract()
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            played = pd.concat(pool.imap(play_seed, [(seed, options.months) for seed in seeds]), ignore_index=True)
    runs = pd.DataFrame([judge_run(run) for _, run in played.groupby(["scenario", "seed"], sort=False)])
    for run in runs[~runs["right"] | ~runs["diagnosed"]].itertuples():
        print(f"not right: {run.scenario}, seed {run.seed}: {run.actions}")
    if options.runs:
        played.to_csv(options.runs, index=False)
    seconds = time.perf_counter() - started
    head = f"seeds {seeds[0]}–{seeds[-1]}, {options.months} months, {seconds:.0f} s; {LIMITS}"
    table = summarise(runs, head)
    print(table.T.to_string())
    if not options.no_save:
        save_table("Drill", table, Path(__file__).name)


if __name__ == "__main__":
    main()
