"""Offers that are made: who is control, and what a label then counts for."""

import numpy as np
import pandas as pd
import pytest

from churn_utils.data import table_writes, tables
from churn_utils.errors import DataError, UsageError
from churn_utils.features import offer_policy, offers
from churn_utils.features.offer_policy import OfferPolicy

MONTH = pd.Timestamp("2025-02-01")
IDS = pd.Series([f"{number:04d}-TEST" for number in range(20_000)])


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CHURN_HOME", str(tmp_path))
    return tmp_path


def divide(share, is_selected=True, salt="a"):
    selected = np.full(len(IDS), is_selected)
    return offers.assign_groups(IDS, selected, OfferPolicy(share, salt))


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3])
def test_the_control_group_has_its_share(share):
    groups = divide(share)["group"]
    assert abs((groups == "control").mean() - share) < 0.01
    assert set(groups) == {"control", "treated"}


def test_a_customer_stays_in_its_group():
    assert divide(0.1).equals(divide(0.1))
    small, large = divide(0.1)["group"] == "control", divide(0.3)["group"] == "control"
    assert (large[small]).all(), "a larger group holds the smaller one"


def test_another_salt_draws_others():
    both = (divide(0.1)["group"] == "control") & (divide(0.1, salt="b")["group"] == "control")
    assert abs(both.mean() - 0.01) < 0.005


def test_who_is_not_selected_is_neither_treated_nor_control():
    groups = divide(0.1, is_selected=False)
    assert set(groups["group"]) == {"not_selected"}
    assert (groups["treatment_probability"] == 0).all()


@pytest.mark.parametrize("share", [1.0, -0.1, 1.5, float("nan")])
def test_a_share_that_leaves_no_offer_is_refused(share):
    with pytest.raises(UsageError, match="share of the control group"):
        OfferPolicy(share)


def test_only_two_modes_are_known():
    assert offer_policy.make_policy("none", 0.1, 42) is None
    assert offer_policy.make_policy("made", 0.2, 42) == OfferPolicy(0.2, "seed 42")
    with pytest.raises(UsageError, match="OFFERS is 'maybe'; valid are none and made"):
        offer_policy.make_policy("maybe", 0.1, 42)


def test_a_home_keeps_its_way_of_making_offers(home):
    assert offer_policy.read_policy() is None
    offer_policy.bind_policy(None)
    offer_policy.bind_policy(OfferPolicy(0.2, "seed 1"))
    assert offer_policy.read_policy() == OfferPolicy(0.2, "seed 1")
    for other in (None, OfferPolicy(0.1, "seed 1")):
        with pytest.raises(UsageError, match="makes offers with a control group of 20%"):
            offer_policy.bind_policy(other)


def test_a_home_that_scored_without_offers_makes_none_later(home, monkeypatch):
    monkeypatch.setattr(tables, "exists", lambda table: table == "predictions")
    with pytest.raises(UsageError, match="makes no offers, and is now asked"):
        offer_policy.bind_policy(OfferPolicy())


@pytest.mark.parametrize("content", ["", "{}", '{"control_share": "x", "salt": ""}', "[1]"])
def test_a_damaged_policy_is_named_with_its_remedy(home, content):
    offer_policy.path_of_policy().write_text(content)
    with pytest.raises(DataError, match=r"offers\.json.*is damaged: write .*control_share"):
        offer_policy.read_policy()


def make_offers(share, chosen=0.4, seed=0):
    """Return labels of a month, its offers, and who would have churned without them."""
    draws = np.random.default_rng(seed)
    risk = draws.random(len(IDS))
    groups = divide(share, is_selected=True)
    is_selected = risk > 1 - chosen
    groups = offers.assign_groups(IDS, is_selected, OfferPolicy(share, "a"))
    churns = draws.random(len(IDS)) < risk
    churned = churns & (groups["group"] != "treated")  # an offer keeps everyone
    labels = pd.DataFrame({"customer_id": IDS, "snapshot_date": MONTH, "churned": churned})
    made = groups.assign(customer_id=IDS, snapshot_date=MONTH)
    return labels, made, churns


def test_untreated_rows_stand_for_all_customers():
    labels, made, churns = make_offers(0.1)
    weighted = offers.add_weights(labels, made)
    rate = np.average(weighted["churned"], weights=weighted["weight"])
    assert abs(rate - churns.mean()) < 0.015
    assert labels["churned"].mean() < churns.mean() - 0.2, "the labels alone say something else"


