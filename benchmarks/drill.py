"""Drill the drift detection: every scenario over many seeds, in memory, scored against the design.

Each run is a production year in the design's order: labels of the month before arrive, the snapshot
is delivered and checked, drift decides, a retraining passes a simplified gate
(``performance_checks.compare_paired`` on the same kind of rows) and is promoted, the champion in
effect scores. What decides and what is decided about is the package's own code; tables, registry
and approval are left out. All runs share month 0, so they are not fully independent.

Runs of one seed share what is the same for them: a month that is the same in several scenarios is
ingested once and scored once by a champion, and a decision on the same evidence is made once.

USD are expected values under the true probabilities on ``test`` slots, so that luck with labels
does not count.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from results import save_table, to_markdown
from tqdm import tqdm

from churn_utils.evaluation.economics import Economics

START_MONTH = 3
# The scenario changes in month 3, a retraining comes with its labels in 4, and 5 shows its worth.
FEWEST_MONTHS = 5
TUNING = "0–19"
# as-of month: (decision, diagnosis); in every other month the right decision is ok
RIGHT = {
    "none": {},
    "price_rise": {3: ("alert", "covariate"), 4: ("retrain", "concept")},
    "competitor": {4: ("retrain", "concept")},
    "mix_shift": {3: ("alert", "covariate")},
    "data_bug": {3: ("quarantine", "data quality")},
}


def _log_odds_of_slow_change(month: int) -> float:
    return 0.25 * max(0, month - START_MONTH + 1)  # after ten months that of the competitor


def _log_odds_of_wave(month: int) -> float:
    return 2.5 if month in (START_MONTH, START_MONTH + 1) else 0.0


# Changes that no scenario of the package names and on which no limit was set: what a month adds to
# the log-odds of customers with a contract.
UNNAMED: dict[str, Callable[[int], float]] = {
    "slow_change": _log_odds_of_slow_change,
    "wave": _log_odds_of_wave,
}
# Fewest and most retrainings that are right. A slow change needs one sooner or later, and more as
# it goes on. While a wave lasts it cannot be known that it will end: one retraining for it is
# right, and one back when its end shows.
RIGHT_RETRAININGS = {"slow_change": (1, np.inf), "wave": (0, 2)}


class Month(NamedTuple):
    """Everything that the rows of a month depend on."""

    number: int
    seed: int
    scenario: str  # of the package, or a name in UNNAMED
    broken: bool


def find_month(number: int, seed: int, scenario: str, as_of: int) -> Month:
    """Return which rows a scenario's month has as of another month.

    A corrected file arrives a month after the broken one. Where a scenario has not changed (yet, or
    any more), its month is that of ``none``.
    """
    unchanged = number < START_MONTH or scenario == "data_bug"
    if scenario in UNNAMED and UNNAMED[scenario](number) == 0:
        unchanged = True
    broken = scenario == "data_bug" and number == as_of == START_MONTH
    return Month(number, seed, "none" if unchanged else scenario, broken)


@cache
def ingest(month: Month) -> tuple[pd.DataFrame, int]:
    """Return a month's rows and how many were quarantined, as ``ingest_in_memory`` does."""
    from churn_utils.simulation import customers, deliveries
    from churn_utils.simulation.scenarios import Simulation

    if month.scenario not in UNNAMED:
        simulation = Simulation(month.scenario, month.seed, START_MONTH)
        return deliveries.ingest_in_memory(month.number, simulation, month.broken)
    rows, quarantined = ingest(month._replace(scenario="none"))
    has_contract = (rows["contract"] != "Month-to-month").to_numpy()
    log_odds = UNNAMED[month.scenario](month.number) * has_contract
    return customers.redraw_labels(rows, log_odds, [month.seed, month.number]), quarantined


@cache
def score(month: Month, champion, split: str | None = None) -> pd.DataFrame:
    """Return a month's rows, or those of a split, with the champion's ``champion_score``."""
    from churn_utils.inference import scoring
    from churn_utils.monitoring.drift_tests import SCORE

    rows, _ = ingest(month)
    if split:
        rows = rows[rows["split"] == split]
    if month.scenario in UNNAMED:  # its labels are its own, its customers are not
        scores = score(month._replace(scenario="none"), champion, split)[SCORE]
    elif len(rows):
        scores = scoring.predict_probability(champion.model, rows)
    else:
        scores = 0.0
    return rows.assign(**{SCORE: scores})


@cache
def first_champion():
    """Return the champion of as-of 1; month 0 is the same for all seeds."""
    from churn_utils.monitoring.retraining_value import train_champion
    from churn_utils.simulation import deliveries
    from churn_utils.simulation.scenarios import Simulation

    rows, _ = deliveries.ingest_in_memory(0, Simulation("none", seed=0))
    return train_champion(rows, version=1)


