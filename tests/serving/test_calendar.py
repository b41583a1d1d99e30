import math

from churn_utils.serving.calendar import Calendar


def test_today_is_the_setting_or_else_the_day_of_the_newest_features_that_there_were():
    given, derived = Calendar("2025-02-01"), Calendar("")
    assert derived.today == "" and math.isnan(derived.age_of_newest)
    for calendar in (given, derived):
        calendar.note_newest("2025-01-01")
        calendar.note_newest("")  # lost, for a moment
    assert (given.today, derived.today) == ("2025-02-01", "2025-01-01")
    assert (given.age_of_newest, derived.age_of_newest) == (31, 0)


def test_ages_follow_today():
    calendar = Calendar("")
    calendar.note_newest("2025-02-01")
    assert calendar.age_of("2025-01-01") == 31
    calendar.note_newest("2025-03-01")
    assert calendar.age_of("2025-01-01") == 59


def test_features_of_the_future_are_warned_of_once_and_never_have_a_negative_age(caplog):
    calendar = Calendar("2025-02-01")
    calendar.note_newest("2025-02-01")
    assert calendar.days_ahead == 0 and not caplog.text
    for _ in range(3):
        calendar.note_newest("2025-05-01")
    assert (
        calendar.days_ahead == 89
        and calendar.age_of("2025-05-01") == 0
        and calendar.age_of_newest == 0
    )
    assert caplog.text.count("CHURN_TODAY is 2025-02-01, but there are features of 2025-05-01") == 1
