"""Files as they arrive: what is read, which lines are set aside, which files are refused."""

import gzip

import pytest

from churn_utils.data import contract, delivered_files
from churn_utils.data.columns import BY_NAME
from churn_utils.errors import DataError


@pytest.fixture
def deliver(extract_file, tmp_path):
    """Write a delivery made from IBM's header and first rows by ``change`` and return its path."""

    def write(change=lambda lines: lines, encoding="utf-8", line_end="\n"):
        lines = extract_file.read_text(encoding="utf-8").splitlines()[:5]
        path = tmp_path / "delivery.csv"
        path.write_bytes(line_end.join([*change(lines), ""]).encode(encoding))
        return path

    return write


def without_label(lines):
    return [line.rsplit(",", 1)[0] for line in lines]


def change_line(position, old, new):
    return lambda lines: [
        line.replace(old, new, 1) if i == position else line for i, line in enumerate(lines)
    ]


def test_ibms_extract_is_read_as_text_under_our_names_with_its_line_numbers(extract):
    assert extract.shape == (7043, 21)
    assert list(extract.columns) == list(BY_NAME)
    assert (extract.index[0], extract.index[-1]) == (2, 7044)
    assert extract.map(lambda value: isinstance(value, str)).all(axis=None)
    assert extract.loc[2, ["customer_id", "tenure", "monthly_charges", "churn"]].tolist() == [
        "7590-VHVEG",
        "1",
        "29.85",
        "No",
    ]
    assert (extract["total_charges"] == "").sum() == 11


@pytest.mark.parametrize(
    "encoding, line_end", [("utf-8", "\n"), ("utf-8-sig", "\n"), ("utf-8", "\r\n")]
)
def test_byte_order_mark_and_line_ends_make_no_difference(deliver, extract, encoding, line_end):
    assert delivered_files.read_delivery(deliver(encoding=encoding, line_end=line_end)).equals(
        extract.head(4)
    )


def test_columns_may_stand_in_any_order(deliver, extract):
    path = deliver(lambda lines: [",".join(reversed(line.split(","))) for line in lines])
    assert delivered_files.read_delivery(path).equals(extract.head(4))


def test_words_for_missing_stay_words_and_blanks_round_values_go(deliver):
    rows = delivered_files.read_delivery(
        deliver(
            lambda lines: [
                line.replace(",Male,", ",NA,  nan ,", 1).replace(",0,", ",", 1) for line in lines
            ]
        )
    )
    assert rows.loc[3, ["gender", "senior_citizen"]].tolist() == ["NA", "nan"]


def test_a_short_line_is_filled_with_blanks_for_the_contract_to_judge(deliver):
    rows = delivered_files.read_delivery(
        deliver(lambda lines: [*lines[:-1], lines[-1].rsplit(",", 2)[0]])
    )
    assert rows.loc[5, ["total_charges", "churn"]].tolist() == ["", ""]


def test_an_unlabelled_delivery_has_no_churn_column(deliver, extract):
    rows = delivered_files.read_delivery(deliver(without_label), labelled=False)
    assert rows.equals(extract.head(4).drop(columns="churn"))


@pytest.mark.parametrize(
    "change, labelled, problem",
    [
        (without_label, True, r"1 missing \(Churn\)"),
        (lambda lines: lines, False, r"1 extra \('Churn'\)"),
        (change_line(0, "tenure", "Tenure"), True, r"1 missing \(tenure\); 1 extra \('Tenure'\)"),
        (
            change_line(0, "Partner", "gender"),
            True,
            r"1 missing \(Partner\); 1 repeated \(gender\)",
        ),
        (
            lambda lines: [lines[0] + ",gender", *(line + ",Male" for line in lines[1:])],
            True,
            r"1 repeated \(gender\)",
        ),
    ],
)
def test_wrong_columns_are_refused_by_name(deliver, change, labelled, problem):
    with pytest.raises(DataError, match=f"wrong columns: {problem}"):
        delivered_files.read_delivery(deliver(change), labelled)


def test_a_file_that_is_not_utf8_is_refused_with_its_line(deliver):
    with pytest.raises(DataError, match="not UTF-8: byte .* in line 4"):
        delivered_files.read_delivery(
            deliver(change_line(3, "Mailed", "Maïled"), encoding="latin-1")
        )


def test_a_header_without_rows_is_refused(deliver):
    with pytest.raises(DataError, match="header but no rows"):
        delivered_files.read_delivery(deliver(lambda lines: lines[:1]))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="nowhere.csv does not exist"):
        delivered_files.read_delivery(tmp_path / "nowhere.csv")