DECIDED: dict[tuple, object] = {}


def decide(
    current: Month, labelled: tuple[Month, ...], champion, history: pd.DataFrame | None
) -> object:
    """Return ``drift.decide``'s decision, made once for everything that it depends on.

    That is the months, the champion and the standing alerts.
    """
    from churn_utils import settings
    from churn_utils.monitoring import drift, shifts
    from churn_utils.monitoring.decision import Delivery

    as_of = settings.month_start(current.number)
    standing = shifts.read_standing(history, as_of, champion.version)
    key = current, labelled, champion, json.dumps(standing)
    if key not in DECIDED:
        rows = score(current, champion)
        _, quarantined = ingest(current)
        delivery = Delivery(len(rows) + quarantined, quarantined)
        known = join(labelled, champion) if labelled else rows.head(0)
        DECIDED[key] = drift.decide(
            as_of, delivery, rows, known, champion, history, seed=current.seed
        )
    return DECIDED[key]


def join(labelled: tuple[Month, ...], champion) -> pd.DataFrame:
    """Return the rows of several months, each with the champion's score."""
    return pd.concat([score(month, champion) for month in labelled], ignore_index=True)


def passes_gate(challenger, champion, labelled: pd.DataFrame) -> bool:
    """Tell whether a challenger passes the gate's comparison on the test rows of a window."""
    from churn_utils.evaluation import bootstrap
    from churn_utils.features import offers
    from churn_utils.inference import scoring
    from churn_utils.validation import performance_checks

    rows = offers.keep_untreated(labelled[labelled["split"] == "test"])
    scores = {
        "new": scoring.predict_probability(challenger.model, rows),
        "old": scoring.predict_probability(champion.model, rows),
    }
    draws = bootstrap.bootstrap_metrics(
        rows["churned"],
        scores,
        rows["customer_id"],
        challenger.economics,
        400,
        row_weights=offers.sample_weights(rows),
    )
    return performance_checks.compare_paired(draws["new"] - draws["old"]).beats_champion


def expected_value(rows: pd.DataFrame, probability: np.ndarray) -> float:
    """Return the USD per customer that offers decided by ``probability`` are truly worth."""
    economics = Economics()
    treated = probability >= economics.threshold
    true_probability = rows["churn_probability"].to_numpy()
    return float((treated * economics.expected_value_usd(true_probability)).mean())


def simulate_year(seed: int, scenario: str, months: int) -> pd.DataFrame:
    """Simulate one production year.

    Returns:
        One row per as-of month: ``month, decision, diagnosis, why, promoted, seed, scenario`` and
        in USD per customer ``own, old, best`` as ``value_month`` returns them.
    """
    from churn_utils import settings
    from churn_utils.monitoring import decision, retraining_value

    champion = first_champion()
    history = None
    rows = []
    for number in range(1, months + 1):
        first = max(0, number - max(retraining_value.WINDOW_MONTHS))  # as far back as drift looks
        labelled = tuple(
            find_month(known, seed, scenario, as_of=number)
            for known in range(first, number)
            if settings.month_start(known) > champion.trained_to
        )
        current = find_month(number, seed, scenario, as_of=number)
        made = decide(current, labelled, champion, history)
        history = pd.concat([history, made.to_frame()])
        promoted = False
        if made.action == decision.RETRAIN:
            known = join(labelled, champion)
            window = known[known["event_date"] >= made.labels_from]
            challenger = retraining_value.train_champion(window, champion.version + 1)
            promoted = passes_gate(challenger, champion, window)
            champion = challenger if promoted else champion
        rows.append(
            {
                "month": number,
                "decision": made.action,
                "diagnosis": made.diagnosis,
                "why": made.reason,
                "promoted": promoted,
                **value_month(number, seed, scenario, champion),
            }
        )
    return pd.DataFrame(rows).assign(seed=seed, scenario=scenario)


def value_month(number: int, seed: int, scenario: str, champion) -> dict[str, float]:
    """Return a month's value in USD per customer.

    A month that was quarantined whole is not scored, so no offer is made: 0 USD.

    Returns:
        ``own`` (of the champion in effect), ``old`` (of the first champion), ``best`` (possible).
    """
    current = find_month(number, seed, scenario, as_of=number)
    own = score(current, champion)
    old = score(current, first_champion(), None if champion is first_champion() else "test")
    truth, _ = ingest(find_month(number, seed, scenario, as_of=number + 1))
    truth = truth[truth["split"] == "test"]
    return {
        "own": _value_scored(own),
        "old": _value_scored(old),
        "best": expected_value(truth, truth["churn_probability"].to_numpy()),
    }


