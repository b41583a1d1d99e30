import pytest

from churn_utils.errors import DataError
from churn_utils.monitoring import what_if
from churn_utils.monitoring.decision import ALERT, COLUMNS, OK, QUARANTINE, RETRAIN
from churn_utils.settings import month_start


@pytest.mark.parametrize(
    ("scenario", "start", "expected"),
    [
        ("competitor", 2, [OK, RETRAIN]),
        ("mix_shift", 3, [ALERT, OK]),
        ("data_bug", 2, [QUARANTINE, OK]),
    ],
)
def test_a_scenario_calls_for_what_its_change_needs(
    scenario, start, expected, simulated_champion, home
):
    tried = what_if.try_scenario(scenario, 5, simulated_champion, start_month=start)
    assert list(tried.columns) == COLUMNS and tried["decision"].tolist() == expected
    assert tried["as_of_date"].tolist() == [month_start(start), month_start(start + 1)]
    assert not (home / "lakehouse").exists()  # nothing is written


def test_an_unknown_scenario_cannot_be_tried(simulated_champion):
    with pytest.raises(DataError, match="'price_fall'"):
        what_if.try_scenario("price_fall", 5, simulated_champion)
