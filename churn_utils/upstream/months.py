"""The source of months: what arrives at each month, wherever it comes from.

A source is a simulation or a folder of deliveries. Only this module knows which; everything above
it asks these functions.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd

from churn_utils import settings
from churn_utils.data import delivered_files
from churn_utils.data import source as extract
from churn_utils.data.columns import CUSTOMER_ID, LABEL
from churn_utils.data.files import write_atomically
from churn_utils.errors import DataError, UsageError
from churn_utils.features.offer_policy import TREATED
from churn_utils.simulation.scenarios import NO_CHANGE, Simulation
from churn_utils.upstream import folder, intake
from churn_utils.upstream.folder import CUSTOMERS, LABELS, OFFERS, ONE_MONTH, DeliveredFile


@dataclass(frozen=True)
class DeliveryFolder:
    """A folder of deliveries (``upstream.folder``) and the first month in it."""

    path: Path
    first_month: pd.Timestamp


MonthSource = Simulation | DeliveryFolder


@dataclass(frozen=True)
class Arrival:
    """What arrives at a month.

    Attributes:
        as_of: the month.
        snapshots: customers as text (``delivered_files.read_delivery``) by the month that they
            describe: the month itself, and before it corrected files of earlier months.
        labels: by the month that they describe: ``customer_id, churn`` (Yes or No), ``slot_id``
            (decides the split): those of the month before, and of months that are corrected.
    """

    as_of: pd.Timestamp
    snapshots: dict[pd.Timestamp, pd.DataFrame]
    labels: dict[pd.Timestamp, pd.DataFrame]
    entries: tuple[intake.Entry, ...] = ()  # files of a folder that arrived up to this month
    # By month: ``customer_id, group``, as a company reports who got an offer.
    offers: dict[pd.Timestamp, pd.DataFrame] = field(default_factory=dict)


@dataclass(frozen=True)
class Available:
    """How far a source goes.

    Attributes:
        last: last month that can be run: its customers are there, and the labels of the month
            before; None if there is none.
        waiting: what is waited for after it, such as ``2026-07: …``; empty if nothing is.
    """

    last: pd.Timestamp | None
    waiting: str = ""


@dataclass(frozen=True)
class Change:
    """What changes on purpose in a simulation, and from which month on."""

    month: pd.Timestamp
    description: str


def open_source(
    scenario: str, seed: int, deliveries: str = "", is_fresh: bool = False
) -> MonthSource:
    """Return the folder of deliveries if there is one, else the simulation.

    Args:
        scenario, seed: of the simulation.
        deliveries: path of the folder; empty for the simulation.
        is_fresh: whether the home is cleared first, so that what it has taken in does not count.

    Raises:
        UsageError: the folder cannot be read, holds no month, or months before the first one that
            this home has taken in.
        DataError: an unknown scenario, or a seed out of range.
    """
    if not deliveries:
        return Simulation(scenario, seed)
    path = Path(deliveries).resolve()
    return _open_folder(path, None if is_fresh else _find_first_taken(path))


def _find_first_taken(path: Path) -> object:
    """Return the month with which this home began to follow a folder; None if it does not."""
    try:
        bound = _read_binding()
    except ValueError:  # ``bind_home`` says so
        return None
    return bound.get("first_month") if bound and bound.get("deliveries") == str(path) else None


def _open_folder(path: Path, first_taken: object) -> DeliveryFolder:
    """Return a folder of deliveries; its first month is the one that the home began with."""
    files = folder.list_files(path)
    months = [file.folder for file in files if file.kind == CUSTOMERS]
    if not months and first_taken is None:
        raise UsageError(
            f"{path} holds no month yet: put the customers of the first one at, for instance, "
            f"{path / '2026-01' / 'customers.csv'} (data/README.md says what is in it)."
        )
    first = min(months) if first_taken is None else pd.Timestamp(str(first_taken))
    earlier = sorted({f"{month:%Y-%m}" for month in months if month < first})
    if earlier:
        raise UsageError(
            f"{path} holds {len(earlier)} month(s) before {first:%Y-%m}, with which this home "
            f"began: {', '.join(earlier)}. Move them elsewhere, or start again from the earliest "
            "with run_all.py --fresh."
        )
    return DeliveryFolder(path, first)


def bind_home(source: MonthSource) -> MonthSource:
    """Return the source, after writing it to ``world.json`` or comparing it with what is there.

    Raises:
        UsageError: the home follows another one; the message names both and the remedy.
        DataError: the file is empty or damaged.
    """
    wanted = _describe(source)
    if not _binding_path().exists():
        write_atomically(_binding_path(), json.dumps(wanted))
    try:
        bound = _read_binding()
    except ValueError as error:
        raise DataError(
            f"{_binding_path()}, which names the scenario of this home, is empty or damaged: write "
            f"{json.dumps(wanted)} to it if that is right, or start again with run_all.py --fresh."
        ) from error
    check_same(bound, wanted)
    return source


def check_same(bound: object, wanted: object) -> None:
    """Raise a ``UsageError`` if this home is bound to another source than is wanted."""
    if bound != wanted:
        raise UsageError(
            f"{settings.home()} follows the scenario {bound}, not {wanted}. Set SCENARIO, SEED, "
            "DELIVERIES (--deliveries) and OFFERS (--offers) to those of the home, or use another "
            "home (CHURN_HOME, run_all.py --home DIR, run_all.py --fresh)."
        )


def _describe(source: MonthSource) -> dict[str, object]:
    """Return what a home is bound to."""
    if isinstance(source, Simulation):
        described = asdict(source)
        if source.save_rate is None:  # as in homes from before offers were made
            del described["save_rate"]
        return described
    return {"deliveries": str(source.path), "first_month": f"{source.first_month:%Y-%m}"}


def _binding_path() -> Path:
    return settings.home() / "world.json"


def _read_binding() -> dict[str, object] | None:
    """Return what this home is bound to, or None.

    Raises:
        ValueError: the file is empty or damaged.
    """
    path = _binding_path()
    return json.loads(path.read_bytes()) if path.exists() else None


def first_month(source: MonthSource) -> pd.Timestamp:
    """Return the first month of a source; the first champion is trained a month later."""
    return settings.month_start(0) if isinstance(source, Simulation) else source.first_month


def find_available(source: MonthSource, is_fresh: bool = False) -> Available:
    """Return how far a source goes; a simulation has no end, and waits for nothing.

    Months that the home has taken in are there although their files may have been moved since,
    unless it is cleared first (``is_fresh``).
    """
    if isinstance(source, Simulation):
        return Available(pd.Timestamp.max.normalize())
    customers, labelled = _list_months(source, is_fresh)
    month, last = source.first_month, None
    while month in customers and (last is None or last in labelled):
        last, month = month, month + ONE_MONTH
    return Available(last, _describe_missing(source, month, customers))


def _list_months(
    source: DeliveryFolder, is_fresh: bool
) -> tuple[set[pd.Timestamp], set[pd.Timestamp]]:
    """Return the months whose customers are there, and those whose labels are."""
    files = folder.list_files(source.path)
    customers = {file.folder for file in files if file.kind == CUSTOMERS}
    labelled = {file.month for file in files if file.kind == LABELS}
    taken_in = [] if is_fresh else intake.read_entries()
    for entry in taken_in:
        if entry.kind == CUSTOMERS:
            customers.add(pd.Timestamp(entry.month))
        if entry.kind == LABELS:
            labelled.add(pd.Timestamp(entry.month))
    return customers, labelled


def _describe_missing(
    source: DeliveryFolder, month: pd.Timestamp, customers: set[pd.Timestamp]
) -> str:
    """Return the month that cannot be run yet, and which file it lacks."""
    name = f"{month:%Y-%m}"
    if month in customers:
        before = f"{month - ONE_MONTH:%Y-%m}"
        lacking = source.path / before / "labels.csv"
        return f"{name}: its customers are there, the labels of {before} are not ({lacking})"
    text = f"{name}: {source.path / name / 'customers.csv'} is not there"
    later = sorted(f"{other:%Y-%m}" for other in customers if other > month)
    if later:
        text += f"; {len(later)} later month(s) are, and wait for it: {', '.join(later)}"
    return text


def list_arrivals(source: MonthSource, months: set[str]) -> list[list[str]]:
    """Return month, file and digest of what arrives at months such as ``2026-04``.

    Nothing for a simulation: its scenario and seed say it all.
    """
    if isinstance(source, Simulation) or not months:
        return []
    files = folder.list_files(source.path)
    entries = intake.plan_entries(files, pd.Timestamp(max(months)))
    return [[entry.as_of, entry.name, entry.sha256] for entry in entries if entry.as_of in months]


def arrive(source: MonthSource, as_of: pd.Timestamp) -> Arrival:
    """Return what arrives at a month; a month that was taken in (``record``) gives it again.

    Raises:
        DataError: a file of the wrong form, or one that is being written.
    """
    if isinstance(source, Simulation):
        return _simulate(source, as_of)
    files = folder.list_files(source.path)
    entries = intake.plan_entries(files, as_of)
    intake.copy_files(entries, as_of, files)
    return _read_arrival(entries, as_of)


def record(arrival: Arrival) -> None:
    """Record that a month was taken in: files that change later are corrections."""
    intake.record(list(arrival.entries))


def _simulate(simulation: Simulation, as_of: pd.Timestamp) -> Arrival:
    """Return what the simulated company sends at a month."""
    from churn_utils.simulation import customers, deliveries  # load the models that draw labels

    month = settings.month_of(as_of)
    if month == 0:
        rows, _ = _read_extract()
        return Arrival(as_of, {as_of: rows}, {})
    treated = _read_treated()
    delivered = deliveries.deliver_at(month, simulation, treated)
    labels = deliveries.make_labels(customers.simulate_month(month - 1, simulation, treated))
    snapshots = {settings.month_start(number): rows for number, rows in delivered.items()}
    return Arrival(as_of, snapshots, {settings.month_start(month - 1): labels})


def _read_treated() -> dict[int, set[str]]:
    """Return who got an offer in this home, by month number: the simulated customers respond."""
    from churn_utils.features import offers  # reads tables, which the command line need not

    made = offers.read_offers()
    treated = made[made["group"] == TREATED]
    return {
        settings.month_of(month): set(ids)
        for month, ids in treated.groupby("snapshot_date")["customer_id"]
    }


def _read_arrival(entries: list[intake.Entry], as_of: pd.Timestamp) -> Arrival:
    """Return what the home keeps of a month; of two files of one month the later folder counts."""
    arrived = [entry for entry in entries if pd.Timestamp(entry.as_of) <= as_of]
    arriving = [entry for entry in arrived if pd.Timestamp(entry.as_of) == as_of]
    snapshots = _read_copies(arriving, CUSTOMERS)
    corrected = [f"{month:%Y-%m}" for month in snapshots if month < as_of - ONE_MONTH]
    # Their labels arrived before the correction; those of customers who were missing then went to
    # quarantine.
    to_read_again = [entry for entry in arrived if entry.month in corrected]
    labels = _read_copies(to_read_again, LABELS) | _read_copies(arriving, LABELS)
    return Arrival(
        as_of,
        dict(sorted(snapshots.items())),
        dict(sorted(labels.items())),
        tuple(arrived),
        _read_copies(arriving, OFFERS),
    )


def _read_copies(entries: list[intake.Entry], kind: str) -> dict[pd.Timestamp, pd.DataFrame]:
    """Return the rows of the last file of a kind by the month that it describes."""
    last = {entry.month: entry for entry in entries if entry.kind == kind}
    return {pd.Timestamp(month): intake.read_copy(entry) for month, entry in last.items()}


def read_first_month(source: MonthSource) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return customers and labels of the first month, to look at: nothing is taken in.

    Returns:
        ``(customers, labels)`` as in an ``Arrival``.

    Raises:
        DataError: a file is missing or has the wrong form.
    """
    if isinstance(source, Simulation):
        return _read_extract()
    files = folder.list_files(source.path)
    of_month = [file for file in files if file.month == source.first_month]
    return _read_first(of_month, CUSTOMERS), _read_first(of_month, LABELS)


