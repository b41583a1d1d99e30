"""Fixtures of the tests in this folder."""

import pandas as pd
import pytest

from churn_utils.data import contract
from churn_utils.features import definitions


@pytest.fixture
def customers(extract):
    accepted, _ = contract.check_rows(extract)
    month = pd.Timestamp("2025-01-01")
    return accepted.assign(snapshot_date=month, written_at=month)


@pytest.fixture
def inputs(customers):
    return definitions.add_on_demand(definitions.build_features(customers.head(50)))


@pytest.fixture
def delivery(extract):
    return extract.head(8).copy()
