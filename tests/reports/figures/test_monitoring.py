import numpy as np
import pandas as pd
from figure_parts import bounds, dated_pairs, marks, trace

from churn_utils.reports.figures import monitoring, style

MARCH, APRIL, MAY = (pd.Timestamp(f"2025-0{month}-01") for month in (3, 4, 5))

NOTHING = pd.DataFrame(columns=["date", "event", "what"])


def test_timeline_holds_what_each_model_earned(months):
    figure = monitoring.plot_value_timeline(months, NOTHING, "Value")
    assert dated_pairs(trace(figure, "champion in effect")) == {MARCH: 225, APRIL: 390, MAY: 435}
    assert dated_pairs(trace(figure, "best possible")) == {MARCH: 230, APRIL: 450, MAY: 440}
    assert dated_pairs(trace(figure, "old champion, in the shadow")) == {MAY: 385}
    assert figure.layout.title.text == "Value" and marks(figure) == {}


def test_champion_has_its_interval_as_a_band(months):
    band = next(
        t
        for t in monitoring.plot_value_timeline(months, NOTHING, "Value").data
        if t.fill == "toself"
    )
    assert pd.to_datetime(band.x).tolist() == [MARCH, APRIL, MAY, MAY, APRIL, MARCH]
    assert list(band.y) == [245, 410, 455, 425, 380, 215]


def test_events_are_marked_once_at_their_dates(months, events):
    figure = monitoring.plot_value_timeline(months, events, "Value")
    assert marks(figure) == {APRIL: style.RED, MAY: style.INK}
    notes = {pd.Timestamp(note.x): note.text for note in figure.layout.annotations}
    assert notes[APRIL].count("alert") == 1 and "the world changed" in notes[APRIL]
    assert notes[MAY].index("retraining asked for") < notes[MAY].index("new champion")
    assert f"color:{style.GREEN}'>new champion" in notes[MAY]


def test_every_event_can_be_marked(months):
    told = ["world", "alert", "quarantine", "retrain", "promoted", "refused"]
    events = pd.DataFrame(
        {"date": pd.date_range(MARCH, periods=6, freq="MS"), "event": told, "what": "x"}
    )
    assert len(marks(monitoring.plot_value_timeline(months, events, "Value"))) == 6


def test_lost_value_is_a_bar_a_month_with_its_number(months):
    bar = monitoring.plot_lost_value(months, "Lost").data[0]
    assert dated_pairs(bar) == {MARCH: 35215, APRIL: 422580.4, MAY: 35215}
    assert list(bar.text) == ["35,215", "422,580", "35,215"]


def test_labels_outside_the_estimate_are_red(compared):
    figure = monitoring.plot_estimates(compared, "Estimates", "USD")
    before, after = (
        trace(figure, "estimated before the labels"),
        trace(figure, "what the labels said"),
    )
    assert dated_pairs(before) == {MARCH: 220, APRIL: 400} and dated_pairs(after) == {
        MARCH: 225,
        APRIL: 300,
    }
    assert bounds(before.y, before.error_y) == ([200, 390], [250, 410])
    assert list(after.marker.color) == [style.GREEN, style.RED] and after.marker.symbol == "diamond"


def test_slices_keep_order_and_stay_empty_if_unlabelled(slices):
    figure = monitoring.plot_slices(slices, "Groups", "USD")
    points = figure.data[0]
    assert list(points.y) == ["contract=Two year", "all"]  # from bottom to top
    assert points.x[1] == 220 and np.isnan(points.x[0])
    low, high = bounds(points.x, points.error_x)
    assert (low[1], high[1]) == (200, 250)
    assert np.array(points.customdata).tolist() == [[12, 90], [7000, 7043]]
