"""Drill the drift detection: every scenario over many seeds, in memory, scored against what the design demands.

Each run is a production year in the design's order: labels of the month before arrive, the snapshot is delivered and
checked, drift decides, a retraining passes a simplified gate (``champion_check.check_champion`` on the same kind of rows) and
is promoted, the champion in effect scores. What decides and what is decided about is the package's own code; tables,
registry and approval are left out. All runs share month 0, so they are not fully independent.

Runs of one seed share what is the same for them: a month that is the same in several worlds is taken in once, scored
once by a champion, and decided about once when drift is asked the very same question.

USD are expected values under the world's own probabilities on ``test`` slots, so that luck with labels does not count.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from results import save_table, to_markdown
from tqdm import tqdm

from churn_utils.evaluation import bootstrap
from churn_utils.evaluation.economics import Economics

START_MONTH = 3
FEWEST_MONTHS = 5  # the world changes in month 3, retraining comes with its labels in 4, and 5 shows what that is worth
TUNING = "0–19"
# as-of month: (decision, diagnosis); in every other month the right decision is ok
RIGHT = {
    "none": {},
    "price_rise": {3: ("alert", "covariate"), 4: ("retrain", "concept")},
    "competitor": {4: ("retrain", "concept")},
    "mix_shift": {3: ("alert", "covariate")},
    "data_bug": {3: ("quarantine", "data quality")},
}
# Worlds that no scenario names and no limit was set on: what a month adds to the log-odds of customers with a contract.
UNNAMED = {
    "slow_change": lambda month: (
        0.25 * max(0, month - START_MONTH + 1)
    ),  # after ten months that of the competitor
    "wave": lambda month: 2.5 if month in (START_MONTH, START_MONTH + 1) else 0.0,
}
# Fewest and most retrainings that are right. What changes slowly needs one sooner or later, and more as it goes on.
# While a wave lasts nobody can know that it will end: one retraining for it is right, and one back when its end shows.
RIGHT_RETRAININGS = {"slow_change": (1, np.inf), "wave": (0, 2)}


class Month(NamedTuple):
    """All that the rows of a month depend on."""

    number: int
    seed: int
    world: str  # a scenario, or a name in UNNAMED
    broken: bool


def look_up(number: int, seed: int, world: str, as_of: int) -> Month:
    """Find out which rows a world's month has as of another one; a corrected file comes a month after the broken one.

    Where a world has not changed (yet, or any more), it is one and the same with all others.
    """
    broken = world == "data_bug" and number == as_of == START_MONTH
    same = (
        number < START_MONTH
        or world == "data_bug"
        or (world in UNNAMED and UNNAMED[world](number) == 0)
    )
    return Month(number, seed, "none" if same else world, broken)


@cache
def take_in(month: Month) -> tuple[pd.DataFrame, int]:
    """Rows of a month as ``deliveries.ingest_in_memory`` gives them, and the number of rows quarantined."""
    from churn_utils.simulation import customers, deliveries
    from churn_utils.simulation.scenarios import Simulation

    if month.world not in UNNAMED:
        return deliveries.ingest_in_memory(
            month.number, Simulation(month.world, month.seed, START_MONTH), month.broken
        )
    rows, quarantined = take_in(month._replace(world="none"))
    log_odds = (
        UNNAMED[month.world](month.number) * (rows["contract"] != "Month-to-month").to_numpy()
    )
    return customers.redraw_labels(rows, log_odds, [month.seed, month.number]), quarantined


@cache
def score(month: Month, champion, split: str | None = None) -> pd.DataFrame:
    """Rows of a month, or of a split of it, with the champion's probability as ``champion_score``."""
    from churn_utils.inference import scoring
    from churn_utils.monitoring import performance

    rows, _ = take_in(month)
    rows = rows[rows["split"] == split] if split else rows
    if month.world in UNNAMED:  # its labels are its own, its customers are not
        known = score(month._replace(world="none"), champion, split)[performance.SCORE]
    else:
        known = scoring.predict_probability(champion.model, rows) if len(rows) else 0.0
    return rows.assign(**{performance.SCORE: known})


