"""A running API that asks for a key, and a caller who has it."""

import httpx
import pytest

from churn_utils.serving.client import Api


@pytest.fixture(scope="module")
def api(shared_serving_home):
    """An API of the shared home, with the key ``secret`` of ``app``."""
    with Api(CHURN_TODAY="2025-02-01", CHURN_API_KEYS="app:secret") as opened:
        yield opened


@pytest.fixture
def caller(api):
    """A client that sends the key."""
    headers = {"X-API-Key": "secret"}
    with httpx.Client(base_url=api.address, headers=headers, timeout=60) as opened:
        yield opened
