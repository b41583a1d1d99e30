"""Simulate the customers of each month: who stays, who leaves, who comes, and who churns.

Month 0 is IBM's extract with IBM's own labels. Every row of it is a template; slot i is filled by
customers of template i modulo 7,043. From one month to the next the customer in a slot stays
(tenure +1, total charges + the month's bill) or is replaced: when it churned, or with probability
``ROTATION``. The customer who takes the slot starts with *all* attributes of the template, tenure
and charges included, so that the joint distribution stays what it was: newcomers with tenure 0
would make tenure drift without any scenario.

What a slot holds follows from its template and from how long its customer has been there, so any
month is found by replaying a few random numbers per slot. Slot i owns the i-th block of the stream
of (seed, month), so any range of slots can be had alone. Where offers are made, who stays also
depends on who got one (``responses``), so the offers of the months before are given too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from functools import cache, lru_cache
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from churn_utils.data import contract, delivered_files, source
from churn_utils.features import definitions, model_inputs
from churn_utils.simulation import responses
from churn_utils.simulation.scenarios import Simulation, check_whole_number

ROTATION = 0.2  # probability that a customer who does not churn is replaced as well
PRICE_FACTOR = 1.15
CAMPAIGN_SHARE = 0.35
# As good as boosted trees on IBM's data, and smooth: the churn probability of a customer who stays
# does not jump from month to month.
TRUE_MODEL_PARAMS = {"family": "logistic_regression", "C": 5.0, "n_knots": 5}
Treated = Mapping[int, Set[str]]  # ids of the customers who got an offer, by month number
NO_OFFERS: Treated = MappingProxyType({})


class Draws(NamedTuple):
    """Uniform random numbers of a month, each of shape (slots,)."""

    churn: np.ndarray
    rotation: np.ndarray
    campaign: np.ndarray
    response: np.ndarray  # to an offer


def simulate_month(
    month: int, simulation: Simulation, treated: Treated = NO_OFFERS
) -> pd.DataFrame:
    """Simulate one month: its customers as they truly are, and whether they churn in it.

    Args:
        month: its number, 0 for IBM's extract.
        simulation: what the month depends on besides.
        treated: who got an offer, in this month and those before; later months do not count.

    Returns:
        One row per slot, index ``slot``: ``slot_id`` (IBM's id of the template, decides the
        split), ``customer_id``, the attributes in the contract's names and types (``tenure`` in
        months, charges in USD, ``total_charges`` null before the first bill), ``churn_probability``
        (the true one, without an offer), ``churned`` (bool) and what only a simulation knows:
        ``probability_with_offer``, ``churns_without_offer`` and ``churns_with_offer``; ``churned``
        is one of the last two.

    Raises:
        DataError: the month is not a whole number from 0 on.
    """
    return pd.concat(iterate_month(month, simulation, treated=treated))


def iterate_month(
    month: int,
    simulation: Simulation,
    rows_at_once: int = 250_000,
    treated: Treated = NO_OFFERS,
) -> Iterator[pd.DataFrame]:
    """Iterate over the rows of ``simulate_month`` in parts, holding one part at a time.

    Raises:
        DataError: as ``simulate_month``, at the call and not at the first part.
    """
    check_whole_number("month", month, least=0)
    check_whole_number("rows_at_once", rows_at_once, least=1)
    starts = range(0, simulation.slots, rows_at_once)
    parts = (np.arange(start, min(start + rows_at_once, simulation.slots)) for start in starts)
    return (_simulate_slots(slots, month, simulation, treated) for slots in parts)


def _simulate_slots(
    slots: np.ndarray, month: int, simulation: Simulation, treated: Treated
) -> pd.DataFrame:
    """Simulate a month of consecutive slots, as ``simulate_month`` returns it."""
    scenario = simulation.scenario_in(month)
    joined = _find_joining_months(slots, month, simulation, treated)
    months_in_slot = month - joined

    rows = _age_templates(slots, months_in_slot)
    if scenario == "price_rise":
        first_month_at_new_price = np.maximum(joined, simulation.start_month)
        rows = _raise_prices(rows, months_paid=month - first_month_at_new_price)
    if scenario == "mix_shift":
        rows = _apply_campaign(rows, slots, simulation.seed)

    template = slots % len(_templates())
    template_id = rows["customer_id"]
    rows.insert(0, "slot_id", template_id)
    rows["customer_id"] = _customer_ids(slots, joined)

    probability = _churn_probabilities(scenario, month)[months_in_slot, template]
    draws = _draw(slots, simulation.seed, month)
    without_offer = _decide_churn(probability, template, month, draws.churn)
    response = responses.find_responses(_usual_responses(), slots, joined, simulation)
    with_offer = responses.decide_churn(without_offer, response, draws.response)
    is_treated = rows["customer_id"].isin(treated.get(month, set()))
    rows["churn_probability"] = probability
    rows["churned"] = np.where(is_treated, with_offer, without_offer)
    rows["probability_with_offer"] = responses.probability_with_offer(probability, response)
    rows["churns_without_offer"] = without_offer
    rows["churns_with_offer"] = with_offer
    return rows.drop(columns="churn")


def _find_joining_months(
    slots: np.ndarray, month: int, simulation: Simulation, treated: Treated
) -> np.ndarray:
    """Return the month in which the customer that each slot holds in ``month`` joined.

    Replays the months before: a slot's customer is replaced when it churns or rotates out.
    """
    joined = np.zeros(len(slots), dtype="int64")
    template = slots % len(_templates())
    for past in range(month):
        table = _churn_probabilities(simulation.scenario_in(past), month)
        draws = _draw(slots, simulation.seed, past)
        churned = _decide_churn(table[past - joined, template], template, past, draws.churn)
        if treated.get(past):
            is_treated = pd.Index(_customer_ids(slots, joined)).isin(treated[past])
            response = responses.find_responses(_usual_responses(), slots, joined, simulation)
            with_offer = responses.decide_churn(churned, response, draws.response)
            churned = np.where(is_treated, with_offer, churned)
        replaced = churned | (draws.rotation < ROTATION)
        joined[replaced] = past + 1
    return joined


def _customer_ids(slots: np.ndarray, joined: np.ndarray) -> np.ndarray:
    """Return the ids of the customers who took consecutive slots in the months ``joined``."""
    templates = _templates()
    template_id = templates["customer_id"].to_numpy()[slots % len(templates)]
    return template_id + _id_suffixes(slots // len(templates), joined)


def _decide_churn(
    probability: np.ndarray,
    template: np.ndarray,
    month: int,
    draw: np.ndarray,
) -> np.ndarray:
    """Return whether each customer churns in a month: IBM's own labels in month 0, else drawn."""
    if month == 0:
        labels = (_templates()["churn"] == "Yes").to_numpy()
        return labels[template]
    return draw < probability


