import numpy as np
import pandas as pd
import pytest

from churn_utils.monitoring import drift
from churn_utils.monitoring import recovery as recovery_report
from churn_utils.reports.figures import figures as figures_
from churn_utils.reports.figures import monitoring_figures

MARCH, APRIL, MAY = (pd.Timestamp(f"2025-0{month}-01") for month in (3, 4, 5))
NOTHING = pd.DataFrame(columns=["date", "event", "what"])


@pytest.fixture
def months():
    """Two months with one champion and one with two, as ``review.value_by_month`` returns them."""
    values = {
        "best": [230.0, 450.0, 440.0],
        "champion": [225.0, 390.0, 435.0],
        "shadow": [np.nan, np.nan, 385.0],
    }
    frame = pd.DataFrame({"snapshot_date": [MARCH, APRIL, MAY], "customers": 7043, **values})
    for model in values:
        frame[f"{model}_lower"], frame[f"{model}_upper"] = frame[model] - 10, frame[model] + 20
    return frame.assign(lost_usd=[35215.0, 422580.4, 35215.0])


@pytest.fixture
def events():
    """April's three, May's two."""
    names = ["world", "alert", "alert", "retrain", "promoted"]
    return pd.DataFrame({"date": [APRIL] * 3 + [MAY] * 2, "event": names, "what": "x"})


@pytest.fixture
def compared():
    return pd.DataFrame(
        {
            "window": ["2025-03", "2025-04"],
            "estimated": [220.0, 400.0],
            "lower": [200.0, 390.0],
            "upper": [250.0, 410.0],
            "realised": [225.0, 300.0],
            "inside": [True, False],
        }
    )


@pytest.fixture
def slices():
    """The second has too few labels for a value."""
    return pd.DataFrame(
        {
            "slice": ["all", "contract=Two year"],
            "value": [220.0, np.nan],
            "lower": [200.0, np.nan],
            "upper": [250.0, np.nan],
            "rows": [7043, 90],
            "rows_labelled": [7000, 12],
        }
    )


@pytest.fixture
def shifts():
    """As ``review.table_shifts`` returns them; April's delivery was broken."""
    names = pd.Index(["tenure", "champion_score", "contract"], name="feature")
    psi = {MARCH: [0.001, 0.0, 0.02], APRIL: [np.nan] * 3, MAY: [0.25, 0.1234, np.nan]}
    return pd.DataFrame(psi, index=names).assign(use=[0.4, 1.0, 0.07])


@pytest.fixture
def gains():
    return pd.DataFrame(
        {
            "as_of_date": [APRIL, MAY],
            "decision": ["ok", "retrain"],
            "gain_usd": [1.0, 60.0],
            "lower": [-4.0, 45.0],
            "upper": [7.0, 80.0],
        }
    )


@pytest.fixture
def recovery():
    names = ["old champion", "new champion", "best possible", "recovered"]
    return pd.DataFrame(
        {
            "value": [385.0, 435.0, 440.0, 0.9],
            "lower": [375.0, 425.0, 431.0, 0.8],
            "upper": [397.0, 447.0, 452.0, 0.97],
        },
        index=names,
    )


