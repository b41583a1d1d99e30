"""The judge is judged: its arguments, its verdicts on years made by hand, and that sharing work changes no decision."""

import importlib

import factories
import numpy as np
import pandas as pd
import pytest

from churn_utils import settings
from churn_utils.training import models


@pytest.fixture(scope="module")
def drill():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(settings.PROJECT / "benchmarks"))
        yield importlib.import_module("drill")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0"], "argument --seeds: '0' is no whole number from 1 on"),
        (["--months", "0"], "argument --months: '0' is no whole number from 5 on"),
        (["--months", "4"], "argument --months: '4' is no whole number from 5 on"),
        (["--months", "1.5"], "argument --months: '1.5' is no whole number"),
        (["--first-seed", "-1"], "argument --first-seed: '-1' is no whole number from 0 on"),
        (
            ["--runs", "no/such/folder/runs.csv"],
            "argument --runs: there is no folder no/such/folder",
        ),
        (["--scenario", "none"], "unrecognized arguments"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_played(drill, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        drill.parse_arguments(arguments)
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def year_of(scenario, actions, promoted=()):
    """Twelve months in which the first champion loses 100 USD from month 3 on, and a later one a tenth of that."""
    month = np.arange(1, 13)
    lost = np.where(month >= 3, 100.0, 0.0)
    own = np.where(month >= min(promoted, default=99), 0.1 * lost, lost)
    played = pd.DataFrame({"month": month, "best": 300.0, "old": 300 - lost, "own": 300 - own})
    decisions = {number: (decision, diagnosis) for number, decision, diagnosis in actions}
    played["decision"], played["diagnosis"] = zip(
        *(decisions.get(m, ("ok", "none")) for m in month), strict=True
    )
    return played.assign(promoted=played["month"].isin(promoted), seed=7, scenario=scenario)


ALERT, RETRAIN = (3, "alert", "covariate"), (4, "retrain", "concept")


def test_a_year_with_the_right_actions_is_right(drill):
    verdict = drill.judge_run(year_of("price_rise", [ALERT, RETRAIN], promoted=[4]))
    assert (
        verdict["right"]
        and verdict["diagnosed"]
        and verdict["promoted_in_time"]
        and verdict["detected"]
    )
    assert (
        verdict["false_alarms"] == 0 and not verdict["false_retraining"] and verdict["delay"] == 0
    )
    assert verdict["recovered"] == pytest.approx(0.9)
    assert verdict["regret"] == pytest.approx((100 + 9 * 10) / 12)
    assert drill.judge_run(year_of("none", []))["right"]


@pytest.mark.parametrize(
    ("scenario", "actions", "false_retraining"),
    [
        ("price_rise", [ALERT], False),  # nothing follows
        ("price_rise", [ALERT, (5, "retrain", "concept")], True),  # too late
        ("price_rise", [ALERT, RETRAIN, (8, "retrain", "concept")], True),  # once too often
        ("mix_shift", [ALERT, (5, "alert", "covariate")], False),  # the same episode twice
        ("none", [(6, "retrain", "concept")], True),
    ],
)
def test_a_year_with_anything_else_is_not(drill, scenario, actions, false_retraining):
    verdict = drill.judge_run(year_of(scenario, actions))
    assert not verdict["right"] and verdict["false_retraining"] == false_retraining


def test_retrainings_in_worlds_without_a_name_are_counted(drill):
    years = [
        year_of("wave", [RETRAIN, (6, "retrain", "concept")], promoted=[4]),
        year_of("wave", [RETRAIN, (6, "retrain", "concept"), (9, "retrain", "concept")]).assign(
            seed=8
        ),
        year_of("wave", []).assign(seed=9),
    ]
    table = drill.summarise_unnamed(pd.concat(years), "head").set_index("head")["wave"]
    assert table["right number of retrainings"] == "67% (at most 2)"
    assert (
        table["retrainings, median (range)"] == "2 (0–3)"
        and table["first retraining, month (median)"] == "4"
    )
    assert table["runs better off than never retrained"] == "33%"


def test_worlds_share_the_months_that_are_the_same(drill):
    for world in ("price_rise", "data_bug", "slow_change", "wave"):
        assert drill.look_up(2, 1, world, as_of=3) == drill.look_up(2, 1, "none", as_of=3)
    assert drill.look_up(3, 1, "data_bug", as_of=3) != drill.look_up(3, 1, "none", as_of=3)
    assert drill.look_up(3, 1, "data_bug", as_of=4) == drill.look_up(3, 1, "none", as_of=4)
    assert drill.look_up(5, 1, "wave", as_of=6) == drill.look_up(5, 1, "none", as_of=6)
    assert drill.look_up(5, 1, "slow_change", as_of=6) != drill.look_up(5, 1, "none", as_of=6)


def test_a_year_beside_others_is_the_year_alone(drill, tmp_path):
    with factories.at_home(tmp_path):
        beside = drill.play_seed((1, 5)).set_index("scenario")
        alone = models.one_thread(drill.play)(1, "data_bug", 5)
    shared = beside.loc["data_bug"].reset_index()[alone.columns]
    pd.testing.assert_frame_equal(shared, alone)
    for scenario, right in drill.RIGHT.items():
        acted = beside.loc[scenario].set_index("month")["decision"]
        assert acted[acted != "ok"].to_dict() == {
            month: action for month, (action, _) in right.items()
        }
