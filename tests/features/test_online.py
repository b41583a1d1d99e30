import asyncio
import dataclasses
import json
import shutil
import sqlite3

import factories
import pandas as pd
import pytest

from churn_utils import settings
from churn_utils.data import table_writes, tables
from churn_utils.errors import DataError, NotReadyError, OnlineStoreError
from churn_utils.features import definitions, model_inputs, publishing
from churn_utils.features import offline as offline_store
from churn_utils.features import online as online_store
from churn_utils.features.online import Published

JANUARY, FEBRUARY, MARCH = (settings.month_start(month) for month in range(3))


@pytest.fixture(params=["sqlite", "redis"])
def store(request, home):
    """An empty store of each kind."""
    if request.param == "sqlite":
        yield online_store.open_store()
        return
    opened = online_store.RedisStore(request.getfixturevalue("redis_address"), prefix=str(home))
    yield opened
    opened._db.delete(opened._rows, opened._published)


def look_up(store, *customer_ids):
    async def ask():
        try:
            return await store.look_up(customer_ids)
        finally:
            if isinstance(store, online_store.RedisStore):  # its reader belongs to this event loop
                await store._reader.aclose()
                store._reader = None

    return asyncio.run(ask())


@pytest.fixture
def deliver(extract, home):
    """Publish some customers' rows of a month, changed as asked, into the feature table."""

    def publish(month, written=None, ids=None, **changes):
        rows = extract.head(20) if ids is None else extract[extract["customer_id"].isin(ids)]
        rows = rows.assign(**changes) if changes else rows
        return publishing.publish_snapshot(rows, month, written or month)

    return publish


def test_online_and_offline_features_agree_to_the_last_bit(store, extract):
    publishing.publish_snapshot(extract, JANUARY, JANUARY)
    some = extract.head(3000).assign(contract="Two year")
    publishing.publish_snapshot(some, FEBRUARY, FEBRUARY)
    publishing.publish_snapshot(
        extract.tail(500).assign(paperless_billing="Yes"), JANUARY, MARCH
    )  # correction
    assert online_store.publish_changes(store).rows == store.count() == 7043
    spine = pd.DataFrame({"customer_id": extract["customer_id"], "event_date": MARCH})
    offline = offline_store.look_up_features(
        spine, tables.read("customer_features"), max_age_days=99
    )
    inputs = model_inputs.select_model_inputs(
        definitions.add_on_demand(offline).astype(dict.fromkeys(definitions.INTEGER, int))
    )
    online = look_up(store, *extract["customer_id"])
    expected = list(zip(*(inputs[name].tolist() for name in inputs), strict=True))
    assert [definitions.complete_inputs(row.stored) for row in online] == expected
    assert [row.snapshot_date for row in online] == offline["features_as_of"].dt.strftime(
        "%Y-%m-%d"
    ).tolist()
    assert [type(value) for value in definitions.complete_inputs(online[0].stored)] == [
        type(v) for v in expected[0]
    ]


def test_only_what_changed_is_published_and_nothing_twice(store, deliver):
    deliver(JANUARY)
    assert online_store.publish_changes(store) == online_store.Publication("everything", 20, 0)
    assert online_store.publish_changes(store) == online_store.Publication("nothing", 0, 0)
    deliver(FEBRUARY, ids=["7590-VHVEG", "5575-GNVDE"])
    assert online_store.publish_changes(store) == online_store.Publication("changes", 2, 1)
    assert look_up(store, "5575-GNVDE")[0].snapshot_date == "2025-02-01"
    assert store.read_published().newest == "2025-02-01" and store.count() == 20


def test_an_older_month_never_overwrites_a_newer_one(store, deliver):
    deliver(FEBRUARY, contract="Two year")
    online_store.publish_changes(store)
    deliver(JANUARY, written=MARCH, contract="One year")  # arrives last, describes an earlier month
    assert online_store.publish_changes(store).kind == "changes"
    row = look_up(store, "7590-VHVEG")[0]
    assert (row.snapshot_date, row.stored[definitions.STORED.index("contract")]) == (
        "2025-02-01",
        "Two year",
    )
    deliver(FEBRUARY, written=MARCH, contract="One year")  # a correction of the newest month does
    online_store.publish_changes(store)
    assert (
        look_up(store, "7590-VHVEG")[0].stored[definitions.STORED.index("contract")] == "One year"
    )


def test_a_row_that_is_changed_in_place_is_published(store, deliver):
    deliver(JANUARY)
    online_store.publish_changes(store)
    deliver(
        JANUARY, ids=["7590-VHVEG"], contract="Two year"
    )  # the same key: merged, an update in the feed
    assert online_store.publish_changes(store) == online_store.Publication("changes", 1, 1)
    assert (
        look_up(store, "7590-VHVEG")[0].stored[definitions.STORED.index("contract")] == "Two year"
    )


