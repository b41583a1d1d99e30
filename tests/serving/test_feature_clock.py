import math

from churn_utils.serving.feature_clock import FeatureClock


def test_today_is_the_setting_else_the_newest_date_seen():
    given, derived = FeatureClock("2025-02-01"), FeatureClock()
    assert derived.today == "" and math.isnan(derived.age_of_newest)
    given, derived = given.see("2025-01-01"), derived.see("2025-01-01")
    assert (given.today, derived.today) == ("2025-02-01", "2025-01-01")
    assert (given.age_of_newest, derived.age_of_newest) == (31, 0)


def test_store_that_lost_its_features_keeps_today():
    clock = FeatureClock().see("2025-01-01")
    assert clock.see("") == clock and clock.today == "2025-01-01"


def test_ages_follow_today():
    clock = FeatureClock().see("2025-02-01")
    assert clock.age_of("2025-01-01") == 31
    assert clock.see("2025-03-01").age_of("2025-01-01") == 59


def test_features_of_the_future_have_age_zero():
    clock = FeatureClock("2025-02-01").see("2025-02-01")
    assert clock.days_ahead == 0
    later = clock.see("2025-05-01")
    assert later.days_ahead == 89
    assert later.age_of("2025-05-01") == 0 and later.age_of_newest == 0
