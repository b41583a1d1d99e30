import numpy as np
import pytest

from churn_utils.data import contract
from churn_utils.data.columns import COLUMNS, INTERNET_OPTIONS, TEXT
from churn_utils.errors import DataError

NUMERIC = [column.name for column in COLUMNS if column.type is not TEXT]
CATEGORIES = {column.name: list(column.categories) for column in COLUMNS if column.categories}
# What changes in IBM's first row (tenure 1, no phone, DSL, bills of 29.85), the column to blame
# and the reason.
NUMBERS = [
    ({name: text}, name, f"is not a number: '{text}'")
    for name in NUMERIC
    for text in ("many", "nan", "NA", "1,5", "1_000", "0x1F", "True")
]
INFINITE = [({name: text}, name, "") for name in NUMERIC for text in ("inf", "-inf", "Infinity")]
BLANKS = [
    ({"senior_citizen": ""}, "senior_citizen", "is blank"),
    ({"tenure": ""}, "tenure", "is blank"),
    ({"monthly_charges": ""}, "monthly_charges", "is blank"),
    ({"total_charges": ""}, "total_charges", "is blank although tenure is not 0"),
    ({"customer_id": ""}, "customer_id", "is blank"),
]
RANGES = [
    ({"senior_citizen": "2"}, "senior_citizen", "is not 0 or 1: 2.0"),
    ({"senior_citizen": "0.5"}, "senior_citizen", "is not 0 or 1: 0.5"),
    ({"tenure": "1.5"}, "tenure", "is not a whole number of months: 1.5"),
    ({"tenure": "-1"}, "tenure", "is outside 0 to 240 months: -1.0"),
    ({"tenure": "241", "total_charges": "7000"}, "tenure", "is outside 0 to 240 months: 241.0"),
    (
        {"monthly_charges": "4.99", "total_charges": "5"},
        "monthly_charges",
        "is outside 5 to 500 USD per month: 4.99",
    ),
    (
        {"monthly_charges": "500.01", "total_charges": "500"},
        "monthly_charges",
        "is outside 5 to 500 USD per month: 500.01",
    ),
    ({"monthly_charges": "2985"}, "monthly_charges", "is outside 5 to 500 USD per month: 2985.0"),
    ({"total_charges": "-3"}, "total_charges", "is outside 0 to 120000 USD: -3.0"),
    (
        {"tenure": "0", "total_charges": "120000.5"},
        "total_charges",
        "is outside 0 to 120000 USD: 120000.5",
    ),
    ({"total_charges": "8.9"}, "total_charges", "is not 0.3 to 3.0 times tenure x monthly charges"),
    (
        {"total_charges": "89.6"},
        "total_charges",
        "is not 0.3 to 3.0 times tenure x monthly charges",
    ),
]
UNKNOWN = [
    ({name: value}, name, f"is not one of {known}: '{value}'")
    for name, known in CATEGORIES.items()
    for value in ("", "Other", known[0].lower())
]
BAD_IDS = [
    ({"customer_id": text}, "customer_id", "is not 1 to 64 visible characters, no blank at either")
    for text in ("=1+1", "+1", "-1", "@me", " 7", "7 ", "a\tb", "a\u200bb", "a\u202eb", "a\x00b")
    + ("x" * 65, "\u3164", "a\u3000b", "tag\U000e0041")
]
GOOD_IDS = ["AC 12/7", "Müller-01", "x" * 64, "東京 #1", "a=b", "7"]
BETWEEN_COLUMNS = [
    ({"phone_service": "Yes"}, "multiple_lines", "contradicts phone_service"),
    ({"multiple_lines": "No"}, "multiple_lines", "contradicts phone_service"),
    *[
        ({name: "No internet service"}, name, "contradicts internet_service")
        for name in INTERNET_OPTIONS
    ],
]

DAMAGE = ["", "No", "0", "inf", "-7", "No internet service", "No phone service", "x|y", "é"]


@pytest.fixture
def rows(extract):
    return extract.head(4).copy()


def change_first(rows, changes):
    rows.loc[2, list(changes)] = list(changes.values())
    return rows


def assert_nothing_lost(rows, accepted, rejected):
    assert sorted([*accepted.index, *rejected["line"]]) == rows.index.tolist()


def test_ibms_file_passes_wholly(extract):
    accepted, rejected = contract.check_rows(extract)
    assert len(accepted) == 7043 and len(rejected) == 0
    assert accepted["total_charges"].isna().sum() == 11


def test_an_unlabelled_delivery_passes_without_churn(extract):
    accepted, rejected = contract.check_rows(extract.drop(columns="churn"))
    assert len(accepted) == 7043 and len(rejected) == 0 and "churn" not in accepted


