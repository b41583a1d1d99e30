"""A person lets a delivery pass that was held back: which one, and what is refused."""

import pytest

from churn_utils.data import contract
from churn_utils.errors import UsageError
from churn_utils.features import publishing
from churn_utils.monitoring import accepted_deliveries
from churn_utils.registry import deployments
from churn_utils.settings import month_start

MARCH = month_start(2)


@pytest.fixture
def rows(home, extract):
    """Twenty customers; the first eight of them were published in January."""
    january = month_start(0)
    publishing.publish_snapshot(extract.head(8), january, january)
    return extract.head(20)


def hold_back(rows):
    """Deliver rows in March that do not look like a month."""
    return publishing.publish_snapshot(rows, MARCH, MARCH, lambda accepted, delivered: ["20 rows"])


def accept(month="2025-03", by="Ada Lovelace", reason="twelve were bought"):
    return accepted_deliveries.accept_delivery(month, by, reason)


def is_accepted(rows, date=MARCH):
    accepted, _ = contract.check_rows(rows)
    return accepted_deliveries.is_accepted(date, accepted)


def test_an_acceptance_holds_for_the_rows_that_were_held_back(rows):
    hold_back(rows)
    assert not is_accepted(rows)
    assert accept().startswith("20 rows of 2025-03 are accepted by Ada Lovelace")
    assert is_accepted(rows) and is_accepted(rows.iloc[::-1])  # in any order
    assert not is_accepted(rows.head(19))
    assert not is_accepted(rows, month_start(3))
    entry = deployments.read_audit().iloc[-1]
    assert (entry["action"], entry["as_of"]) == ("accepted delivery", MARCH)
    assert (entry["by"], entry["reason"]) == ("Ada Lovelace", "twelve were bought")


def test_a_delivery_is_accepted_once(rows):
    hold_back(rows)
    accept()
    with pytest.raises(UsageError, match="2025-03 was accepted before"):
        accept()
    hold_back(rows.head(19))  # the newest writing of the month, another delivery
    accept()
    assert len(deployments.list_accepted()) == 2


def test_a_month_that_came_in_after_all_cannot_be_accepted(rows):
    hold_back(rows)
    publishing.publish_snapshot(rows, MARCH, MARCH)
    with pytest.raises(UsageError, match="2025-03 is not held back any more: 20 rows are in"):
        accept()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"month": "2025-09"}, "no delivery of 2025-09 has arrived"),
        ({"month": "soon"}, "'soon' is no month"),
        ({"month": "2025-01"}, "2025-01 is not held back as a whole"),
        ({"month": "2025-03"}, "2025-03 is not held back as a whole"),  # its rows are bad
        ({"by": " "}, "one of them is blank"),
        ({"reason": ""}, "by name and reason"),
    ],
)
def test_what_cannot_be_accepted_is_said(rows, arguments, message):
    publishing.publish_snapshot(rows.assign(gender="?"), MARCH, MARCH)
    with pytest.raises(UsageError, match=message):
        accept(**arguments)
    assert deployments.list_accepted() == []