def test_a_table_that_went_back_takes_the_store_back(store, deliver):
    deliver(JANUARY)
    deliver(FEBRUARY, contract="Two year")
    deliver(FEBRUARY, ids=["7590-VHVEG"], written=MARCH, contract="One year")
    online_store.publish_changes(store)
    table_writes.rewind("customer_features", 0)
    assert online_store.publish_changes(store) == online_store.Publication("everything", 20, 3)
    row = look_up(store, "7590-VHVEG")[0]
    assert (row.snapshot_date, row.stored[definitions.STORED.index("contract")]) == (
        "2025-01-01",
        "Month-to-month",
    )
    assert store.read_published().newest == "2025-01-01"


def test_a_customer_whom_the_table_lost_is_lost_online(store, deliver):
    deliver(JANUARY, ids=["7590-VHVEG"])
    deliver(JANUARY, ids=["5575-GNVDE"])
    online_store.publish_changes(store)
    table_writes.rewind("customer_features", 0)
    deliver(FEBRUARY, ids=["7590-VHVEG"])  # the way back and new rows in one feed
    online_store.publish_changes(store)
    assert [row and row.snapshot_date for row in look_up(store, "5575-GNVDE", "7590-VHVEG")] == [
        None,
        "2025-02-01",
    ]


def test_another_table_in_the_same_place_replaces_everything(store, deliver):
    deliver(FEBRUARY)
    online_store.publish_changes(store)
    shutil.rmtree(tables.path_of("customer_features"))
    deliver(JANUARY, ids=["7590-VHVEG"])
    assert online_store.publish_changes(store).kind == "everything"
    assert store.count() == 1 and look_up(store, "7590-VHVEG")[0].snapshot_date == "2025-01-01"


def test_an_unknown_customer_is_none_and_the_order_is_kept(store, deliver):
    deliver(JANUARY)
    online_store.publish_changes(store)
    found = look_up(store, "5575-GNVDE", "ABSENT", "7590-VHVEG", "5575-GNVDE")
    genders = [row and row.stored[0] for row in found]
    assert genders == ["Male", None, "Female", "Male"]


def test_where_nothing_is_published_nobody_is_unknown(store, deliver):
    with pytest.raises(NotReadyError):
        look_up(store, "7590-VHVEG")
    deliver(JANUARY)
    online_store.publish_changes(store)
    assert look_up(store, "ABSENT") == [None]


def test_rows_that_redis_lost_are_published_again_not_unknown(home, redis_address, deliver):
    """It may evict the hash, and keep what says that it was filled."""
    store = online_store.RedisStore(redis_address, prefix=str(home))
    deliver(JANUARY)
    online_store.publish_changes(store)
    store._db.delete(store._rows)
    with pytest.raises(NotReadyError):
        look_up(store, "7590-VHVEG")
    assert online_store.publish_changes(store).kind == "everything"
    assert look_up(store, "7590-VHVEG")[0].snapshot_date == "2025-01-01"
    store._db.delete(store._rows, store._published)


NO_FEATURES = ", null" * len(definitions.STORED)


def write_text(store, customer_id, text):
    """Put a text into the store where a customer's row belongs."""
    if isinstance(store, online_store.RedisStore):
        store._db.hset(store._rows, customer_id, text)
    else:
        store._db.execute("UPDATE online SET row = ? WHERE customer_id = ?", (text, customer_id))


@pytest.mark.parametrize(
    ("text", "damage"),
    [
        ("no row", "'no row' cannot be read"),
        ("[]", "snapshot_date is missing"),
        ("7", "cannot be read"),
        ('["2025-01-01", "2025-01-01", "Female"]', "senior_citizen is missing"),
        ('["2025-01-01", "2025-01-01", "Male", -1]', "senior_citizen is -1"),
        (f'["2025-13-01", "2025-01-01"{NO_FEATURES}]', "month must be in 1..12"),
        (f'["2025-01-01", "2025-01-01"{NO_FEATURES}, 1]', "should have at most"),
    ],
)
def test_a_row_that_is_none_is_damaged_alone(store, deliver, text, damage):
    deliver(JANUARY)
    online_store.publish_changes(store)
    write_text(store, "7590-VHVEG", text)
    damaged, other = look_up(store, "7590-VHVEG", "5575-GNVDE")
    assert damage in damaged.damage and not damaged.stored
    assert not other.damage and len(other.stored) == len(definitions.STORED)


