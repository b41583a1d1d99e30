import numpy as np
import pandas as pd
from figure_parts import bounds, dated_pairs, texts

from churn_utils.monitoring import decision, history
from churn_utils.reports.figures import drift, style

MARCH, APRIL, MAY = (pd.Timestamp(f"2025-0{month}-01") for month in (3, 4, 5))


def test_shifts_have_the_most_used_features_on_top(shifts):
    cells = drift.plot_shifts(shifts, "Shift").data[0]
    assert list(cells.y) == ["contract (7%)", "tenure (40%)", "its own score"]  # from bottom to top
    assert list(cells.x) == ["Mar 2025", "Apr 2025", "May 2025"]
    expected = [[0.02, np.nan, np.nan], [0.001, np.nan, 0.25], [0.0, np.nan, 0.123]]
    assert np.array_equal(np.array(cells.z, dtype=float), expected, equal_nan=True)


def test_shifts_write_numbers_where_there_are_any(shifts):
    cells = drift.plot_shifts(shifts, "Shift").data[0]
    assert np.array(cells.text).tolist() == [["0.02", "", ""], ["", "", "0.25"], ["", "", "0.12"]]


def test_gain_that_asked_for_retraining_is_green(gains):
    figure = drift.plot_refit_gains(gains, 5.0, "Gains")
    points = figure.data[0]
    assert dated_pairs(points) == {APRIL: 1, MAY: 60} and bounds(points.y, points.error_y) == (
        [-4, 45],
        [7, 80],
    )
    assert list(points.marker.color) == [style.GREY, style.GREEN]
    assert [(shape.y0, shape.y1) for shape in figure.layout.shapes] == [(5, 5)] and texts(
        figure
    ) == ["5 USD"]


def test_recovery_shows_three_values_with_intervals(recovery):
    bar = drift.plot_recovery(recovery, "Recovery").data[0]
    assert dict(zip(bar.x, bar.y, strict=True)) == {
        "old champion": 385,
        "new champion": 435,
        "best possible": 440,
    }
    assert bounds(bar.y, bar.error_y) == ([375, 425, 431], [397, 447, 452])
    assert list(bar.text) == ["385", "435", "440"]


def test_no_recovery_yet_is_said(recovery):
    figure = drift.plot_recovery(recovery.head(0), "Recovery")
    assert len(figure.data) == 0 and texts(figure) == [
        "no labelled month has been scored by two champions yet"
    ]


def test_no_decisions_can_be_drawn():
    nothing = pd.DataFrame(columns=decision.COLUMNS)
    assert drift.plot_shifts(history.tabulate_shifts(nothing), "t").layout.title.text == "t"
    assert len(drift.plot_refit_gains(history.tabulate_gains(nothing), 5.0, "t").data[0].x) == 0
