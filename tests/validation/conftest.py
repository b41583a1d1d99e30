"""The sound challenger that the tests of the checks share: its probes and its refit run once."""

import factories
import pytest

from churn_utils.validation.challenger import Challenger


@pytest.fixture(scope="session")
def probed_challenger(shared_world):
    """The challenger of the shared home, with what has been computed of it so far."""
    _, contents = shared_world
    return Challenger(contents["version"], factories.AS_OF, None, draws=300, seed=0)


@pytest.fixture(scope="module")
def sound_challenger(registered_home, probed_challenger):
    """The challenger of the shared home, while ``CHURN_HOME`` points there."""
    return probed_challenger