def train(rows: pd.DataFrame, version: int):
    """Fit, calibrate and describe a champion on labelled rows."""
    from churn_utils.monitoring import drift
    from churn_utils.training import models as training_models

    fit, calibrate = rows[rows["split"] == "train"], rows[rows["split"] == "validate"]
    model = training_models.fit_calibrated(drift.REFIT_PARAMS, fit, calibrate, seed=0)
    return drift.Champion(version, model, fit, rows["event_date"].max())


@cache
def first_champion():
    """The champion of as-of 1; month 0 is the same for all seeds."""
    from churn_utils.simulation import deliveries
    from churn_utils.simulation.scenarios import Simulation

    return train(deliveries.ingest_in_memory(0, Simulation("none", seed=0))[0], version=1)


DECIDED: dict[tuple, pd.DataFrame] = {}


def decide(
    current: Month, labelled: tuple[Month, ...], champion, history: pd.DataFrame | None
) -> pd.DataFrame:
    """``drift.decide``, asked once for the same months, champion and standing alerts: all that its answer rests on."""
    from churn_utils import settings
    from churn_utils.monitoring import drift

    as_of = settings.month_start(current.number)
    standing = drift.last_standing(history, as_of, champion.version)
    question = current, labelled, champion, json.dumps(standing)
    if question not in DECIDED:
        rows, (_, quarantined) = score(current, champion), take_in(current)
        delivery = {"delivered": len(rows) + quarantined, "quarantined": quarantined}
        known = join(labelled, champion) if labelled else rows.head(0)
        DECIDED[question] = drift.decide(
            as_of, delivery, rows, known, champion, history, seed=current.seed
        )
    return DECIDED[question]


def join(labelled: tuple[Month, ...], champion) -> pd.DataFrame:
    """Rows of several months, each with the champion's score."""
    return pd.concat([score(month, champion) for month in labelled], ignore_index=True)


def passes_gate(challenger, champion, labelled: pd.DataFrame) -> bool:
    """By the rule of ``champion_check.check_champion``, on the test rows of a window."""
    from churn_utils.inference import scoring
    from churn_utils.validation import champion_check

    rows = labelled[labelled["split"] == "test"]
    models = {"new": challenger.model, "old": champion.model}
    scores = {name: scoring.predict_probability(model, rows) for name, model in models.items()}
    draws = bootstrap.bootstrap_metrics(
        rows["churned"], scores, rows["customer_id"], Economics(), 400
    )
    return champion_check.compare_paired(draws["new"] - draws["old"]).beats_champion


def expected_value(rows: pd.DataFrame, probability: np.ndarray) -> float:
    """USD per customer that offers decided by ``probability`` are worth under the world's own probabilities."""

    economics = Economics()
    treated = probability >= economics.threshold
    return float(
        (treated * economics.expected_value_usd(rows["churn_probability"].to_numpy())).mean()
    )


def play(seed: int, world: str, months: int) -> pd.DataFrame:
    """Play one production year.

    Returns:
        One row per as-of month: the decision, ``promoted``, and in USD per customer the value of the champion in
        effect, of the first champion and the best possible.
    """
    from churn_utils import settings
    from churn_utils.monitoring import drift

    champion, decisions, played = first_champion(), [], []
    for number in range(1, months + 1):
        newest = range(
            max(0, number - max(drift.WINDOW_MONTHS)), number
        )  # as far back as drift looks
        news = [known for known in newest if settings.month_start(known) > champion.trained_to]
        labelled = tuple(look_up(known, seed, world, as_of=number) for known in news)
        history = pd.concat(decisions) if decisions else None
        row = decide(look_up(number, seed, world, as_of=number), labelled, champion, history)
        decisions.append(row)
        record = {
            "month": number,
            **row.iloc[0][["decision", "diagnosis", "why"]].to_dict(),
            "promoted": False,
        }
        if record["decision"] == drift.RETRAIN:
            known = join(labelled, champion)
            window = known[known["event_date"] >= row["labels_from"].iloc[0]]
            challenger = train(window, champion.version + 1)
            record["promoted"] = passes_gate(challenger, champion, window)
            champion = challenger if record["promoted"] else champion
        played.append(record | value_month(number, seed, world, champion))
    return pd.DataFrame(played).assign(seed=seed, scenario=world)


