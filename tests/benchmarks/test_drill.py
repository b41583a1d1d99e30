"""The drill: arguments, scores of made-up years, and that sharing work changes no decision."""

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
def test_bad_arguments_are_refused_before_anything_runs(drill, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        drill.parse_arguments(arguments)
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def year_of(scenario, actions, promoted=()):
    """Twelve months: the first champion loses 100 USD from month 3 on, a later one a tenth."""
    month = np.arange(1, 13)
    lost = np.where(month >= 3, 100.0, 0.0)
    own = np.where(month >= min(promoted, default=99), 0.1 * lost, lost)
    year = pd.DataFrame({"month": month, "best": 300.0, "old": 300 - lost, "own": 300 - own})
    year = year.assign(
        decision="ok",
        diagnosis="none",
        promoted=year["month"].isin(promoted),
        seed=7,
        scenario=scenario,
    ).set_index("month")
    for number, decision, diagnosis in actions:
        year.loc[number, ["decision", "diagnosis"]] = decision, diagnosis
    return year.reset_index()


ALERT, RETRAIN = (3, "alert", "covariate"), (4, "retrain", "concept")


def test_a_year_with_the_right_actions_is_right(drill):
    score = drill.score_run(year_of("price_rise", [ALERT, RETRAIN], promoted=[4]))
    assert score["right"] and score["diagnosed"] and score["promoted_in_time"] and score["detected"]
    assert score["false_alarms"] == 0 and not score["false_retraining"] and score["delay"] == 0
    assert score["recovered"] == pytest.approx(0.9)
    assert score["regret"] == pytest.approx((100 + 9 * 10) / 12)
    assert drill.score_run(year_of("none", []))["right"]


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
    score = drill.score_run(year_of(scenario, actions))
    assert not score["right"] and score["false_retraining"] == false_retraining


def test_retrainings_for_unnamed_changes_are_counted(drill):
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


def test_scenarios_share_the_months_that_are_the_same(drill):
    for scenario in ("price_rise", "data_bug", "slow_change", "wave"):
        assert drill.find_month(2, 1, scenario, as_of=3) == drill.find_month(2, 1, "none", as_of=3)
    assert drill.find_month(3, 1, "data_bug", as_of=3) != drill.find_month(3, 1, "none", as_of=3)
    assert drill.find_month(3, 1, "data_bug", as_of=4) == drill.find_month(3, 1, "none", as_of=4)
    assert drill.find_month(5, 1, "wave", as_of=6) == drill.find_month(5, 1, "none", as_of=6)
    assert drill.find_month(5, 1, "slow_change", as_of=6) != drill.find_month(5, 1, "none", as_of=6)


@pytest.mark.slow
def test_a_year_with_a_data_bug_is_decided_rightly(drill, tmp_path):
    with factories.at_home(tmp_path):
        year = models.one_thread(drill.simulate_year)(1, "data_bug", 5)
    acted = year.set_index("month")["decision"]
    right = {month: action for month, (action, _) in drill.RIGHT["data_bug"].items()}
    assert acted[acted != "ok"].to_dict() == right


@pytest.mark.long
def test_a_year_beside_others_is_the_year_alone(drill, tmp_path):
    with factories.at_home(tmp_path):
        beside = drill.simulate_seed((1, 5)).set_index("scenario")
        alone = models.one_thread(drill.simulate_year)(1, "data_bug", 5)
    shared = beside.loc["data_bug"].reset_index()[alone.columns]
    pd.testing.assert_frame_equal(shared, alone)
    for scenario, right in drill.RIGHT.items():
        acted = beside.loc[scenario].set_index("month")["decision"]
        assert acted[acted != "ok"].to_dict() == {
            month: action for month, (action, _) in right.items()
        }