def test_a_label_after_an_offer_counts_for_nothing():
    labels, made, _ = make_offers(0.1)
    weighted = offers.add_weights(labels, made)
    by_group = weighted.groupby("group")["weight"].agg(["min", "max"])
    assert by_group.loc["treated"].tolist() == [0, 0]
    selected = made[made["group"] != "not_selected"]
    stands_for = len(selected) / (selected["group"] == "control").sum()
    assert by_group.loc["control"].tolist() == pytest.approx([stands_for, stands_for])
    assert weighted["weight"].sum() == pytest.approx(len(weighted))
    assert by_group.loc["not_selected"].tolist() == [1, 1]
    assert set(offers.keep_untreated(weighted)["group"]) == {"control", "not_selected"}


def test_without_a_control_group_no_row_of_the_month_counts():
    labels, made, _ = make_offers(0.0)
    assert (offers.add_weights(labels, made)["weight"] == 0).all()
    assert offers.list_months_without_control(made) == [MONTH]
    assert "in 2025-02 offers were made" in offers.describe_missing_control([MONTH])


def test_without_offers_every_row_counts_once():
    labels, made, _ = make_offers(0.1)
    weighted = offers.add_weights(labels, made.head(0))
    assert (weighted["weight"] == 1).all()
    assert offers.sample_weights(weighted) is None
    assert offers.sample_weights(labels) is None


def test_offers_are_recorded_once(home):
    predictions = pd.DataFrame(
        {
            "customer_id": ["a", "b", "c"],
            "snapshot_date": MONTH,
            "model_version": 1,
            "decision": ["offer", "no_offer", "offer"],
            "scored_at": MONTH,
        }
    )
    offers.record_offers(predictions, OfferPolicy(0.0))
    version = tables.version_of("offers")
    offers.record_offers(predictions, OfferPolicy(0.0))
    stored = offers.read_offers(snapshot_date=MONTH)
    assert stored["group"].tolist() == ["treated", "not_selected", "treated"]
    assert tables.version_of("offers") == version


# --- what a company reports


@pytest.fixture
def month_of_customers(home):
    """A home with five customers in a month, about whom it decided nothing."""
    stored = pd.DataFrame(
        {"customer_id": list("abcde"), "snapshot_date": MONTH, "written_at": MONTH}
    )
    table_writes.merge("customers", stored)


def report(**groups):
    return pd.DataFrame({"customer_id": list(groups), "group": list(groups.values())})


def test_reported_offers_are_taken_in_where_none_were_decided(month_of_customers):
    rows = report(a="treated", b="treated", c="treated", d="control")
    assert offers.record_reported(rows, MONTH) == 5
    made = offers.read_offers(snapshot_date=MONTH).set_index("customer_id")
    assert made["group"].to_dict() == {
        **dict.fromkeys("abc", "treated"),
        "d": "control",
        "e": "not_selected",
    }
    assert made["treatment_probability"].tolist() == [0.75] * 4 + [0.0]
    labels = pd.DataFrame({"customer_id": list("abcde"), "snapshot_date": MONTH})
    weighted = offers.add_weights(labels, made.reset_index())
    assert weighted["weight"].tolist() == [0, 0, 0, 4, 1]


def test_a_report_without_control_group_voids_the_month(month_of_customers):
    offers.record_reported(report(a="treated"), MONTH)
    assert offers.list_months_without_control(offers.read_offers()) == [MONTH]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (report(a="called"), "1 of 1 customers in the offers of 2025-02 are in a group other"),
        (pd.concat([report(a="treated")] * 2), "2 of 2 .* are named twice, such as 'a'"),
        (report(z="treated"), "1 of 1 .* are not in that month, such as 'z'"),
    ],
)
def test_a_report_that_cannot_be_is_refused(month_of_customers, rows, message):
    with pytest.raises(DataError, match=message):
        offers.record_reported(rows, MONTH)
    assert not tables.exists("offers")


def test_a_report_that_contradicts_the_decisions_is_refused(month_of_customers):
    decided = pd.DataFrame(
        {
            "customer_id": list("abcde"),
            "snapshot_date": MONTH,
            "model_version": 1,
            "decision": ["offer", "offer", "no_offer", "no_offer", "no_offer"],
            "scored_at": MONTH,
        }
    )
    offers.record_offers(decided, OfferPolicy(0.0))
    assert offers.record_reported(report(a="treated", b="treated"), MONTH) == 0
    for rows, count in ((report(a="treated"), 1), (report(a="treated", c="treated"), 2)):
        with pytest.raises(DataError, match=f"contradict what was decided about {count} of 5"):
            offers.record_reported(rows, MONTH)
