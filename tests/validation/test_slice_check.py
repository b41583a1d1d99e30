import numpy as np
import pandas as pd
import pytest

from churn_utils.features.definitions import SLICES
from churn_utils.validation import slice_check
from churn_utils.validation.slice_check import GroupComparison


def test_a_group_that_loses_money_fails(sound_challenger):
    without_internet = (sound_challenger.rows["internet_service"] == "No").to_numpy()
    probability = np.where(without_internet, 0.9, sound_challenger.probability)
    found = slice_check.check_slices(sound_challenger.with_parts(probability=probability))
    assert found.verdict == "fail"
    assert "internet_service = No" in found.detail


def test_a_champion_is_compared_by_its_own_threshold(sound_challenger):
    """The champion's costs were such that it makes the offer from 0.02: those offers cost money."""
    rival = sound_challenger.with_parts(
        champion=99, champion_probability=sound_challenger.probability, champion_threshold=0.02
    )
    found = slice_check.check_slices(rival)
    assert found.verdict == "pass"
    assert "groups against champion 99" in found.detail
    same = slice_check.check_slices(rival.with_parts(champion_threshold=0.25))
    assert same.value == 0 and "(+0 USD)" in same.detail
    assert "(+0 USD)" not in found.detail


def test_a_champion_makes_the_offer_on_its_threshold(sound_challenger):
    def judge(champion_probability):
        rival = sound_challenger.with_parts(
            champion=99,
            champion_probability=np.full(len(sound_challenger.rows), champion_probability),
            champion_threshold=0.25,
        )
        return slice_check.check_slices(rival)

    assert judge(0.25) == judge(0.9) != judge(0.24)


def test_a_group_of_the_least_size_is_compared(sound_challenger, monkeypatch):
    sizes = [sound_challenger.rows.groupby(column).size() for column in SLICES]
    smallest = min(size.min() for size in sizes)
    offers = sound_challenger.treated
    for least, left_out in ((smallest, 0), (smallest + 1, 1)):
        monkeypatch.setattr(slice_check, "MIN_SLICE_ROWS", least)
        groups = slice_check.compare_groups(sound_challenger, offers, offers)
        assert len(groups) == sum(map(len, sizes)) - left_out


def groups_with(*p_values):
    return [GroupComparison(f"group {i}", p, -1.0) for i, p in enumerate(p_values)]


@pytest.mark.parametrize(
    ("p_values", "worse_off"),
    [
        ((0.02, 0.5, 0.5, 0.5, 0.5), 0),  # clear alone, not as the clearest of five
        ((0.004, 0.5, 0.5, 0.5, 0.5), 1),
        ((0.004, 0.006, 0.5, 0.5, 0.5), 2),  # the second has to pass a fourth of the level only
        ((0.004, 0.007, 0.008, 0.5, 0.5), 1),  # one that does not pass ends it
        ((0.02,), 1),
    ],
)
def test_holm_corrects_for_the_number_of_groups(p_values, worse_off):
    names = [f"group {i}" for i in range(worse_off)]
    assert slice_check.find_worse_off(groups_with(*p_values)) == names


def test_a_group_harmed_by_chance_passes_among_many(sound_challenger, monkeypatch):
    groups = groups_with(0.02, *[0.5] * 19)
    monkeypatch.setattr(slice_check, "compare_groups", lambda *arguments: groups)
    assert slice_check.check_slices(sound_challenger).verdict == "pass"


def test_a_few_unlucky_offers_are_no_harm():
    none, offers = np.zeros(300, dtype=bool), np.arange(300) < 7
    p_value = slice_check.p_value_of_harm(none, offers, none, 0.25)
    assert p_value == pytest.approx(0.75**7)  # 13 %: no churner among seven


def test_many_unlucky_offers_are_harm():
    none, many = np.zeros(300, dtype=bool), np.arange(300) < 60
    assert slice_check.p_value_of_harm(none, many, none, 0.25) == pytest.approx(0.75**60)
    churned = np.arange(300) % 4 == 0  # as many as pay for themselves
    assert slice_check.p_value_of_harm(churned, many, none, 0.25) > 0.5
    assert slice_check.p_value_of_harm(churned, many, many, 0.25) == 1  # nothing has changed


def test_dropped_offers_count_as_well():
    churned, none = np.ones(20, dtype=bool), np.zeros(20, dtype=bool)
    p_value = slice_check.p_value_of_harm(churned, none, ~none, 0.25)
    assert p_value == pytest.approx(0.25**20)
    assert slice_check.p_value_of_harm(~churned, none, ~none, 0.25) == pytest.approx(1)


def test_equal_opportunity_is_the_gap_in_churners_reached(sound_challenger):
    rows = pd.DataFrame(
        {
            "gender": ["Male", "Male", "Female", "Female", "Female"],
            "senior_citizen": [0, 0, 0, 1, 1],
            "churned": [True, True, True, True, False],
        }
    )
    treated = np.array([True, False, True, True, True])
    found = slice_check.equal_opportunity_difference(rows, treated)
    assert found == {"gender": 0.5, "senior_citizen": pytest.approx(1 / 3)}
    assert "equal opportunity gap gender" in slice_check.check_slices(sound_challenger).detail


def test_a_weight_counts_like_so_many_rows():
    draws = np.random.default_rng(1)
    churned = draws.random(60) < 0.15
    before = np.zeros(60, dtype=bool)
    every = ~before
    exact = slice_check.p_value_of_harm(churned, every, before, 0.25)
    ones = slice_check.p_value_of_harm(churned, every, before, 0.25, np.ones(60))
    assert abs(ones - exact) < 0.01
    tens = slice_check.p_value_of_harm(churned, every, before, 0.25, np.full(60, 10.0))
    assert abs(tens - exact) < 0.01, "ten times as much, no more certain"
