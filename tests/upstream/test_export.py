"""A simulation that was written as a folder of deliveries brings the same months."""

import pandas as pd
import pytest

from churn_utils import settings
from churn_utils.errors import UsageError
from churn_utils.simulation.scenarios import SCENARIOS, Simulation
from churn_utils.upstream import months
from churn_utils.upstream.export import export_deliveries

LAST = 4  # a month after the world changes, with what is corrected


def normalise(rows):
    """Leave out the lines of the file, and the order of the columns."""
    return rows[sorted(rows)].astype(str).reset_index(drop=True)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_exported_months_bring_what_the_simulation_brings(home, tmp_path, scenario):
    simulation = Simulation(scenario, seed=5)
    export_deliveries(tmp_path / "months", simulation, LAST)
    folder = months.open_source("", 0, str(tmp_path / "months"))
    corrected = []
    for number in range(LAST + 1):
        as_of = settings.month_start(number)
        expected = months.arrive(simulation, as_of)
        found = months.arrive(folder, as_of)
        months.record(found)
        assert found.snapshots.keys() == expected.snapshots.keys()
        assert found.labels.keys() == expected.labels.keys()
        for month, rows in [*expected.snapshots.items(), *expected.labels.items()]:
            same_kind = found.labels if "churn" in rows else found.snapshots
            pd.testing.assert_frame_equal(normalise(same_kind[month]), normalise(rows))
        corrected += [month for month in found.snapshots if month < as_of]
    assert bool(corrected) == (scenario == "data_bug")


def test_a_folder_that_holds_something_is_not_written_to(home, tmp_path):
    (tmp_path / "notes.txt").write_text("ours")
    with pytest.raises(UsageError, match="is not empty; name a new folder, nothing was written"):
        export_deliveries(tmp_path, Simulation("none"), 1)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