def value_month(number: int, seed: int, world: str, champion) -> dict[str, float]:
    """USD per customer in a month: ``own`` (champion in effect), ``old`` (first champion) and ``best`` possible.

    A month that was quarantined whole is not scored, so nobody gets an offer: 0 USD.
    """
    from churn_utils.monitoring import performance

    values, current = {}, look_up(number, seed, world, as_of=number)
    for name, model in (("own", champion), ("old", first_champion())):
        rows = score(current, model) if model is champion else score(current, model, "test")
        rows = rows[rows["split"] == "test"]
        values[name] = (
            expected_value(rows, rows[performance.SCORE].to_numpy()) if len(rows) else 0.0
        )
    truth, _ = take_in(look_up(number, seed, world, as_of=number + 1))
    truth = truth[truth["split"] == "test"]
    return values | {"best": expected_value(truth, truth["churn_probability"].to_numpy())}


def judge_run(played: pd.DataFrame) -> dict:
    """Score one run against the scenario table of the design."""
    scenario = played["scenario"].iloc[0]
    acted = played[played["decision"] != "ok"].set_index("month")
    actions, right = (
        acted["decision"].to_dict(),
        {month: action for month, (action, _) in RIGHT[scenario].items()},
    )
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
        "diagnosed": all(
            acted["diagnosis"].get(month) == name for month, name in diagnoses.items()
        ),
        "promoted_in_time": promoted
        == min((m for m, a in right.items() if a == "retrain"), default=np.nan),
        "regret": (played["best"] - played["own"]).mean(),
        "regret_frozen": (played["best"] - played["old"]).mean(),
        "recovered": (later["own"] - later["old"]).sum() / lost if len(later) else np.nan,
        "actions": ", ".join(f"{month} {action}" for month, action in actions.items()) or "none",
    }


def play_seed(arguments: tuple[int, int]) -> pd.DataFrame:
    """Play every scenario, and the worlds nobody named, with one seed."""
    import sklearn

    from churn_utils.training import models as training_models

    seed, months = arguments
    # thousands of small calls on frames that nobody changes in place; two processes leave no core for second threads
    quick = {"assume_finite": True, "skip_parameter_validation": True}
    with sklearn.config_context(**quick), pd.option_context("mode.copy_on_write", True):
        played = pd.concat(
            [training_models.one_thread(play)(seed, world, months) for world in [*RIGHT, *UNNAMED]]
        )
    take_in.cache_clear()
    score.cache_clear()
    DECIDED.clear()
    return played


def summarise(runs: pd.DataFrame, head: str) -> pd.DataFrame:
    """One column per scenario, as it is printed."""
    columns = {}
    for scenario, group in runs.groupby("scenario", sort=False):
        acts, retrains = (
            bool(RIGHT[scenario]),
            "retrain" in [action for action, _ in RIGHT[scenario].values()],
        )
        columns[scenario] = {
            "right action": f"{group['right'].mean():.0%}",
            "detected": f"{group['detected'].mean():.0%}" if acts else "–",
            "delay, months": f"{group['delay'].median():.0f}" if acts else "–",
            "right diagnosis": f"{group['diagnosed'].mean():.0%}" if acts else "–",
            "false alarms, share of months": f"{group['false_alarms'].mean():.1%}",
            "runs without false retraining": f"{1 - group['false_retraining'].mean():.0%}",
            "new champion with the first labels": f"{group['promoted_in_time'].mean():.0%}"
            if retrains
            else "–",
            "lost value recovered (median)": f"{group['recovered'].median():.1%}"
            if retrains
            else "–",
            "regret, USD": f"{group['regret'].median():.1f}",
            "regret if never retrained, USD": f"{group['regret_frozen'].median():.1f}",
        }
    return pd.DataFrame(columns).rename_axis(head).reset_index()