def _draw(slots: np.ndarray, seed: int, month: int) -> Draws:
    """Draw the random numbers of consecutive slots in a month.

    A slot's four numbers are one block of the generator, so they are the same whichever slot comes
    first. No scenario enters, so two scenarios differ by what they change and not by chance.
    """
    stream = np.random.SeedSequence([seed, month])
    generator = np.random.Generator(np.random.Philox(stream).advance(int(slots[0])))
    numbers = generator.random((len(slots), len(Draws._fields)))
    return Draws(*numbers.T)


def _age_templates(slots: np.ndarray, months: np.ndarray) -> pd.DataFrame:
    """Return the slots' templates after so many months in the slot, at the prices of month 0."""
    templates = _templates()
    rows = templates.take(slots % len(templates)).set_axis(pd.Index(slots, name="slot"))
    tenure = rows["tenure"] + months
    total = rows["total_charges"].fillna(0.0) + months * rows["monthly_charges"]
    return rows.assign(tenure=tenure, total_charges=total.round(2).where(tenure > 0))


def _raise_prices(rows: pd.DataFrame, months_paid: np.ndarray) -> pd.DataFrame:
    """Raise the fibre bills; ``months_paid`` of them were paid at the new price."""
    old = rows["monthly_charges"]
    is_fibre = rows["internet_service"] == "Fiber optic"
    new = old.where(~is_fibre, (old * PRICE_FACTOR).round(2))
    total = rows["total_charges"] + (new - old) * months_paid
    return rows.assign(monthly_charges=new, total_charges=total.round(2))


