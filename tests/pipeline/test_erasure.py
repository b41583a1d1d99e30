"""Erasing a customer: nothing in the home mentions the id, and all else is as it was."""

import asyncio
import shutil

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from upstream_files import write_customers, write_labels, write_months

from churn_utils import settings
from churn_utils.data import source, table_commits, table_writes, tables
from churn_utils.data.files import write_csv
from churn_utils.errors import UsageError
from churn_utils.features import labelling, model_inputs, offline, online, publishing
from churn_utils.inference import log_rows, scoring
from churn_utils.monitoring import ingestion
from churn_utils.pipeline import erasure
from churn_utils.registry import deployments, lineage, versions
from churn_utils.settings import month_start
from churn_utils.simulation import customers
from churn_utils.simulation.scenarios import Simulation
from churn_utils.upstream import intake, months

TENURE = {"customers": {"tenure": 7}, "labels": {}}  # as long as the shortest of the ids
QUIET = Simulation("none", seed=5)
ERASED = "1452-KIOVK"  # the lowest id of the eight, so statistics name it too


def erase(customer_id=ERASED, by="Ada Lovelace", reason="asked for it"):
    return erasure.erase_customer(customer_id, by, reason)


@pytest.fixture
def small_home(home, extract):
    """A home with two months of eight customers, a damaged line, and all that is made of them."""
    rows = extract.head(8)
    for number in (0, 1):
        month = month_start(number)
        publishing.publish_snapshot(rows, month, month)
        labelling.record_labels(rows, month, month_start(number + 1))
    own = rows[rows["customer_id"] == ERASED]
    shifted = own.assign(customer_id="Male", gender=ERASED, damage="has 22 fields")
    publishing.publish_snapshot(shifted, month_start(2), month_start(2))
    table_writes.append("inference_log", make_answers([ERASED, "OTHER"]))
    DeltaTable(str(tables.path_of("customers"))).create_checkpoint()
    table_commits.adopt(tables.path_of("customers"))
    publish_online()
    write_csv(settings.reports() / "run" / "retention_list_2025-02.csv", rows)
    page = settings.reports() / "run" / "05_batch_inference.html"
    page.write_text(f"<td>{ERASED}</td><td>{ERASED}-2</td>")
    return home


def publish_online():
    store = online.open_store()
    online.publish_changes(store)
    asyncio.run(store.close())


def make_answers(ids):
    """Answers of the API about customers."""
    rows = [{"prediction_id": f"p{i}", "customer_id": found} for i, found in enumerate(ids)]
    columns = {name: [row.get(name) for row in rows] for name in log_rows.SCHEMA.names}
    return pa.table(columns, schema=log_rows.SCHEMA)


def find_mentions(customer_id):
    """Names of the files in which an id can be found, but for IBM's own."""
    found = []
    for folder in (settings.home(), settings.reports()):
        for path in filter(lambda path: path.is_file(), folder.rglob("*")):
            content = path.read_bytes()
            if path.suffix == ".parquet":
                content = repr(pq.ParquetFile(path).read().to_pylist()).encode()
            if customer_id.encode() in content and path.name != source.FILE_NAME:
                found.append(path.name)
    return found


def read_versions():
    """Rows of every version of every table."""
    return {
        (table, version): tables.read(table, version=version)
        for table in filter(tables.exists, tables.KEYS)
        for version in range(tables.version_of(table) + 1)
    }


def leave_out(rows, customer_id=ERASED):
    """Rows of a table without a customer's, wherever the id stands."""
    texts = rows.select_dtypes(object)
    is_other = ~texts.eq(customer_id).any(axis=1)
    return rows[is_other].reset_index(drop=True)


def test_nothing_mentions_an_erased_customer_and_others_stay(small_home):
    before = read_versions()
    assert len(find_mentions(ERASED)) > 10
    erased = erase()
    assert erased.rows == {
        "customers": 2,
        "quarantine": 1,
        "customer_features": 3,  # with the change data feed
        "churn_labels": 2,
        "inference_log": 1,
        "online": 1,
    }
    assert (erased.files, erased.versions, erased.left) == (2, [], [])
    assert find_mentions(ERASED) == ["05_batch_inference.html"]
    page = settings.reports() / "run" / "05_batch_inference.html"
    assert page.read_text() == f"<td>(erased)</td><td>{ERASED}-2</td>"  # another customer's id
    after = read_versions()
    for name, rows in before.items():
        pd.testing.assert_frame_equal(after[name], leave_out(rows), check_dtype=False)
    entry = deployments.read_audit().iloc[-1]
    assert (entry["action"], entry["by"]) == ("erased customer", "Ada Lovelace")
    assert entry["reason"].startswith("asked for it (rows: customers 2, quarantine 1, ")


