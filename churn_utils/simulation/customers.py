"""Monthly snapshots of a simulated world: customers who stay, leave and are replaced, and what changes on purpose.

Month 0 is IBM's extract with IBM's own labels. Every row of it is a template; slot i is filled by customers of template
i modulo 7,043. From one month to the next the customer in a slot stays (tenure +1, total charges + the month's bill) or
is replaced: when it churned, or with probability ``ROTATION``. Whoever takes the slot starts with *all* attributes of
the template, its tenure and charges included, so that the joint distribution stays what it was: newcomers with tenure 0
would make tenure drift without any scenario.

What a slot holds follows from its template and from how long its customer has been there, so any month is found by
replaying a few random numbers per slot. They are counted, not stored: slot i owns the i-th block of the stream of
(seed, month). So any range of slots can be had alone, and 7,043 slots are the first 7,043 of ten million.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache

import numpy as np
import pandas as pd

from churn_utils import settings
from churn_utils.data import contract, source
from churn_utils.data.columns import CUSTOMER_COLUMNS
from churn_utils.errors import DataError
from churn_utils.evaluation.economics import Economics, decision_value_usd
from churn_utils.features import definitions, offline

SCENARIOS = {
    "none": "nothing changes",
    "price_rise": "fibre bills rise by 15 % and fibre customers churn more",
    "competitor": "customers with a contract churn more; no feature shows it",
    "mix_shift": "a campaign moves 35 % to credit card and paperless billing; nobody behaves differently",
    "data_bug": "for one month upstream sends charges in cents and renames a category; corrected a month later",
}
START_MONTH = 3
SLOTS = 7043
ROTATION = 0.2
PRICE_FACTOR = 1.15
CAMPAIGN_SHARE = 0.35
# As good as boosted trees on IBM's data, and smooth: a customer who stays is not another one from month to month.
WORLD_PARAMS = {"family": "logistic_regression", "C": 5.0, "n_knots": 5}


def simulate_month(
    month: int,
    seed: int,
    scenario: str = "none",
    start_month: int = START_MONTH,
    slots: int = SLOTS,
) -> pd.DataFrame:
    """Simulate one month: who is there, as they truly are, and whether they churn in it.

    Args:
        month: 0 is IBM's extract.
        seed: of all random numbers; month 0 does not depend on it.
        scenario: name in ``SCENARIOS``.
        start_month: month from which on the world is changed; for ``data_bug`` the one that is sent wrongly.
        slots: number of customers; those beyond 7,043 are copies of the templates.

    Returns:
        One row per slot, index ``slot``: ``slot_id`` (IBM's id of the template, decides the split),
        ``customer_id``, the attributes in the contract's names and types (``tenure`` in months, charges in USD,
        ``total_charges`` null before the first bill), ``churn_probability`` (the world's own) and ``churned`` (bool).

    Raises:
        DataError: an unknown scenario, or numbers that are out of range.
    """
    return pd.concat(iterate_month(month, seed, scenario, start_month, slots))


def iterate_month(
    month: int,
    seed: int,
    scenario: str = "none",
    start_month: int = START_MONTH,
    slots: int = SLOTS,
    rows_at_once: int = 250_000,
) -> Iterator[pd.DataFrame]:
    """Iterate over the rows of ``simulate_month`` in parts of ``rows_at_once``, holding one part at a time.

    Raises:
        DataError: as ``simulate_month``, at the call and not at the first part.
    """
    _check(
        scenario,
        month=month,
        seed=seed,
        start_month=start_month,
        slots=slots,
        rows_at_once=rows_at_once,
    )
    return (
        _simulate_slots(
            np.arange(start, min(start + rows_at_once, slots)), month, seed, scenario, start_month
        )
        for start in range(0, slots, rows_at_once)
    )


def _check(scenario: str, **numbers: int) -> None:
    if scenario not in SCENARIOS:
        raise DataError(
            f"there is no scenario {scenario!r}; the scenarios are {', '.join(SCENARIOS)}."
        )
    for name, value in numbers.items():
        least = 0 if name in ("month", "seed") else 1
        if not isinstance(value, int | np.integer) or value < least:
            raise DataError(f"{name} is {value!r}; valid are whole numbers from {least} on.")


def _simulate_slots(
    slots: np.ndarray, month: int, seed: int, scenario: str, start_month: int
) -> pd.DataFrame:
    joined = _replay(slots, month, seed, scenario, start_month)
    changed = scenario if month >= start_month else "none"
    rows = _age(slots, month - joined)
    if changed == "price_rise":
        rows = _raise_prices(rows, months=month - np.maximum(joined, start_month))
    if changed == "mix_shift":
        _, _, campaign, _ = _draw(
            slots, seed, 0
        )  # once for each slot: the campaign wins newcomers as well
        rows.loc[campaign < CAMPAIGN_SHARE, "payment_method"] = "Credit card (automatic)"
        rows.loc[campaign < CAMPAIGN_SHARE, "paperless_billing"] = "Yes"
    rows.insert(0, "slot_id", rows["customer_id"])
    rows["customer_id"] = rows["slot_id"] + _id_suffixes(slots // len(_templates()), joined)
    rows["churn_probability"] = _churn_probabilities(changed, month)[
        month - joined, slots % len(_templates())
    ]
    churn, *_ = _draw(slots, seed, month)
    rows["churned"] = _churned(rows["churn_probability"].to_numpy(), slots, month, churn)
    return rows.drop(columns="churn")


def _replay(
    slots: np.ndarray, month: int, seed: int, scenario: str, start_month: int
) -> np.ndarray:
    """Month in which the customer whom each slot holds in ``month`` joined."""
    joined, template = np.zeros(len(slots), dtype="int64"), slots % len(_templates())
    for past in range(month):
        table = _churn_probabilities(scenario if past >= start_month else "none", month)
        churn, rotate, *_ = _draw(slots, seed, past)
        churned = _churned(table[past - joined, template], slots, past, churn)
        joined[churned | (rotate < ROTATION)] = past + 1
    return joined


def _churned(
    probability: np.ndarray, slots: np.ndarray, month: int, draw: np.ndarray
) -> np.ndarray:
    if month == 0:
        return (_templates()["churn"] == "Yes").to_numpy()[
            slots % len(_templates())
        ]  # IBM's own labels
    return draw < probability


def _draw(slots: np.ndarray, seed: int, month: int) -> np.ndarray:
    """Four uniform numbers (churn, rotation, campaign, spare) for each of consecutive slots, shape (4, slots).

    A slot's four are one block of the generator, so they are the same whichever slot comes first. No scenario
    enters, so two scenarios differ by what the world does and not by chance.
    """
    generator = np.random.Philox(np.random.SeedSequence([seed, month])).advance(int(slots[0]))
    return np.random.Generator(generator).random((len(slots), 4)).T


def _age(slots: np.ndarray, months: np.ndarray) -> pd.DataFrame:
    """Rows of the slots' templates after so many months in the slot, at the prices of month 0."""
    rows = _templates().take(slots % len(_templates())).set_axis(pd.Index(slots, name="slot"))
    tenure = rows["tenure"] + months
    total = rows["total_charges"].fillna(0.0) + months * rows["monthly_charges"]
    return rows.assign(tenure=tenure, total_charges=total.round(2).where(tenure > 0))


def _raise_prices(rows: pd.DataFrame, months: np.ndarray) -> pd.DataFrame:
    """Raise the fibre bills; ``months`` of them have been paid at the new price."""
    old = rows["monthly_charges"]
    new = old.where(rows["internet_service"] != "Fiber optic", (old * PRICE_FACTOR).round(2))
    total = rows["total_charges"] + (new - old) * months
    return rows.assign(monthly_charges=new, total_charges=total.round(2))


def _id_suffixes(copy: np.ndarray, joined: np.ndarray) -> np.ndarray:
    """What makes a customer's id its own: nothing for IBM's customers, else the copy and the month of joining."""
    copies = np.array(
        [f"-c{number}" if number else "" for number in range(copy[0], copy[-1] + 1)], dtype=object
    )
    months = np.array(
        [f"-m{month}" if month else "" for month in range(joined.max() + 1)], dtype=object
    )
    return copies[copy - copy[0]] + months[joined]


@lru_cache(maxsize=16)
def _churn_probabilities(scenario: str, months: int) -> np.ndarray:
    """The world: churn probability by months in the slot (rows, 0 to ``months``) and template (columns).

    Behaviour follows from the attributes as they would be without the scenario: how customers answer a price is
    in the scenario's own shift, and a campaign that moves them to another way of paying does not move their minds.
    """
    templates = _templates()
    log_odds = np.stack([_log_odds_after(number) for number in range(months + 1)])
    if scenario == "price_rise":
        tenure = templates["tenure"].to_numpy() + np.arange(months + 1)[:, None]
        log_odds += (templates["internet_service"] == "Fiber optic").to_numpy() * np.where(
            tenure > 24, 2.0, 0.7
        )
    if scenario == "competitor":
        log_odds += 2.5 * (templates["contract"] != "Month-to-month").to_numpy()
    return 1 / (1 + np.exp(-log_odds))


@cache
def _log_odds_after(months: int) -> np.ndarray:
    return _world_model().decision_function(
        _model_inputs(_age(np.arange(len(_templates())), np.array(months)))
    )


@cache
def _world_model():
    from churn_utils.training import models  # 1.4 s, so only for those who need it

    templates = _templates()
    return models.build_model(WORLD_PARAMS, seed=0).fit(
        _model_inputs(templates), templates["churn"] == "Yes"
    )


def _model_inputs(customers: pd.DataFrame) -> pd.DataFrame:
    stamped = customers.assign(snapshot_date=pd.NaT, written_at=pd.NaT)
    return definitions.select_model_inputs(
        definitions.add_on_demand(definitions.build_features(stamped))
    )


@cache
def _templates() -> pd.DataFrame:
    customers, _ = contract.check_rows(source.read_delivery(source.obtain_extract()))
    return customers.reset_index(drop=True)


def deliver_month(frame: pd.DataFrame, broken: bool = False) -> pd.DataFrame:
    """Write simulated customers down as upstream sends them.

    Args:
        frame: rows of ``simulate_month``, or a part of them.
        broken: with the data bug: all charges in cents, and a payment method under a new name.

    Returns:
        Text as ``source.read_delivery`` returns it for an unlabelled file: no label, no slot, no probability.
        Index ``line``, from 2 on for the first slot.
    """
    rows = frame[list(CUSTOMER_COLUMNS)].astype({"senior_citizen": str, "tenure": str})
    rows = rows.set_axis(pd.RangeIndex(len(frame), name="line") + int(frame.index[0]) + 2)
    for name in ("monthly_charges", "total_charges"):
        amount = rows[name] * 100 if broken else rows[name]
        rows[name] = amount.map("{:.0f}".format if broken else "{:.2f}".format).where(
            amount.notna(), ""
        )
    return rows.replace({"payment_method": {"Electronic check": "E-check"}}) if broken else rows


def deliver_at(
    as_of_month: int,
    seed: int,
    scenario: str = "none",
    start_month: int = START_MONTH,
    slots: int = SLOTS,
) -> dict[int, pd.DataFrame]:
    """List what arrives at an as-of month, in the order in which it is to be taken in.

    Returns:
        Text rows by the month that they describe: that of ``as_of_month`` and, the month after ``data_bug``, the
        corrected file of the month before ahead of it.
    """
    corrected = scenario == "data_bug" and as_of_month == start_month + 1
    broken = scenario == "data_bug" and as_of_month == start_month
    months = [start_month, as_of_month] if corrected else [as_of_month]
    return {
        month: deliver_month(simulate_month(month, seed, scenario, start_month, slots), broken)
        for month in months
    }


def known_rows(
    month: int,
    seed: int,
    scenario: str = "none",
    start_month: int = START_MONTH,
    slots: int = SLOTS,
    broken: bool = False,
) -> tuple[pd.DataFrame, int]:
    """Take a month in without any table: delivered, checked and featurised, with what will be known of it later.

    Args:
        month, seed, scenario, start_month, slots: as for ``simulate_month``.
        broken: as for ``deliver_month``.

    Returns:
        ``(rows, quarantined)``. ``rows`` are those that passed the contract, in order: ``customer_id``, the model
        inputs, ``snapshot_date`` and ``event_date`` (the month), ``split``, ``churned`` and the world's own
        ``churn_probability``; ``quarantined`` is the number of those that did not.

    Raises:
        DataError: as ``simulate_month``.
    """
    truth, date = (
        simulate_month(month, seed, scenario, start_month, slots),
        settings.month_start(month),
    )
    delivery = deliver_month(truth, broken)
    accepted, rejected = contract.check_rows(delivery)
    rows = definitions.add_on_demand(
        definitions.build_features(accepted.assign(snapshot_date=date, written_at=date))
    )
    later = truth.set_axis(delivery.index).loc[
        accepted.index, ["slot_id", "churned", "churn_probability"]
    ]
    split = offline.split_of(later.pop("slot_id"))
    return rows.assign(event_date=date, split=split, **later).reset_index(drop=True), len(rejected)


def redraw_labels(
    rows: pd.DataFrame, log_odds: np.ndarray | float, seed: int | list[int]
) -> pd.DataFrame:
    """Make a world that is no scenario: move the customers' log-odds and draw their labels anew.

    Args:
        rows: with ``churn_probability``, as ``known_rows`` or ``simulate_month`` return them.
        log_odds: to be added, a number or one for each row.
        seed: of the draws; a list such as ``[seed, month]`` keeps months apart.

    Returns:
        The same rows under another ``churn_probability`` and ``churned``. Who is there stays as it was: those whom
        this drives away are not replaced in the months after.
    """
    old = rows["churn_probability"]
    new = 1 / (1 + (1 - old) / old * np.exp(-log_odds))
    return rows.assign(
        churn_probability=new, churned=np.random.default_rng(seed).random(len(rows)) < new
    )


def labels_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Labels for ``feature_store.record_labels``: ``customer_id, churn`` (Yes or No); its ``slot_ids``: ``slot_id``."""
    return frame[["customer_id", "slot_id"]].assign(churn=np.where(frame["churned"], "Yes", "No"))


def best_value_usd(frame: pd.DataFrame, economics: Economics) -> float:
    """USD per customer that nobody can beat but by luck: offers decided by the world's own probabilities."""
    treated = frame["churn_probability"].to_numpy() >= economics.threshold
    return float(decision_value_usd(frame["churned"].to_numpy(), treated, economics).mean())