def _value_scored(rows: pd.DataFrame) -> float:
    from churn_utils.monitoring.drift_tests import SCORE

    rows = rows[rows["split"] == "test"]
    return expected_value(rows, rows[SCORE].to_numpy()) if len(rows) else 0.0


def score_run(year: pd.DataFrame) -> dict:
    """Score one run against the scenario table of the design.

    Returns:
        ``scenario, seed, right`` (the right actions and no other), ``detected, false_alarms``
        (share of months), ``false_retraining, delay`` (months), ``diagnosed, promoted_in_time,
        regret`` and ``regret_frozen`` (USD), ``recovered`` (share of the lost value) and
        ``actions`` as text.
    """
    scenario = year["scenario"].iloc[0]
    acted = year[year["decision"] != "ok"].set_index("month")
    actions = acted["decision"].to_dict()
    right = {month: action for month, (action, _) in RIGHT[scenario].items()}
    diagnoses = {month: diagnosis for month, (_, diagnosis) in RIGHT[scenario].items()}
    wrong = [month for month, action in actions.items() if right.get(month) != action]
    after = [month for month in actions if month >= START_MONTH and scenario != "none"]
    due = [month for month, action in right.items() if action == "retrain"]
    promoted = year.loc[year["promoted"], "month"].min()
    later = year[year["month"] >= promoted]
    lost = (later["best"] - later["old"]).sum()
    return {
        "scenario": scenario,
        "seed": year["seed"].iloc[0],
        "right": actions == right,
        "detected": bool(after),
        "false_alarms": len(wrong) / len(year),
        "false_retraining": any(actions[month] == "retrain" for month in wrong),
        "delay": min(after) - START_MONTH if after else np.nan,
        "diagnosed": all(
            acted["diagnosis"].get(month) == name for month, name in diagnoses.items()
        ),
        "promoted_in_time": promoted == min(due, default=np.nan),
        "regret": (year["best"] - year["own"]).mean(),
        "regret_frozen": (year["best"] - year["old"]).mean(),
        "recovered": (later["own"] - later["old"]).sum() / lost if len(later) else np.nan,
        "actions": ", ".join(f"{month} {action}" for month, action in actions.items()) or "none",
    }


def run_quickly(simulate: Callable):
    """Call a simulation on one thread, without the checks of each small call.

    It makes thousands of small calls on frames that are never changed in place, and the two
    processes leave no core for second threads.
    """
    import sklearn

    from churn_utils.training import models

    quick = {"assume_finite": True, "skip_parameter_validation": True}
    with sklearn.config_context(**quick), pd.option_context("mode.copy_on_write", True):
        return models.one_thread(simulate)()


def simulate_seed(arguments: tuple[int, int]) -> pd.DataFrame:
    """Simulate every scenario, named or not, with one seed; rows as of ``simulate_year``."""
    seed, months = arguments
    scenarios = [*RIGHT, *UNNAMED]
    years = run_quickly(lambda: [simulate_year(seed, scenario, months) for scenario in scenarios])
    ingest.cache_clear()
    score.cache_clear()
    DECIDED.clear()
    return pd.concat(years)


def summarise(runs: pd.DataFrame, head: str) -> pd.DataFrame:
    """Return the runs' scores as they are printed: column ``head``, then one per scenario."""
    columns = {}
    for scenario, group in runs.groupby("scenario", sort=False):
        needs_action = bool(RIGHT[scenario])
        needs_retraining = "retrain" in [action for action, _ in RIGHT[scenario].values()]
        columns[scenario] = {
            "right action": f"{group['right'].mean():.0%}",
            "detected": f"{group['detected'].mean():.0%}" if needs_action else "–",
            "delay, months": f"{group['delay'].median():.0f}" if needs_action else "–",
            "right diagnosis": f"{group['diagnosed'].mean():.0%}" if needs_action else "–",
            "false alarms, share of months": f"{group['false_alarms'].mean():.1%}",
            "runs without false retraining": f"{1 - group['false_retraining'].mean():.0%}",
            "new champion with the first labels": f"{group['promoted_in_time'].mean():.0%}"
            if needs_retraining
            else "–",
            "lost value recovered (median)": f"{group['recovered'].median():.1%}"
            if needs_retraining
            else "–",
            "regret, USD": f"{group['regret'].median():.1f}",
            "regret if never retrained, USD": f"{group['regret_frozen'].median():.1f}",
        }
    return pd.DataFrame(columns).rename_axis(head).reset_index()