@pytest.mark.parametrize(
    "changes, column, reason",
    [*NUMBERS, *INFINITE, *BLANKS, *RANGES, *UNKNOWN, *BAD_IDS, *BETWEEN_COLUMNS],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_row_that_breaks_a_rule_is_rejected_with_column_and_reason(rows, changes, column, reason):
    accepted, rejected = contract.check_rows(change_first(rows, changes))
    assert rejected["line"].tolist() == [2] and accepted.index.tolist() == [3, 4, 5]
    assert rejected["failed_column"].tolist() == [column]
    assert rejected["reason"].item().startswith(f"{column} {reason}")


@pytest.mark.parametrize("name", INTERNET_OPTIONS)
def test_an_internet_option_without_internet_is_rejected(extract, name):
    without = extract[extract["internet_service"] == "No"].head(1).copy()
    without[name] = "No"
    _, rejected = contract.check_rows(without)
    assert rejected[["failed_column", "reason"]].values.tolist() == [
        [name, f"{name} contradicts internet_service"]
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"tenure": "0", "total_charges": ""},
        {"tenure": "0", "total_charges": "0"},
        {"tenure": "240", "total_charges": "7164"},
        {"monthly_charges": "5", "total_charges": "5"},
        {"monthly_charges": "500", "total_charges": "500"},
        {"monthly_charges": "100", "total_charges": "30"},
        {"monthly_charges": "100", "total_charges": "300"},
        {"senior_citizen": "1"},
        {"tenure": "1.0"},
        *({"customer_id": text} for text in GOOD_IDS),
    ],
    ids=str,
)
def test_values_on_the_edge_of_what_is_possible_pass(rows, changes):
    accepted, rejected = contract.check_rows(change_first(rows, changes))
    assert rejected["reason"].tolist() == [] and len(accepted) == 4


def test_infinite_total_charges_of_a_new_customer_are_rejected(rows):
    accepted, _ = contract.check_rows(change_first(rows, {"tenure": "0", "total_charges": "inf"}))
    assert np.isfinite(accepted["total_charges"]).all()


def test_of_two_rows_with_one_id_both_are_rejected(rows):
    rows.loc[4, "customer_id"] = rows.loc[2, "customer_id"]
    accepted, rejected = contract.check_rows(rows)
    assert rejected[["line", "failed_column", "reason"]].values.tolist() == [
        [2, "customer_id", "customer_id is not unique"],
        [4, "customer_id", "customer_id is not unique"],
    ]
    assert accepted.index.tolist() == [3, 5]


def test_all_reasons_of_a_row_are_given_and_a_wrong_value_before_what_no_longer_fits_to_it(rows):
    changes = {"phone_service": "Ja", "tenure": "many", "online_security": "No internet service"}
    _, rejected = contract.check_rows(change_first(rows, changes))
    assert rejected["failed_column"].item() == "tenure"
    assert [reason.split()[0] for reason in rejected["reason"].item().split("; ")] == [
        "tenure",
        "phone_service",
        "multiple_lines",
        "online_security",
    ]


def test_the_column_to_blame_does_not_depend_on_other_rows(extract):
    found = set()
    for others in (0, 10, 15, 20, 28):
        rows = change_first(
            extract.head(30).copy(), {"dependents": "Two", "internet_service": "Cable"}
        )
        rows.loc[3 : 2 + others, "internet_service"] = "Cable"
        _, rejected = contract.check_rows(rows)
        found.add((*rejected.loc[0, ["failed_column", "reason"]],))
    assert len(found) == 1


def test_accepted_rows_are_typed_and_keep_their_values(extract):
    accepted, _ = contract.check_rows(extract)
    types = accepted.dtypes.astype(str).to_dict()
    assert {name: types[name] for name in NUMERIC} == contract.NUMBER_TYPES
    assert set(types.values()) == {"int64", "float64", "object"}
    assert list(accepted.columns) == list(extract.columns)
    assert accepted["tenure"].astype(str).equals(extract["tenure"])
    assert accepted["payment_method"].equals(extract["payment_method"])


def test_rejected_rows_keep_the_text_as_delivered(rows):
    delivered = change_first(rows, {"tenure": "007 months"})
    _, rejected = contract.check_rows(delivered)
    assert rejected[delivered.columns].iloc[0].tolist() == delivered.loc[2].tolist()


@pytest.mark.parametrize(
    "changes", [{"customer_id": ""}, {"tenure": ""}, {"gender": "?", "monthly_charges": "free"}]
)
def test_no_row_is_lost_when_all_are_bad(rows, changes):
    rows = rows.assign(**changes)
    accepted, rejected = contract.check_rows(rows)
    assert_nothing_lost(rows, accepted, rejected)
    assert len(accepted) == 0 and accepted.dtypes["tenure"] == "int64"
    assert rejected["reason"].ne("").all()


@pytest.mark.parametrize("seed", range(2))
def test_no_row_is_lost_however_a_file_is_damaged_and_rows_are_judged_alone(extract, seed):
    generator = np.random.default_rng(seed)
    rows = extract.sample(25, random_state=seed).sort_index()
    for position in generator.choice(rows.size, 40, replace=False):
        line, column = divmod(position, rows.shape[1])
        value = DAMAGE[generator.integers(len(DAMAGE))]
        rows.iat[line, column] = value if column else f"{value}-{line}"
    accepted, rejected = contract.check_rows(rows)
    assert_nothing_lost(rows, accepted, rejected)
    assert 5 < len(rejected) < 25
    judged = rejected.set_index("line")
    for line in rows.index:
        _, alone = contract.check_rows(rows.loc[[line]])
        expected = (
            set() if line not in judged.index else set(judged.loc[line, "reason"].split("; "))
        )
        assert set("; ".join(alone["reason"]).split("; ")) - {""} == expected


def test_columns_that_nobody_agreed_on_are_refused(rows):
    with pytest.raises(DataError, match="columns break the contract.*column_in_schema"):
        contract.check_rows(rows.assign(shoe_size="43"))