def trace(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def pairs(trace):
    return dict(zip(pd.to_datetime(trace.x), trace.y, strict=True))


def bounds(values, arms):
    """Lower and upper ends of error bars."""
    values = np.asarray(values)
    return (values - arms.arrayminus).tolist(), (values + arms.array).tolist()


def marks(figure):
    """Colour of each vertical line by its date."""
    return {
        pd.Timestamp(shape.x0): shape.line.color
        for shape in figure.layout.shapes
        if shape.x0 == shape.x1
    }


def texts(figure):
    return [note.text for note in figure.layout.annotations]


def every_figure(months, events, compared, slices, shifts, gains, recovery):
    yield monitoring_figures.plot_value_timeline(months, events, "t")
    yield monitoring_figures.plot_lost_value(months, "t")
    yield monitoring_figures.plot_estimates(compared, "t", "USD")
    yield monitoring_figures.plot_slices(slices, "t", "USD")
    yield monitoring_figures.plot_shift(shifts, "t")
    yield monitoring_figures.plot_gains(gains, 5.0, "t")
    yield monitoring_figures.plot_recovery(recovery, "t")


# --- value by month and what happened


def test_the_timeline_holds_what_each_model_earned(months):
    figure = monitoring_figures.plot_value_timeline(months, NOTHING, "Value")
    assert pairs(trace(figure, "champion in effect")) == {MARCH: 225, APRIL: 390, MAY: 435}
    assert pairs(trace(figure, "best possible")) == {MARCH: 230, APRIL: 450, MAY: 440}
    assert pairs(trace(figure, "old champion, in the shadow")) == {MAY: 385}
    assert figure.layout.title.text == "Value" and marks(figure) == {}


def test_the_champion_has_its_interval_as_a_band(months):
    band = next(
        t
        for t in monitoring_figures.plot_value_timeline(months, NOTHING, "Value").data
        if t.fill == "toself"
    )
    assert pd.to_datetime(band.x).tolist() == [MARCH, APRIL, MAY, MAY, APRIL, MARCH]
    assert list(band.y) == [245, 410, 455, 425, 380, 215]


def test_events_are_marked_once_at_their_dates(months, events):
    figure = monitoring_figures.plot_value_timeline(months, events, "Value")
    assert marks(figure) == {APRIL: figures_.RED, MAY: figures_.INK}
    notes = {pd.Timestamp(note.x): note.text for note in figure.layout.annotations}
    assert notes[APRIL].count("alert") == 1 and "the world changed" in notes[APRIL]
    assert notes[MAY].index("retraining asked for") < notes[MAY].index("new champion")
    assert f"color:{figures_.GREEN}'>new champion" in notes[MAY]


def test_every_event_that_is_told_can_be_marked(months):
    told = ["world", "alert", "quarantine", "retrain", "promoted", "refused"]
    events = pd.DataFrame(
        {"date": pd.date_range(MARCH, periods=6, freq="MS"), "event": told, "what": "x"}
    )
    assert len(marks(monitoring_figures.plot_value_timeline(months, events, "Value"))) == 6


def test_lost_value_is_a_bar_a_month_with_its_number(months):
    bar = monitoring_figures.plot_lost_value(months, "Lost").data[0]
    assert pairs(bar) == {MARCH: 35215, APRIL: 422580.4, MAY: 35215}
    assert list(bar.text) == ["35,215", "422,580", "35,215"]


# --- estimates and groups


def test_labels_outside_the_estimate_are_red(compared):
    figure = monitoring_figures.plot_estimates(compared, "Estimates", "USD")
    before, after = (
        trace(figure, "estimated before the labels"),
        trace(figure, "what the labels said"),
    )
    assert pairs(before) == {MARCH: 220, APRIL: 400} and pairs(after) == {MARCH: 225, APRIL: 300}
    assert bounds(before.y, before.error_y) == ([200, 390], [250, 410])
    assert (
        list(after.marker.color) == [figures_.GREEN, figures_.RED]
        and after.marker.symbol == "diamond"
    )


def test_groups_stand_in_order_and_those_without_enough_labels_stay_empty(slices):
    figure = monitoring_figures.plot_slices(slices, "Groups", "USD")
    points = figure.data[0]
    assert list(points.y) == ["contract=Two year", "all"]  # from bottom to top
    assert points.x[1] == 220 and np.isnan(points.x[0])
    low, high = bounds(points.x, points.error_x)
    assert (low[1], high[1]) == (200, 250)
    assert np.array(points.customdata).tolist() == [[12, 90], [7000, 7043]]


# --- evidence of drift


def test_shifts_have_what_the_champion_uses_most_on_top(shifts):
    cells = monitoring_figures.plot_shift(shifts, "Shift").data[0]
    assert list(cells.y) == ["contract (7%)", "tenure (40%)", "its own score"]  # from bottom to top
    assert list(cells.x) == ["Mar 2025", "Apr 2025", "May 2025"]
    expected = [[0.02, np.nan, np.nan], [0.001, np.nan, 0.25], [0.0, np.nan, 0.123]]
    assert np.array_equal(np.array(cells.z, dtype=float), expected, equal_nan=True)


def test_shifts_write_numbers_where_there_are_any(shifts):
    cells = monitoring_figures.plot_shift(shifts, "Shift").data[0]
    assert np.array(cells.text).tolist() == [["0.02", "", ""], ["", "", "0.25"], ["", "", "0.12"]]


def test_what_asked_for_a_retraining_is_green_beside_the_line_it_cleared(gains):
    figure = monitoring_figures.plot_gains(gains, 5.0, "Gains")
    points = figure.data[0]
    assert pairs(points) == {APRIL: 1, MAY: 60} and bounds(points.y, points.error_y) == (
        [-4, 45],
        [7, 80],
    )
    assert list(points.marker.color) == [figures_.GREY, figures_.GREEN]
    assert [(shape.y0, shape.y1) for shape in figure.layout.shapes] == [(5, 5)] and texts(
        figure
    ) == ["5 USD"]


# --- recovery


def test_recovery_shows_the_three_values_with_their_intervals(recovery):
    bar = monitoring_figures.plot_recovery(recovery, "Recovery").data[0]
    assert dict(zip(bar.x, bar.y, strict=True)) == {
        "old champion": 385,
        "new champion": 435,
        "best possible": 440,
    }
    assert bounds(bar.y, bar.error_y) == ([375, 425, 431], [397, 447, 452])
    assert list(bar.text) == ["385", "435", "440"]


def test_a_model_has_the_same_colour_in_both_figures(recovery, months):
    bar = monitoring_figures.plot_recovery(recovery, "Recovery").data[0]
    figure = monitoring_figures.plot_value_timeline(months, NOTHING, "Value")
    names = {
        "old champion": "old champion, in the shadow",
        "new champion": "champion in effect",
        "best possible": "best possible",
    }
    for place, colour in zip(bar.x, bar.marker.color, strict=True):
        assert trace(figure, names[place]).line.color == colour
    assert len(set(bar.marker.color)) == 3


def test_no_recovery_yet_is_said(recovery):
    figure = monitoring_figures.plot_recovery(recovery.head(0), "Recovery")
    assert len(figure.data) == 0 and texts(figure) == [
        "no labelled month has been scored by two champions yet"
    ]


# --- all of them


def test_nothing_to_show_can_be_drawn(months, compared, slices, shifts, gains, recovery):
    frames = [
        frame.head(0) for frame in (months, NOTHING, compared, slices, shifts, gains, recovery)
    ]
    figures = list(every_figure(*frames))
    assert [figure.layout.title.text for figure in figures] == ["t"] * 7
    assert all(
        trace.x is None or len(trace.x) == 0 for figure in figures[:4] for trace in figure.data
    )


def test_a_look_back_at_no_decision_can_be_drawn():
    nothing = pd.DataFrame(columns=drift.COLUMNS)
    assert (
        monitoring_figures.plot_shift(recovery_report.table_shifts(nothing), "t").layout.title.text
        == "t"
    )
    assert (
        len(monitoring_figures.plot_gains(recovery_report.table_gains(nothing), 5.0, "t").data[0].x)
        == 0
    )


def test_missing_values_can_be_drawn(months, events, compared, slices, shifts, gains, recovery):
    bare = months.assign(
        **{name: np.nan for name in months if name.startswith("shadow") or name.endswith("er")}
    )
    frames = [
        frame.assign(lower=np.nan, upper=np.nan) for frame in (compared, slices, gains, recovery)
    ]
    figures = list(every_figure(bare, events, *frames[:2], shifts, *frames[2:]))
    assert len(trace(figures[0], "old champion, in the shadow").x) == 0
    assert pairs(trace(figures[0], "champion in effect")) == {MARCH: 225, APRIL: 390, MAY: 435}
    assert all("NaN" not in figure.to_json() for figure in figures)


def test_figures_are_plain_json_without_references_to_the_network(
    months, events, compared, slices, shifts, gains, recovery
):
    for figure in every_figure(months, events, compared, slices, shifts, gains, recovery):
        assert "http" not in figure.to_json()
