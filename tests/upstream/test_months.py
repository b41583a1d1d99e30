import json
import re
from dataclasses import asdict, replace

import pandas as pd
import pytest
from upstream_files import write_customers, write_labels, write_months

from churn_utils import settings
from churn_utils.errors import DataError, UsageError
from churn_utils.simulation.scenarios import Simulation
from churn_utils.upstream import intake, months

BUG = Simulation("data_bug", seed=3, start_month=2, slots=40)


def described(simulation):
    """What a home keeps: a save rate only where it was set, as homes from before know none."""
    return {name: value for name, value in asdict(simulation).items() if value is not None}


def test_home_keeps_its_scenario_and_accepts_it_again(home):
    assert months.bind_home(BUG) == BUG
    assert json.loads((home / "world.json").read_text()) == described(BUG)
    assert months.bind_home(Simulation("data_bug", 3, 2, 40)) == BUG


def test_unknown_scenario_binds_no_home(home):
    with pytest.raises(DataError, match="'price_fall'"):
        months.bind_home(Simulation("price_fall"))
    rise = Simulation("price_rise")
    assert months.bind_home(rise) == rise


@pytest.mark.parametrize(
    "change", [{"scenario": "none"}, {"seed": 4}, {"start_month": 3}, {"slots": 41}]
)
def test_other_scenario_is_refused_and_the_first_stays(change, home):
    months.bind_home(BUG)
    other = replace(BUG, **change)
    both = f"{settings.home()} follows the scenario {described(BUG)}, not {described(other)}."
    with pytest.raises(UsageError, match=re.escape(both)) as refused:
        months.bind_home(other)
    remedies = ("SCENARIO, SEED", "--home", "--fresh")
    assert all(remedy in str(refused.value) for remedy in remedies)
    assert months.bind_home(BUG) == BUG


# --- a folder of deliveries

JANUARY, FEBRUARY, MARCH = pd.date_range("2026-01", periods=3, freq="MS")


@pytest.fixture
def delivered(home, tmp_path):
    """A folder of two months, and a home that follows it."""
    path = write_months(tmp_path / "months")
    months.bind_home(open_folder(path))
    return path


def open_folder(path):
    return months.open_source("", 0, str(path))


def arrive(path, *dates):
    """Take in what arrives at some dates; return what came at the last."""
    source = open_folder(path)
    for date in dates:
        arrival = months.arrive(source, date)
        months.record(arrival)
    return arrival


def tenures(arrival):
    """Tenure of the first customer by month."""
    return {f"{month:%m}": rows["tenure"].iloc[0] for month, rows in arrival.snapshots.items()}


def test_an_empty_folder_asks_for_the_first_month(home, tmp_path):
    with pytest.raises(UsageError, match="holds no month yet: put the customers .*2026-01"):
        open_folder(tmp_path)


def test_a_simulation_has_no_end():
    found = months.find_available(BUG)
    assert found.last > pd.Timestamp("2200-01-01") and not found.waiting


def test_the_next_month_is_waited_for(delivered):
    source = open_folder(delivered)
    assert months.first_month(source) == JANUARY
    found = months.find_available(source)
    assert found.last == FEBRUARY
    assert found.waiting == f"2026-03: {delivered}/2026-03/customers.csv is not there"


def test_the_labels_of_the_month_before_are_waited_for(delivered):
    write_customers(delivered / "2026-03" / "customers.csv")
    found = months.find_available(open_folder(delivered))
    assert found.last == FEBRUARY
    assert "the labels of 2026-02 are not (" in found.waiting
    write_labels(delivered / "2026-02" / "labels.csv")
    assert months.find_available(open_folder(delivered)).last == MARCH


def test_a_gap_holds_up_the_months_behind_it(delivered):
    write_customers(delivered / "2026-04" / "customers.csv")
    write_customers(delivered / "2026-05" / "customers.csv")
    found = months.find_available(open_folder(delivered))
    assert found.last == FEBRUARY
    assert "2 later month(s) are, and wait for it: 2026-04, 2026-05" in found.waiting


def test_labels_before_their_month_is_over_are_not_read(delivered):
    write_labels(delivered / "2026-02" / "labels.csv")
    arrival = arrive(delivered, JANUARY, FEBRUARY)
    assert list(arrival.labels) == [JANUARY]
    assert months.find_available(open_folder(delivered)).last == FEBRUARY


def test_another_folder_in_the_same_home_is_refused(delivered, tmp_path):
    other = open_folder(write_months(tmp_path / "others"))
    for source in (other, BUG):
        with pytest.raises(UsageError, match="(?s)months.*not.*--home DIR.*--fresh"):
            months.bind_home(source)


def test_a_month_before_the_first_is_refused(delivered):
    write_customers(delivered / "2025-12" / "customers.csv")
    with pytest.raises(UsageError, match="1 month.s. before 2026-01, .*: 2025-12. Move"):
        open_folder(delivered)
    source = months.open_source("", 0, str(delivered), is_fresh=True)
    assert f"{months.first_month(source):%Y-%m}" == "2025-12"


