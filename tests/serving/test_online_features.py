import asyncio

import factories
import pytest

from churn_utils.errors import NotReadyError, OnlineStoreError
from churn_utils.serving.online_features import OnlineFeatures

ID = "7590-VHVEG"


@pytest.fixture
def losses():
    return []


@pytest.fixture
def features(serving_home, losses):
    opened = OnlineFeatures("", "", lambda: losses.append(1))
    opened.open()
    return opened


def read(features, *customer_ids):
    return asyncio.run(features.read(customer_ids))


def test_features_can_be_read_once_they_are_published(features):
    assert features.read_newest() == "" and "not in the online store" in features.problem
    assert features.publish() == 7043
    assert features.read_newest() == "2025-01-01" == features.newest and features.problem == ""
    known, unknown = read(features, ID, "UNKNOWN")
    assert known.snapshot_date == "2025-01-01" and unknown is None


def test_store_of_other_features_counts_as_unpublished(features, losses):
    features.publish()
    factories.change_online_store("UPDATE published SET facts = replace(facts, ',tenure', '')")
    assert features.read_newest() == "" and "not in the online store" in features.problem
    assert features.publish() == 7043 and features.read_newest() == "2025-01-01"


def test_a_row_of_other_features_is_damaged_alone(features, losses):
    features.publish()
    features.read_newest()
    factories.change_online_store(
        f"UPDATE online SET row = '[\"2025-01-01\",\"2025-01-01\",1]' WHERE customer_id = '{ID}'"
    )
    damaged, other = read(features, ID, "5575-GNVDE")
    assert damaged.damage and not other.damage
    assert losses == [] and features.problem == ""


def test_loss_is_reported_once_and_only_of_what_was_there(features, losses):
    with pytest.raises(NotReadyError, match="not in the online store"):
        read(features, ID, "UNKNOWN")
    assert losses == []
    features.publish()
    features.read_newest()
    factories.change_online_store("DELETE FROM online")
    factories.change_online_store("DELETE FROM published")
    for _ in range(2):
        with pytest.raises(NotReadyError, match="not in the online store"):
            read(features, ID)
    assert losses == [1] and "not in the online store" in features.problem


@pytest.mark.parametrize("noticed_by", ["request", "refresh"])
def test_store_that_is_away_is_a_problem_until_it_is_back(features, noticed_by):
    features.publish()
    features.read_newest()
    factories.change_online_store("ALTER TABLE online RENAME TO gone")
    factories.change_online_store("ALTER TABLE published RENAME TO lost")
    if noticed_by == "request":
        with pytest.raises(NotReadyError, match="does not answer"):
            read(features, ID)
    else:
        with pytest.raises(OnlineStoreError):
            features.read_newest()
    assert "online store does not answer" in features.problem
    factories.change_online_store("ALTER TABLE gone RENAME TO online")
    factories.change_online_store("ALTER TABLE lost RENAME TO published")
    features.read_newest()
    assert features.problem == ""
