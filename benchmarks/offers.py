"""Drill the loop where offers are made: does it still learn, decide and measure right?

Each run is a production year as in ``drill.py``, in memory, in which the champion's decisions are
carried out: selected customers get an offer, apart from the control group, and the labels say what
happened after it. What decides and what is decided about is the package's own code. An oracle that
knows both outcomes of every customer says what the offers caused, and how much more would have been
caused with a champion that is trained on all outcomes as soon as the change has been labelled.

python benchmarks/offers.py               20 seeds; takes hours
python benchmarks/offers.py --seeds 2 --shares 0 0.1 0.3 --rates 0.5
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import os
import tempfile
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pandas as pd
from drill import first_champion, passes_gate, run_quickly
from results import save_table, to_markdown
from tqdm import tqdm

from churn_utils import settings
from churn_utils.evaluation.economics import Economics

SCENARIOS = ("none", "price_rise", "competitor")
START_MONTH = 3
RETRAIN_AT = START_MONTH + 1  # the first as-of month that knows labels of the change
HIDDEN = "hidden"
RATES = ("0.3", "0.5", "0.7", "1", HIDDEN)
ASSUMED = {HIDDEN: 0.5}  # what the first champion assumes; elsewhere the true rate
MONTHS = 7


@dataclass(frozen=True)
class Case:
    """One year of the drill."""

    seed: int
    scenario: str
    rate: str  # of saving, or HIDDEN
    control_share: float
    is_oracle: bool = False  # trains on what would have happened without offers, at RETRAIN_AT
    months: int = MONTHS


@dataclass
class Year:
    """What a run has come to."""

    champion: object
    history: pd.DataFrame | None = None
    treated: dict[int, set[str]] = field(default_factory=dict)
    known: list[pd.DataFrame] = field(default_factory=list)  # rows of the months, with groups
    results: list[dict] = field(default_factory=list)
    scores: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)

    def score(self, number: int, rows: pd.DataFrame) -> np.ndarray:
        """Return the champion's probabilities of a month's rows, which it is asked for once."""
        from churn_utils.inference import scoring

        key = number, self.champion.version
        if key not in self.scores:
            self.scores[key] = scoring.predict_probability(self.champion.model, rows)
        return self.scores[key]


def simulate_year(case: Case) -> pd.DataFrame:
    """Simulate one year; one row per as-of month, as ``_measure_month`` returns it."""
    from churn_utils.simulation import deliveries
    from churn_utils.simulation.scenarios import Simulation

    rate = None if case.rate == HIDDEN else float(case.rate)
    simulation = Simulation(case.scenario, case.seed, START_MONTH, save_rate=rate)
    year = Year(start_champion(ASSUMED.get(case.rate) or float(case.rate)))
    for number in range(1, case.months + 1):
        rows, _ = deliveries.ingest_in_memory(number, simulation, treated=year.treated)
        run_month(number, rows, year, case)
    return pd.DataFrame(year.results).assign(**vars(case))


@cache
def start_champion(save_rate: float):
    """Return the champion of as-of 1, which decides by a save rate."""
    first = first_champion()
    return dataclasses.replace(first, economics=Economics(save_rate=save_rate))


def run_month(number: int, rows: pd.DataFrame, year: Year, case: Case) -> None:
    """Decide, retrain where that is asked for, make offers, and keep what comes of them."""
    from churn_utils.features.offer_policy import OfferPolicy
    from churn_utils.monitoring import decision, offer_trial
    from churn_utils.monitoring.drift_tests import SCORE
    from churn_utils.monitoring.retraining_value import train_champion

    made = None
    is_promoted = False
    following = year.champion.version + 1
    economics = year.champion.economics
    rows = rows.assign(**{SCORE: year.score(number, rows)})
    if case.is_oracle:
        if number == RETRAIN_AT and case.scenario != "none":
            newest = year.known[-1]
            window = newest.assign(churned=newest["churns_without_offer"], weight=1.0)
            year.champion = train_champion(window, following, economics)
    else:
        made = decide(number, rows, year, case)
        year.history = pd.concat([year.history, made.to_frame()])
        if made.action == decision.RETRAIN:
            window = pd.concat(year.known)
            window = window[window["event_date"] >= made.labels_from]
            challenger = train_champion(window, following, economics)
            is_promoted = passes_gate(challenger, year.champion, window)
            year.champion = challenger if is_promoted else year.champion
    scored = rows.assign(**{SCORE: year.score(number, rows)})
    policy = OfferPolicy(case.control_share, salt=f"seed {case.seed}")
    offered = offer_trial.make_offers(scored, year.champion, policy)
    year.treated[number] = set(offered.loc[offered["group"] == "treated", "customer_id"])
    year.known.append(offered)
    year.results.append(measure_month(number, offered, made, is_promoted, year.champion))


def decide(number: int, rows: pd.DataFrame, year: Year, case: Case):
    """Return the decision of ``drift.decide`` on the months labelled so far."""
    from churn_utils.monitoring import drift
    from churn_utils.monitoring.decision import Delivery
    from churn_utils.monitoring.drift_tests import SCORE

    recent = [
        known.assign(**{SCORE: year.score(month, known)})
        for month, known in list(enumerate(year.known, start=1))[-3:]
    ]
    labelled = pd.concat(recent) if recent else rows.head(0)
    return drift.decide(
        settings.month_start(number),
        Delivery(len(rows), 0),
        rows,
        labelled,
        year.champion,
        year.history,
        seed=case.seed,
    )


def measure_month(number: int, offered: pd.DataFrame, made, is_promoted: bool, champion) -> dict:
    """Compare what was measured in a month with what an oracle knows."""
    from churn_utils.evaluation.offer_effects import measure_offers

    economics = champion.economics
    treated = offered[offered["group"] == "treated"]
    selected = offered[offered["group"] != "not_selected"]
    avoided = treated["churns_without_offer"].sum() - treated["churns_with_offer"].sum()
    caused = avoided * economics.churner_value_usd - len(treated) * economics.offer_cost_usd
    expected = (
        selected["churn_probability"] - selected["probability_with_offer"]
    ) * economics.churner_value_usd - economics.offer_cost_usd
    is_control = selected["group"] == "control"
    true_rate = 1 - selected["probability_with_offer"].sum() / selected["churn_probability"].sum()
    effects = measure_offers(selected, economics) if len(selected) else None
    row = {
        "month": number,
        "decision": made.action if made else "oracle",
        "diagnosis": made.diagnosis if made else "",
        "why": made.reason if made else "",
        "promoted": is_promoted,
        "offers": len(treated),
        "caused_usd": caused / len(offered),
        "expected_usd": expected[~is_control].sum() / len(offered),
        "forgone_usd": expected[is_control].sum() / len(offered),
        "true_rate": true_rate,
    }
    if effects is not None:
        row |= {
            "save_rate": effects.save_rate.value,
            "rate_covered": effects.save_rate.covers(true_rate),
            "usd_covered": effects.caused_usd.covers(caused),
            "half_usd": (effects.caused_usd.upper - effects.caused_usd.lower) / 2 / len(offered),
        }
    return row


def summarise(months: pd.DataFrame) -> pd.DataFrame:
    """Return one row per scenario, save rate and share, as they are printed.

    A run is right if it never asks for a retraining without a change, and after a change asks for
    one in the first or second month that knows its labels. USD are the expected ones, from the
    month on in which the oracle has its new champion.
    """
    own = months[~months["is_oracle"]]
    oracle = months[months["is_oracle"]]
    caused_by_oracle = _mean_caused(oracle, ["scenario", "rate"])
    rows = []
    for (scenario, rate, share), group in own.groupby(["scenario", "rate", "control_share"]):
        asked = group[group["decision"] == "retrain"]
        first = asked.groupby("seed")["month"].min().reindex(group["seed"].unique())
        is_early = asked["month"] < RETRAIN_AT
        is_wrong = asked["month"].notna() if scenario == "none" else is_early
        right = first.isna() if scenario == "none" else first.between(RETRAIN_AT, RETRAIN_AT + 1)
        caused = _mean_caused(group, ["scenario", "rate"]).loc[(scenario, rate)]
        rows.append(
            {
                "scenario": scenario,
                "save rate": rate,
                "control group": f"{share:.0%}",
                "right action": f"{right.mean():.0%}",
                "months with false retraining": f"{is_wrong.sum() / len(group):.1%}",
                "delay, months (median)": _format_delay(first) if scenario != "none" else "–",
                "promoted": f"{group.groupby('seed')['promoted'].any().mean():.0%}",
                "USD caused, of the oracle's": f"{caused / caused_by_oracle[(scenario, rate)]:.1%}",
                "save rate covered": _format_share(group["rate_covered"]),
                "USD covered": _format_share(group["usd_covered"]),
                "USD forgone": f"{group['forgone_usd'].mean():.1f}",
            }
        )
    return pd.DataFrame(rows)


def _mean_caused(months: pd.DataFrame, by: list[str]) -> pd.Series:
    """Return the expected USD a customer, offers to the control group included, after a change."""
    after = months[months["month"] >= RETRAIN_AT]
    return (after["expected_usd"] + after["forgone_usd"]).groupby([after[key] for key in by]).mean()


def _format_share(covered: pd.Series) -> str:
    """Return the share of the months that were measured; a dash where none was."""
    known = covered.dropna().astype(bool)
    return f"{known.mean():.1%}" if len(known) else "–"


def _format_delay(first: pd.Series) -> str:
    delay = (first - RETRAIN_AT).median()
    return "never" if np.isnan(delay) else f"{delay:.0f}"


def run_case(case: Case) -> pd.DataFrame:
    """Simulate a year quickly."""
    return run_quickly(lambda: simulate_year(case))


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="runs of each case")
    parser.add_argument("--first-seed", type=int, default=100, help="of the seeds")
    parser.add_argument("--shares", nargs="+", type=float, default=[0, 0.2], help="control groups")
    parser.add_argument("--rates", nargs="+", choices=RATES, default=RATES)
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=SCENARIOS)
    text = "write the table to results.md, as `make drill-offers` runs with the default cases"
    parser.add_argument("--save", action="store_true", help=text)
    return parser.parse_args(arguments)


def main() -> None:
    """Run the cases in two processes and print the table."""
    options = parse()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    cases = [
        Case(seed, scenario, rate, share, is_oracle)
        for seed in seeds
        for scenario in options.scenarios
        for rate in options.rates
        for share, is_oracle in [*((share, False) for share in options.shares), (0.2, True)]
    ]
    with tempfile.TemporaryDirectory() as home:
        os.environ["CHURN_HOME"] = home
        first_champion()
        with multiprocessing.get_context("fork").Pool(2) as pool:
            runs = list(tqdm(pool.imap_unordered(run_case, cases), total=len(cases)))
    table = summarise(pd.concat(runs, ignore_index=True))
    if options.save:
        save_table("Offers that are made: learning, deciding and measuring", table, "offers.py")
    else:
        print(to_markdown(table))


if __name__ == "__main__":
    main()
