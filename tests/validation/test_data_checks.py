import pandas as pd

from churn_utils import settings
from churn_utils.features import definitions
from churn_utils.validation import data_checks


def test_labels_of_the_last_month_must_be_there(sound_challenger):
    march = sound_challenger.with_parts(as_of=settings.month_start(2))
    april = sound_challenger.with_parts(as_of=settings.month_start(3))
    assert data_checks.check_label_freshness(sound_challenger).verdict == "pass"
    assert data_checks.check_label_freshness(march).verdict == "pass"  # 28 days
    assert data_checks.check_label_freshness(april).verdict == "fail"


def test_a_month_that_lacks_labels_is_not_fresh(sound_challenger):
    part = sound_challenger.labelled.groupby("split").head(1300)
    found = data_checks.check_label_freshness(sound_challenger.with_parts(labelled=part))
    assert found.verdict == "fail"
    assert f"for {len(part)} of 7043 customers of 2025-01" in found.detail


def test_a_customer_on_both_sides_is_a_leak(sound_challenger):
    assert data_checks.check_leakage(sound_challenger).verdict == "pass"
    both = pd.concat([sound_challenger.learned, sound_challenger.rows.head(3)])
    found = data_checks.check_leakage(sound_challenger.with_parts(learned=both))
    assert found.verdict == "fail" and "3 customers in train and test" in found.detail


def test_a_label_from_the_future_is_a_leak(sound_challenger):
    late = sound_challenger.learned.assign(label_date=settings.month_start(4))
    found = data_checks.check_leakage(sound_challenger.with_parts(learned=late))
    assert found.verdict == "fail" and "whose label had not arrived" in found.detail


def test_an_input_that_is_the_answer_is_a_leak(sound_challenger):
    """The value lies in the middle of the range: no ranking by size would find it."""
    rows = sound_challenger.rows
    values = rows["monthly_charges"].where(~rows["churned"], 77.77)
    leaky = sound_challenger.with_parts(rows=rows.assign(monthly_charges=values))
    found = data_checks.check_leakage(leaky)
    assert found.verdict == "fail" and "monthly_charges alone ranks" in found.detail


def test_a_figure_too_good_to_be_true_is_a_leak(sound_challenger):
    perfect = 0.1 + 0.8 * sound_challenger.rows["churned"].to_numpy()
    found = data_checks.check_leakage(sound_challenger.with_parts(probability=perfect))
    assert found.verdict == "fail" and "too good to be true" in found.detail


def test_inputs_are_ranked_by_what_they_say_alone(sound_challenger):
    alone = data_checks.rank_inputs_alone(sound_challenger.rows)
    assert list(alone.index[:2]) == ["contract", "tenure"] or set(alone.index[:3]) >= {
        "contract",
        "tenure",
    }
    assert set(alone.index) == set(definitions.MODEL_INPUTS)
    assert alone.between(0.5, 0.8).all() and alone["gender"] < 0.53
