"""Simulated months and a champion of the first one, shared by the tests of monitoring."""

import factories
import pytest

from churn_utils import settings
from churn_utils.monitoring.champion import Champion
from churn_utils.monitoring.retraining_value import REFIT_PARAMS
from churn_utils.simulation import deliveries
from churn_utils.simulation.scenarios import Simulation
from churn_utils.training import models


@pytest.fixture(scope="session")
def simulated(tmp_path_factory):
    """Months 0 to 7 without a change; copy before changing them."""

    def build(folder):
        quiet = Simulation("none", seed=5)
        with factories.at_home(folder / "home"):
            return [deliveries.ingest_in_memory(month, quiet)[0] for month in range(8)]

    return factories.build_once(tmp_path_factory, "simulated", build)


@pytest.fixture(scope="session")
def simulated_champion(simulated):
    """Trained on month 0."""
    rows = simulated[0]
    train = rows[rows["split"] == "train"]
    validate = rows[rows["split"] == "validate"]
    model = models.fit_calibrated(REFIT_PARAMS, train, validate, seed=0)
    return Champion(1, model, train, settings.month_start(0))
