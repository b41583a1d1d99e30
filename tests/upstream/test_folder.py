import gzip
import os
from pathlib import Path

import pandas as pd
import pytest
from upstream_files import write_customers, write_labels, write_months

from churn_utils.errors import DataError, UsageError
from churn_utils.upstream import folder
from churn_utils.upstream.folder import CUSTOMERS, LABELS


def parse(path, kind=CUSTOMERS):
    return folder.parse(kind, folder.read_as_csv(path), path)


def test_deliveries_are_listed_in_the_order_of_their_months(tmp_path):
    write_months(tmp_path)
    write_customers(tmp_path / "2026-02" / "customers-2026-01.csv")
    (tmp_path / "notes.txt").write_text("ours")
    (tmp_path / "2026-02" / "mail.txt").write_text("ours too")
    (tmp_path / ".hidden").mkdir()
    files = folder.list_files(tmp_path)
    assert [(file.name, f"{file.month:%Y-%m}", f"{file.arrives:%Y-%m}") for file in files] == [
        ("2026-01/customers", "2026-01", "2026-01"),
        ("2026-01/labels", "2026-01", "2026-02"),
        ("2026-02/customers-2026-01", "2026-01", "2026-02"),
        ("2026-02/customers", "2026-02", "2026-02"),
    ]


@pytest.mark.parametrize("name", ["2026-13", "2026-1", "April", "26-04", "2026-04-01"])
def test_a_folder_that_is_no_month_is_named(tmp_path, name):
    write_months(tmp_path)
    (tmp_path / name).mkdir()
    with pytest.raises(UsageError, match=rf"1 folder\(s\) whose name is no month: {name}\. Name"):
        folder.list_files(tmp_path)


def test_a_file_outside_of_a_month_is_named(tmp_path):
    write_customers(tmp_path / "2026-01.csv")
    with pytest.raises(UsageError, match=r"1 file\(s\) outside of a month's folder: 2026-01\.csv"):
        folder.list_files(tmp_path)


def test_a_month_that_is_there_twice_is_refused(tmp_path):
    write_months(tmp_path)
    path = tmp_path / "2026-01" / "customers.csv"
    (tmp_path / "2026-01" / "customers.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(UsageError, match=r"customers\.csv and .*csv\.gz are the same delivery"):
        folder.list_files(tmp_path)


def test_a_correction_comes_no_sooner_than_its_month(tmp_path):
    write_customers(tmp_path / "2026-01" / "customers-2026-02.csv")
    with pytest.raises(UsageError, match="a later month than that of its folder"):
        folder.list_files(tmp_path)


@pytest.mark.parametrize("kind", ["missing", "a file", "locked"])
def test_a_folder_that_cannot_be_read_is_named(tmp_path, kind):
    path = tmp_path / "months"
    if kind == "a file":
        path.write_text("")
    if kind == "locked":
        if os.geteuid() == 0:
            pytest.skip("root may read everything")
        path.mkdir(mode=0)
    with pytest.raises(UsageError, match=f"{path} cannot be read: .*Give the folder"):
        folder.list_files(path)


def test_a_file_reads_alike_in_every_form(tmp_path):
    plain = write_customers(tmp_path / "plain.csv")
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    typed = pd.read_csv(plain).astype({"tenure": "Int64", "Contract": "category"})
    typed.to_parquet(tmp_path / "typed.parquet")
    expected = parse(plain)
    pd.testing.assert_frame_equal(parse(packed), expected)
    numbers = ["monthly_charges", "total_charges"]
    found = parse(tmp_path / "typed.parquet").astype(dict.fromkeys(numbers, float))
    pd.testing.assert_frame_equal(found, expected.astype(dict.fromkeys(numbers, float)))


def test_a_missing_value_in_parquet_is_blank(tmp_path):
    write_customers(tmp_path / "plain.csv", ids=["A-1"], tenure=0)
    typed = pd.read_csv(tmp_path / "plain.csv").assign(TotalCharges=float("nan"))
    typed.to_parquet(tmp_path / "typed.parquet")
    assert parse(tmp_path / "typed.parquet")["total_charges"].tolist() == [""]


def test_a_damaged_parquet_file_is_named(tmp_path):
    path = tmp_path / "customers.parquet"
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=f"{path} is no Parquet file that can be read"):
        parse(path)


def test_a_label_beside_the_customers_is_left_out(tmp_path):
    rows = pd.read_csv(write_customers(tmp_path / "plain.csv"), dtype=str).assign(Churn="Yes")
    rows.to_csv(tmp_path / "labelled.csv", index=False)
    pd.testing.assert_frame_equal(parse(tmp_path / "labelled.csv"), parse(tmp_path / "plain.csv"))


def test_another_header_is_refused_with_its_names(tmp_path):
    path = write_customers(tmp_path / "customers.csv")
    path.write_text(path.read_text().replace("Contract", "ContractType", 1))
    with pytest.raises(DataError, match=r"1 missing \(Contract\); 1 extra \('ContractType'\)"):
        parse(path)
    path = write_labels(tmp_path / "labels.csv")
    path.write_text(path.read_text().replace("Churn", "left", 1))
    with pytest.raises(DataError, match=r"labels\.csv has the wrong columns: 1 missing \(Churn\)"):
        parse(path, LABELS)


def test_labels_name_the_slot_or_it_is_the_customer(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("customerID,Churn,slotID\nA-1,Yes,line 7\nA-2,No,\n")
    assert parse(path, LABELS)["slot_id"].tolist() == ["line 7", "A-2"]
    assert parse(write_labels(path), LABELS)["slot_id"].tolist() == ["A-1", "A-2", "A-3"]


def test_a_damaged_line_of_labels_keeps_what_is_wrong(tmp_path):
    path = write_labels(tmp_path / "labels.csv")
    path.write_text(path.read_text() + "A-4,Yes,no\n")
    assert parse(path, LABELS)["churn"].iloc[-1].startswith("in a line that has 3 fields")


def test_the_readme_shows_files_that_can_be_read(tmp_path):
    text = (Path(__file__).parents[2] / "data" / "README.md").read_text()
    for kind, first in ((CUSTOMERS, "    customerID,gender"), (LABELS, "    customerID,Churn")):
        lines = text[text.index(first) :].split("\n\n")[0].splitlines()
        path = tmp_path / f"{kind}.csv"
        path.write_text("\n".join(line.strip() for line in lines))
        assert len(parse(path, kind)) == 2


def test_a_digest_follows_the_content(tmp_path):
    path = write_labels(tmp_path / "labels.csv")
    before = folder.digest_of(path)
    path.write_text(path.read_text() + "A-4,Yes\n")
    assert folder.digest_of(path) != before