def summarise_unnamed(played: pd.DataFrame, head: str) -> pd.DataFrame:
    """One column per world that no scenario names, as it is printed."""
    columns = {}
    for world, group in played[played["scenario"].isin(UNNAMED)].groupby("scenario", sort=False):
        retrainings = group[group["decision"] == "retrain"]
        number = retrainings.groupby("seed").size().reindex(group["seed"].unique(), fill_value=0)
        value = group.groupby("seed")[["own", "old", "best"]].mean()
        least, most = RIGHT_RETRAININGS[world]
        bound = f"at least {least}" if most == np.inf else f"at most {most}"
        columns[world] = {
            "right number of retrainings": f"{number.between(least, most).mean():.0%} ({bound})",
            "retrainings, median (range)": f"{number.median():.0f} ({number.min()}–{number.max()})",
            "first retraining, month (median)": f"{retrainings.groupby('seed')['month'].min().median():.0f}",
            "regret, USD": f"{(value['best'] - value['own']).median():.1f}",
            "regret if never retrained, USD": f"{(value['best'] - value['old']).median():.1f}",
            "runs better off than never retrained": f"{(value['own'] > value['old']).mean():.0%}",
        }
    return pd.DataFrame(columns).rename_axis(head).reset_index()


def whole_number_from(least: int):
    """Make a parser of arguments that are whole numbers and not too small."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} on")
        return int(text)

    return parse


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; bad arguments end with exit code 2 and a message."""
    parser = argparse.ArgumentParser(
        description="Drill the drift detection: play production years of every scenario, and of two worlds that no "
        "scenario names, with many seeds, and score every decision. Prints what was not right and two tables, and "
        "saves the tables in benchmarks/results.md. Runs in two processes.",
        epilog="USD are per customer and month. All seeds share month 0, IBM's extract.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--seeds", type=whole_number_from(1), default=20, metavar="N", help="number of seeds"
    )
    first = f"first seed; {TUNING} are those that the limits were looked at on"
    parser.add_argument(
        "--first-seed", type=whole_number_from(0), default=100, metavar="N", help=first
    )
    months = (
        f"as-of months of a year, {FEWEST_MONTHS} or more: the world changes in month {START_MONTH}"
    )
    parser.add_argument(
        "--months", type=whole_number_from(FEWEST_MONTHS), default=12, metavar="N", help=months
    )
    parser.add_argument(
        "--runs", type=Path, metavar="CSV", help="keep every month of every run in this file"
    )
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args(arguments)
    if options.runs and not options.runs.parent.is_dir():
        parser.error(f"argument --runs: there is no folder {options.runs.parent}")
    return options


def play_seeds(seeds: range, months: int) -> pd.DataFrame:
    """Play all worlds with each seed, in two processes that share a new home."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["CHURN_HOME"] = home
        from churn_utils.data import source

        source.obtain_extract()
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            played = pool.imap(play_seed, [(seed, months) for seed in seeds])
            return pd.concat(
                tqdm(played, "production years", len(seeds), unit=" seed"), ignore_index=True
            )


def main() -> None:
    """Play all runs, print what went wrong, print and save the tables."""
    options = parse_arguments()
    started, seeds = (
        time.perf_counter(),
        range(options.first_seed, options.first_seed + options.seeds),
    )
    played = play_seeds(seeds, options.months)
    if options.runs:
        played.to_csv(options.runs, index=False)
    named = played[played["scenario"].isin(RIGHT)]
    runs = pd.DataFrame(
        [judge_run(run) for _, run in named.groupby(["scenario", "seed"], sort=False)]
    )
    for run in runs[~runs["right"] | ~runs["diagnosed"]].itertuples():
        print(f"not right: {run.scenario}, seed {run.seed}: {run.actions}")
    times = os.times()
    seconds = (
        f"{time.perf_counter() - started:.0f} s, {times.user + times.children_user:.0f} s of CPU"
    )
    head = f"seeds {seeds[0]}–{seeds[-1]} (limits looked at on {TUNING}), {options.months} months, {seconds}"
    tables = {
        "Drill": summarise(runs, head),
        "Drill, worlds that no scenario names": summarise_unnamed(played, head),
    }
    for title, table in tables.items():
        if options.no_save:
            print(f"\n## {title}\n\n{to_markdown(table)}")
        else:
            save_table(title, table, Path(__file__).name)


if __name__ == "__main__":
    main()