@pytest.mark.parametrize(
    ("feature", "value"),
    [
        ("monthly_charges", -1e9),
        ("monthly_charges", "70"),
        ("monthly_charges", True),
        ("tenure", 1.5),
        ("tenure", 100_000),
        ("gender", "female"),
        ("gender", ["Female"]),
        ("num_optional_services", 7),
    ],
)
def test_a_row_with_an_impossible_value_is_damaged(store, deliver, feature, value):
    deliver(JANUARY)
    online_store.publish_changes(store)
    (row,) = look_up(store, "7590-VHVEG")
    stored = list(row.stored)
    stored[definitions.STORED.index(feature)] = value
    write_text(store, "7590-VHVEG", json.dumps([row.snapshot_date, row.written_at, *stored]))
    (damaged,) = look_up(store, "7590-VHVEG")
    assert damaged.damage


def test_a_store_that_cannot_be_read_says_so(home):
    store = online_store.open_store()
    store._db.execute("DROP TABLE online")
    with pytest.raises(OnlineStoreError, match="cannot be read"):
        look_up(store, "7590-VHVEG")
    store._db.execute("DROP TABLE published")
    with pytest.raises(OnlineStoreError, match="cannot be read"):
        store.read_published()


def test_of_two_publishers_the_slower_one_writes_nothing(store, deliver):
    deliver(JANUARY)
    before = store.read_published()
    online_store.publish_changes(store)
    rows = [("7590-VHVEG", "2099-01-01", "2099-01-01", *range(len(definitions.STORED)))]
    assert not store.write(rows, before, Published("slow", 9, "", ""), replace=True)
    assert store.count() == 20 and store.read_published().table_id != "slow"


def test_two_homes_on_one_server_keep_to_their_own_features(extract, redis_address, tmp_path):
    found = []
    for name, contract in (("one", "One year"), ("two", "Two year")):
        with factories.at_home(tmp_path / name):
            publishing.publish_snapshot(
                extract.head(20).assign(contract=contract), JANUARY, JANUARY
            )
            found.append(
                (online_store.open_store(redis_address), online_store.open_store(redis_address))
            )
            assert online_store.publish_changes(found[-1][0]).kind == "everything"
    at = definitions.STORED.index("contract")
    for name, (store, again), contract in zip(
        ("one", "two"), found, ("One year", "Two year"), strict=True
    ):
        with factories.at_home(tmp_path / name):
            assert (
                online_store.publish_changes(again).kind == "nothing"
            )  # by another process of the same home
            assert look_up(again, "7590-VHVEG")[0].stored[at] == contract
        store._db.delete(store._rows, store._published)


def test_a_reader_sees_a_publication_whole_or_not_at_all(home, deliver):
    deliver(JANUARY)
    store = online_store.open_store()
    online_store.publish_changes(store)
    store._db.execute("BEGIN IMMEDIATE")
    store._db.execute("DELETE FROM online")
    assert look_up(store, "7590-VHVEG")[0] is not None
    store._db.execute("ROLLBACK")


def test_a_failed_publication_leaves_the_store_as_it_was(home, deliver):
    deliver(JANUARY)
    store = online_store.open_store()
    online_store.publish_changes(store)
    before = store.read_published()
    with pytest.raises(sqlite3.IntegrityError):
        store.write(
            [("X", None, None, *range(len(definitions.STORED)))], before, before, replace=True
        )
    assert store.count() == 20


def test_features_of_another_package_version_are_published_anew(home, deliver):
    deliver(JANUARY)
    store = online_store.open_store()
    online_store.publish_changes(store)
    stale = dataclasses.replace(store.read_published(), columns="customer_id,other")
    store._db.execute("UPDATE published SET facts = ?", (json.dumps(dataclasses.asdict(stale)),))
    assert online_store.publish_changes(store).kind == "everything"


def test_what_is_wrong_with_an_address_is_said(home):
    with pytest.raises(OnlineStoreError, match="must be empty"):
        online_store.open_store("postgres://nowhere")
    with pytest.raises(OnlineStoreError, match="no Redis server answers"):
        online_store.open_store("redis://127.0.0.1:1/0")
    with pytest.raises(DataError, match="run notebook 01"):
        online_store.publish_changes(online_store.open_store())


def test_an_erased_customer_is_unknown(store, deliver, extract):
    deliver(JANUARY)
    online_store.publish_changes(store)
    first, second = extract["customer_id"].head(2)
    assert (store.erase(first), store.erase(first)) == (1, 0)
    erased, other = look_up(store, first, second)
    assert erased is None and other is not None and store.count() == 19