def _apply_campaign(
    rows: pd.DataFrame,
    slots: np.ndarray,
    seed: int,
) -> pd.DataFrame:
    """Move a share of the slots to credit card and paperless billing.

    The draw is that of month 0, once for each slot, so the campaign wins newcomers as well.
    """
    moved = _draw(slots, seed, month=0).campaign < CAMPAIGN_SHARE
    return rows.assign(
        payment_method=rows["payment_method"].where(~moved, "Credit card (automatic)"),
        paperless_billing=rows["paperless_billing"].where(~moved, "Yes"),
    )


@cache
def _usual_responses() -> np.ndarray:
    """Return the templates' log-odds of being kept by an offer."""
    return responses.usual_log_odds(_templates())


def _id_suffixes(copy: np.ndarray, joined: np.ndarray) -> np.ndarray:
    """Return what is added to the template's id: copy and month of joining, where not 0."""
    numbers = range(copy[0], copy[-1] + 1)
    copies = np.array([f"-c{number}" if number else "" for number in numbers], dtype=object)
    months = range(joined.max() + 1)
    joinings = np.array([f"-m{month}" if month else "" for month in months], dtype=object)
    return copies[copy - copy[0]] + joinings[joined]


@lru_cache(maxsize=16)
def _churn_probabilities(scenario: str, months: int) -> np.ndarray:
    """Return the true churn probability by months in the slot (0 to ``months``) and template.

    Shape (months + 1, 7043). Behaviour follows from the attributes as they would be without the
    scenario: how customers respond to a price is the scenario's own shift of the log-odds, and a
    campaign that moves them to another way of paying does not change how they behave.
    """
    templates = _templates()
    log_odds = np.stack([_log_odds_after(number) for number in range(months + 1)])
    if scenario == "price_rise":
        is_fibre = (templates["internet_service"] == "Fiber optic").to_numpy()
        tenure = templates["tenure"].to_numpy() + np.arange(months + 1)[:, None]
        log_odds += is_fibre * np.where(tenure > 24, 2.0, 0.7)
    if scenario == "competitor":
        has_contract = (templates["contract"] != "Month-to-month").to_numpy()
        log_odds += 2.5 * has_contract
    return expit(log_odds)


@cache
def _log_odds_after(months: int) -> np.ndarray:
    """Return the templates' log-odds of churn after so many months, without any scenario."""
    every_template = np.arange(len(_templates()))
    aged = _age_templates(every_template, np.array(months))
    return _true_model().decision_function(_select_inputs(aged))


@cache
def _true_model():
    """Return the model that gives the true probabilities: fitted once, on IBM's labels."""
    from churn_utils.training import models  # takes 1.4 s to import: only where it is needed

    templates = _templates()
    inputs = _select_inputs(templates)
    churned = templates["churn"] == "Yes"
    model = models.build_model(TRUE_MODEL_PARAMS, seed=0)
    return model.fit(inputs, churned)


def _select_inputs(customers: pd.DataFrame) -> pd.DataFrame:
    """Return the model inputs of customers."""
    stamped = customers.assign(snapshot_date=pd.NaT, written_at=pd.NaT)
    rows = definitions.add_on_demand(definitions.build_features(stamped))
    return model_inputs.select_model_inputs(rows)


@cache
def _templates() -> pd.DataFrame:
    """Return IBM's customers, checked against the contract."""
    customers, _ = contract.check_rows(delivered_files.read_delivery(source.obtain_extract()))
    return customers.reset_index(drop=True)


def redraw_labels(
    customers: pd.DataFrame,
    log_odds: np.ndarray | float,
    seed: int | list[int],
) -> pd.DataFrame:
    """Shift the log-odds of churn and draw the labels again: a change that no scenario has.

    The customers of later months stay as they were: those who churn because of the shift are not
    replaced. A seed such as ``[seed, month]`` keeps months apart.

    Returns:
        The same rows with another ``churn_probability`` and ``churned``.
    """
    old = customers["churn_probability"]
    new = expit(logit(old) + log_odds)
    draws = np.random.default_rng(seed).random(len(customers))
    return customers.assign(churn_probability=new, churned=draws < new)
