from churn_utils.features import definitions
from churn_utils.features.online_rows import OnlineRow, Published, row_of_text, text_of_row
from churn_utils.serving.examples import EXAMPLE_CUSTOMER


def test_a_row_comes_back_from_its_text_bit_for_bit():
    stored = definitions.features_of_customer({**EXAMPLE_CUSTOMER, "monthly_charges": 19.1 + 0.2})
    row = ("7590-VHVEG", "2025-01-01", "2025-02-01", *stored)
    assert row_of_text(text_of_row(row)) == OnlineRow("2025-01-01", "2025-02-01", stored)


def test_an_empty_store_was_filled_from_nothing():
    assert Published() == Published("", -1, "", "")
