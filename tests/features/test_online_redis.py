import shutil

import factories

from churn_utils.features import online, online_redis


def test_the_keys_of_a_home_are_its_own_and_stay(home, monkeypatch, tmp_path):
    first = online_redis.derive_prefix()
    assert online_redis.derive_prefix() == first and first.startswith("churn:")
    shutil.copytree(home, tmp_path / "copy")
    with factories.at_home(tmp_path / "copy"):
        assert online_redis.derive_prefix() != first
    (home / "home_id").unlink()  # another home in the same place, as on another machine
    assert online_redis.derive_prefix() != first
    assert [path.name for path in home.iterdir()] == ["home_id"]


def test_a_prefix_that_is_given_counts(home, redis_address):
    store = online.open_store(redis_address, "mine")
    assert (store._rows, store._published) == ("mine:online", "mine:published")
    assert not home.exists()