@pytest.mark.parametrize("position", [1, 3], ids=["the first line", "a later line"])
def test_line_with_surplus_field_is_set_aside_alone(deliver, extract, position):
    path = deliver(change_line(position, "Yes", "Yes,surplus"))
    accepted, rejected = contract.check_rows(delivered_files.read_delivery(path))
    line = position + 1
    assert rejected["line"].tolist() == [line]
    assert rejected["customer_id"].tolist() == [extract.loc[line, "customer_id"]]
    assert rejected["failed_column"].tolist() == [contract.DAMAGED_LINE]
    assert "has 22 fields where 21 are expected, surplus" in rejected["reason"].iloc[0]
    assert (
        accepted["customer_id"].tolist() == extract.head(4).drop(index=line)["customer_id"].tolist()
    )


def test_line_with_open_quote_is_set_aside_alone(deliver):
    path = deliver(change_line(2, "Male", '"Male'))
    accepted, rejected = contract.check_rows(delivered_files.read_delivery(path))
    assert accepted.index.tolist() == [2, 4, 5]
    assert rejected["line"].tolist() == [3]
    assert "cannot be read as CSV (unexpected end of data)" in rejected["reason"].iloc[0]


def test_file_of_damaged_lines_is_refused(deliver):
    path = deliver(lambda lines: [lines[0], *(line + ",surplus" for line in lines[1:])])
    with pytest.raises(DataError, match=r"4 of 4 line\(s\) .* Line 2 has 22 fields where 21"):
        delivered_files.read_delivery(path)


def test_damaged_lines_stay_in_the_order_of_the_file(deliver):
    path = deliver(
        lambda lines: [lines[0], lines[1] + ",x", lines[2].replace("No", "Maybe"), *lines[3:]]
    )
    _, rejected = contract.check_rows(delivered_files.read_delivery(path))
    assert rejected["line"].tolist() == [2, 3]


def test_lines_of_commas_only_are_blank(deliver, extract):
    path = deliver(lambda lines: [*lines[:3], "," * 20, *lines[3:], '"",' + "," * 19, "   "])
    rows = delivered_files.read_delivery(path)
    assert rows.index.tolist() == [2, 3, 5, 6]
    assert rows.reset_index(drop=True).equals(extract.head(4).reset_index(drop=True))


def test_delivery_compressed_with_gzip_is_read(deliver, extract):
    path = deliver()
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert delivered_files.read_delivery(path).equals(extract.head(4))


@pytest.mark.parametrize("cut", [12, 200])
def test_damaged_gzip_file_is_refused(deliver, cut):
    path = deliver()
    path.write_bytes(gzip.compress(path.read_bytes())[:cut])
    with pytest.raises(DataError, match="damaged gzip file"):
        delivered_files.read_delivery(path)


@pytest.mark.parametrize(
    "content, cause",
    [
        (b"", "is empty"),
        (b"\n \n,,,\n", "is empty"),
        (b"PK\x03\x04rest", "a ZIP archive or an Excel workbook; save the sheet as CSV UTF-8"),
        (b"PAR1rest", "a Parquet file; write it as CSV"),
        ("customerID".encode("utf-16"), "text in UTF-16; save it as UTF-8"),
    ],
)
def test_file_that_is_no_csv_is_refused_by_its_format(tmp_path, content, cause):
    path = tmp_path / "delivery.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=cause):
        delivered_files.read_delivery(path)


@pytest.mark.parametrize(
    "change, cause",
    [
        (lambda lines: [line.replace(",", ";") for line in lines], "separated by semicolons"),
        (lambda lines: [line.replace(",", "\t") for line in lines], "separated by tabs"),
        (lambda lines: ["sep=,", *lines], "starts with 'sep=,', a line for Excel alone"),
        (lambda lines: ["Customers of January", "", *lines], "names its columns in line 3"),
        (lambda lines: lines[1:], "has no line that names the columns"),
    ],
)
def test_wrong_form_is_refused_by_its_cause(deliver, change, cause):
    with pytest.raises(DataError, match=cause):
        delivered_files.read_delivery(deliver(change))


@pytest.mark.parametrize("name", ["customerID ", "CustomerId", "customer_id", "cutsomerID"])
def test_nearest_name_of_a_missing_column_is_said(deliver, name):
    with pytest.raises(DataError, match=f"'{name}' looks like customerID"):
        delivered_files.read_delivery(deliver(change_line(0, "customerID", name)))


def test_folder_in_place_of_a_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        delivered_files.read_delivery(tmp_path)


def test_rows_after_a_blank_line_keep_their_line_number(deliver):
    rows = delivered_files.read_delivery(deliver(lambda lines: [*lines[:2], "", *lines[2:]]))
    assert rows.index.tolist() == [2, 4, 5, 6]


def test_line_ends_of_old_macintoshes_are_read_like_any_other(deliver):
    old = delivered_files.read_delivery(deliver(line_end="\r"))
    assert old.equals(delivered_files.read_delivery(deliver()))