def summarise_unnamed(years: pd.DataFrame, head: str) -> pd.DataFrame:
    """Return the scores of the changes in ``UNNAMED``: column ``head``, then one per change."""
    columns = {}
    unnamed = years[years["scenario"].isin(UNNAMED)]
    for scenario, group in unnamed.groupby("scenario", sort=False):
        retrainings = group[group["decision"] == "retrain"]
        number = retrainings.groupby("seed").size().reindex(group["seed"].unique(), fill_value=0)
        first = retrainings.groupby("seed")["month"].min()
        value = group.groupby("seed")[["own", "old", "best"]].mean()
        least, most = RIGHT_RETRAININGS[scenario]
        bound = f"at least {least}" if most == np.inf else f"at most {most}"
        columns[scenario] = {
            "right number of retrainings": f"{number.between(least, most).mean():.0%} ({bound})",
            "retrainings, median (range)": f"{number.median():.0f} ({number.min()}–{number.max()})",
            "first retraining, month (median)": f"{first.median():.0f}",
            "regret, USD": f"{(value['best'] - value['own']).median():.1f}",
            "regret if never retrained, USD": f"{(value['best'] - value['old']).median():.1f}",
            "runs better off than never retrained": f"{(value['own'] > value['old']).mean():.0%}",
        }
    return pd.DataFrame(columns).rename_axis(head).reset_index()


def whole_number_from(least: int) -> Callable[[str], int]:
    """Return a parser of command-line arguments that are whole numbers of at least ``least``."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} on")
        return int(text)

    return parse


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; bad arguments end with exit code 2 and a message."""
    parser = argparse.ArgumentParser(
        description="Drill the drift detection: simulate production years of every scenario, and "
        "of two changes that no scenario names, with many seeds, and score every decision. Prints "
        "what was not right and two tables, and saves the tables in benchmarks/results.md. Runs in "
        "two processes.",
        epilog="USD are per customer and month. All seeds share month 0, IBM's extract.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--seeds", type=whole_number_from(1), default=20, metavar="N", help="number of seeds"
    )
    parser.add_argument(
        "--first-seed",
        type=whole_number_from(0),
        default=100,
        metavar="N",
        help=f"first seed; {TUNING} are those that the limits were looked at on",
    )
    parser.add_argument(
        "--months",
        type=whole_number_from(FEWEST_MONTHS),
        default=12,
        metavar="N",
        help=f"as-of months of a year, {FEWEST_MONTHS} or more: the scenario changes in month "
        f"{START_MONTH}",
    )
    parser.add_argument(
        "--runs", type=Path, metavar="CSV", help="keep every month of every run in this file"
    )
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args(arguments)
    if options.runs and not options.runs.parent.is_dir():
        parser.error(f"argument --runs: there is no folder {options.runs.parent}")
    return options


def simulate_seeds(seeds: range, months: int) -> pd.DataFrame:
    """Simulate all scenarios with each seed, in two processes that share a new home.

    Returns:
        Rows as ``simulate_year`` gives them.
    """
    with tempfile.TemporaryDirectory() as home:
        os.environ["CHURN_HOME"] = home
        from churn_utils.data import source

        source.obtain_extract()
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            years = pool.imap(simulate_seed, [(seed, months) for seed in seeds])
            shown = tqdm(years, "production years", len(seeds), unit=" seed")
            return pd.concat(shown, ignore_index=True)


def main() -> None:
    """Simulate all runs, print what went wrong, print and save the tables."""
    options = parse_arguments()
    started = time.perf_counter()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    years = simulate_seeds(seeds, options.months)
    if options.runs:
        years.to_csv(options.runs, index=False)
    named = years[years["scenario"].isin(RIGHT)]
    runs = pd.DataFrame(
        [score_run(year) for _, year in named.groupby(["scenario", "seed"], sort=False)]
    )
    for run in runs[~runs["right"] | ~runs["diagnosed"]].itertuples():
        print(f"not right: {run.scenario}, seed {run.seed}: {run.actions}")
    times = os.times()
    wall = time.perf_counter() - started
    head = (
        f"seeds {seeds[0]}–{seeds[-1]} (limits looked at on {TUNING}), {options.months} months, "
        f"{wall:.0f} s, {times.user + times.children_user:.0f} s of CPU"
    )
    tables = {
        "Drill": summarise(runs, head),
        "Drill, worlds that no scenario names": summarise_unnamed(years, head),
    }
    for title, table in tables.items():
        if options.no_save:
            print(f"\n## {title}\n\n{to_markdown(table)}")
        else:
            save_table(title, table, Path(__file__).name)


if __name__ == "__main__":
    main()