def test_tables_of_an_erased_customer_can_be_written(small_home, extract):
    erase()
    month = month_start(1)
    again = publishing.publish_snapshot(extract.head(8), month, month)
    assert (again.accepted, again.customers_written, again.features_written) == (7, 0, 0)
    counts = labelling.record_labels(extract.head(8), month, month_start(2))
    assert counts.to_dict() == {"delivered": 7, "labels_written": 0, "quarantined": 0}
    publishing.publish_snapshot(extract.head(9), month_start(3), month_start(3))
    publish_online()
    assert find_mentions(ERASED) == ["05_batch_inference.html"]


def test_interrupted_erasure_is_completed(small_home, monkeypatch):
    def interrupt(table):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("churn_utils.data.erasure.mend_log", interrupt)
        with pytest.raises(KeyboardInterrupt):
            erase()
    erase()
    read_versions()
    assert find_mentions(ERASED) == ["05_batch_inference.html"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"customer_id": "UNKNOWN"}, "has a customer 'UNKNOWN'"),
        ({"by": " "}, "one of them is blank"),
        ({"reason": f"{ERASED} asked"}, "holds the id"),
    ],
)
def test_what_cannot_be_erased_is_refused(home, arguments, message):
    with pytest.raises(UsageError, match=message):
        erase(**arguments)


@pytest.mark.parametrize("customer_id", ["7", "A,1", "7590-VHVEG"])
def test_copies_of_deliveries_lose_the_customer(home, tmp_path, customer_id):
    ids = [customer_id, "70", "7590-VHVEG-m1"]
    path = write_months(tmp_path / "months", number=1)
    for write, name in ((write_customers, "customers"), (write_labels, "labels")):
        write(path / "2026-01" / f"{name}.csv", [f'"{found}"' for found in ids], **TENURE[name])
    write_customers(path / "2026-02" / "customers.csv", [f'"{found}"' for found in ids], tenure=8)
    source = months.open_source("", 0, str(path))
    january, february = pd.date_range("2026-01", periods=2, freq="MS")
    first = months.arrive(source, january)
    publishing.publish_snapshot(first.snapshots[january], january, january)
    months.record(first)
    ingestion.ingest_month(february, source)
    copies = sorted((home / intake.FOLDER).rglob("*.csv"))
    before = [path.read_bytes() for path in copies]
    erased = erase(customer_id)
    assert (erased.files, erased.left) == (3, []) and len(copies) == 3
    for copy, content in zip(copies, before, strict=True):
        header, own, *others = content.splitlines()
        assert customer_id.encode() in own and copy.read_bytes().splitlines() == [header, *others]
    again = months.arrive(source, february)  # as when the month is run again
    assert again.snapshots[february]["customer_id"].tolist() == ids[1:]
    assert again.labels[january]["customer_id"].tolist() == ids[1:]


@pytest.mark.long
def test_versions_that_learned_from_a_customer_are_named(shared_world, tmp_path, monkeypatch):
    path, contents = shared_world
    version = contents["version"]
    shutil.copytree(path, tmp_path / "home")
    monkeypatch.setenv("CHURN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CHURN_REPORTS", str(tmp_path / "reports"))
    ingestion.ingest_month(month_start(1), QUIET)
    first = set(customers.simulate_month(0, QUIET)["customer_id"])
    joined = next(found for found in tables.read("customers")["customer_id"] if found not in first)
    assert erase(joined).versions == [] and find_mentions(joined) == []
    rows = offline.training_rows(lineage.read_training_set(version), "validate")
    model = scoring.load_model(versions.read_version(version))
    inputs = model_inputs.select_model_inputs(rows, model_inputs.inputs_of(model))
    probability = model.predict_proba(inputs)[:, 1]
    assert lineage.compare_refit(version, rows, probability).differing == 0
    train = offline.training_rows(lineage.read_training_set(version), "train")
    erased = erase(train["customer_id"].iloc[0])
    assert version in erased.versions and erased.left == []
    assert "can no longer be refitted bit for bit" in erasure.describe(erased)
    assert ingestion.ingest_month(month_start(2), QUIET).delivered < 7043
