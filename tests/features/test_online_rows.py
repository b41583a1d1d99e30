from churn_utils.features.online_rows import OnlineRow, Published, row_of_text, text_of_row


def test_a_row_comes_back_from_its_text_bit_for_bit():
    row = ("7590-VHVEG", "2025-01-01", "2025-02-01", 0.1 + 0.2, 7, "No", 29.85)
    assert row_of_text(text_of_row(row)) == OnlineRow(
        "2025-01-01", "2025-02-01", (0.1 + 0.2, 7, "No", 29.85)
    )


def test_an_empty_store_was_filled_from_nothing():
    assert Published() == Published("", -1, "", "")