def _read_first(files: list[DeliveredFile], kind: str) -> pd.DataFrame:
    """Return the rows of the first file of a kind."""
    of_kind = [file for file in files if file.kind == kind]
    if not of_kind:
        raise DataError(f"the folder of deliveries has no {kind} of its first month.")
    path = of_kind[0].path
    return folder.parse(kind, folder.read_as_csv(path), path)


def _read_extract() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return customers and labels of IBM's extract, the simulation's first month."""
    rows = delivered_files.read_delivery(extract.obtain_extract())
    labels = rows[[CUSTOMER_ID, LABEL]].assign(slot_id=rows[CUSTOMER_ID])
    return rows.drop(columns=LABEL), labels


def find_change(source: MonthSource) -> Change | None:
    """Return what changes on purpose, which only a simulation knows; None if nothing does."""
    if not isinstance(source, Simulation) or source.scenario == NO_CHANGE:
        return None
    return Change(settings.month_start(source.start_month), source.description)


def find_true_probabilities(source: MonthSource, month: pd.Timestamp) -> pd.Series | None:
    """Return the true churn probability by customer, which only a simulation knows, else None."""
    if not isinstance(source, Simulation):
        return None
    from churn_utils.simulation import customers

    truth = customers.simulate_month(settings.month_of(month), source, _read_treated())
    return truth.set_index("customer_id")["churn_probability"]


def is_simulated(source: MonthSource) -> bool:
    """Tell whether the customers are simulated ones, of whom the truth is known."""
    return isinstance(source, Simulation)