def test_what_arrived_is_given_again(delivered):
    first = arrive(delivered, JANUARY)
    assert tenures(first) == {"01": "12"} and not first.labels
    second = arrive(delivered, FEBRUARY)
    assert tenures(second) == {"02": "13"} and list(second.labels) == [JANUARY]
    again = arrive(delivered, FEBRUARY)
    pd.testing.assert_frame_equal(again.snapshots[FEBRUARY], second.snapshots[FEBRUARY])
    pd.testing.assert_frame_equal(again.labels[JANUARY], second.labels[JANUARY])


def test_a_file_that_changes_while_its_month_is_open_replaces_it(delivered):
    arrive(delivered, JANUARY, FEBRUARY)
    before = months.list_arrivals(open_folder(delivered), {"2026-02"})
    write_customers(delivered / "2026-02" / "customers.csv", tenure=20)
    assert months.list_arrivals(open_folder(delivered), {"2026-02"}) != before  # it is run again
    assert tenures(arrive(delivered, FEBRUARY)) == {"02": "20"}


def test_a_file_that_changes_later_is_a_correction(delivered):
    arrive(delivered, JANUARY, FEBRUARY)
    write_labels(delivered / "2026-02" / "labels.csv")
    write_customers(delivered / "2026-03" / "customers.csv", tenure=14)
    arrive(delivered, MARCH)
    sealed = months.list_arrivals(open_folder(delivered), {"2026-01", "2026-02"})
    write_customers(delivered / "2026-01" / "customers.csv", tenure=30)
    # January is corrected with March, the newest, and its labels are taken again with it.
    arrival = arrive(delivered, MARCH)
    assert tenures(arrival) == {"01": "30", "03": "14"}
    assert list(arrival.labels) == [JANUARY, FEBRUARY]
    # No earlier month is another one.
    assert months.list_arrivals(open_folder(delivered), {"2026-01", "2026-02"}) == sealed
    assert tenures(arrive(delivered, JANUARY)) == {"01": "12"}


def test_a_month_is_closed_once_the_next_one_has_come(delivered):
    arrive(delivered, JANUARY, FEBRUARY)
    before = months.list_arrivals(open_folder(delivered), {"2026-02"})
    write_customers(delivered / "2026-02" / "customers.csv", tenure=20)
    write_customers(delivered / "2026-03" / "customers.csv", tenure=14)
    write_labels(delivered / "2026-02" / "labels.csv")
    assert months.list_arrivals(open_folder(delivered), {"2026-02"}) == before
    assert tenures(arrive(delivered, FEBRUARY)) == {"02": "13"}
    assert tenures(arrive(delivered, MARCH)) == {"02": "20", "03": "14"}


def test_a_month_that_was_not_taken_in_is_read_again(delivered):
    arrive(delivered, JANUARY)
    months.arrive(open_folder(delivered), FEBRUARY)  # and something else went wrong
    write_labels(delivered / "2026-01" / "labels.csv", ids=["A-1", "A-2"])
    write_customers(delivered / "2026-03" / "customers.csv", tenure=14)
    assert len(arrive(delivered, FEBRUARY).labels[JANUARY]) == 2


def test_a_corrected_file_comes_with_the_month_of_its_folder(delivered):
    arrive(delivered, JANUARY)
    write_customers(delivered / "2026-02" / "customers-2026-01.csv", tenure=40)
    assert tenures(arrive(delivered, FEBRUARY)) == {"01": "40", "02": "13"}


def test_months_that_were_moved_away_are_kept(delivered, tmp_path):
    arrive(delivered, JANUARY, FEBRUARY)
    for month in ("2026-01", "2026-02"):
        (delivered / month).rename(tmp_path / month)
    source = open_folder(delivered)
    assert months.find_available(source).last == FEBRUARY
    assert tenures(arrive(delivered, FEBRUARY)) == {"02": "13"}


def test_a_file_of_the_wrong_form_leaves_no_trace(delivered):
    arrive(delivered, JANUARY)
    path = delivered / "2026-02" / "customers.csv"
    sound = path.read_text()
    path.write_text(sound.replace("Contract", "Term", 1))
    with pytest.raises(DataError, match=f"{path} has the wrong columns"):
        arrive(delivered, FEBRUARY)
    assert {entry.as_of for entry in intake.read_entries()} == {"2026-01"}
    path.write_text(sound)
    assert tenures(arrive(delivered, FEBRUARY)) == {"02": "13"}


def test_a_damaged_list_of_arrivals_is_named(delivered):
    arrive(delivered, JANUARY)
    intake.list_path().write_text("[{")
    with pytest.raises(DataError, match="arrived.json.*--fresh"):
        arrive(delivered, JANUARY)


def test_looking_at_the_first_month_takes_nothing_in(delivered):
    customers, labels = months.read_first_month(open_folder(delivered))
    assert customers["customer_id"].tolist() == labels["customer_id"].tolist()
    assert intake.read_entries() == []


def test_only_a_simulation_knows_the_truth(delivered):
    source = open_folder(delivered)
    assert months.find_change(source) is months.find_true_probabilities(source, JANUARY) is None
    assert not months.is_simulated(source) and months.is_simulated(BUG)
