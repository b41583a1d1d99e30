"""What holds for figures of every subject: empty frames, missing values, no network, one style."""

import numpy as np
import pandas as pd
from figure_parts import dated_pairs, trace

from churn_utils.features import definitions
from churn_utils.reports.figures import (
    customers as customer_figures,
)
from churn_utils.reports.figures import decisions, drift, gate, model_quality, monitoring

MARCH, APRIL, MAY = (pd.Timestamp(f"2025-0{month}-01") for month in (3, 4, 5))
NOTHING = pd.DataFrame(columns=["date", "event", "what"])


def draw_every_month_figure(months, events, compared, slices, shifts, gains, recovery):
    yield monitoring.plot_value_timeline(months, events, "t")
    yield monitoring.plot_lost_value(months, "t")
    yield monitoring.plot_estimates(compared, "t", "USD")
    yield monitoring.plot_slices(slices, "t", "USD")
    yield drift.plot_shifts(shifts, "t")
    yield drift.plot_refit_gains(gains, 5.0, "t")
    yield drift.plot_recovery(recovery, "t")


def test_empty_frames_can_be_drawn(months, compared, slices, shifts, gains, recovery):
    frames = [
        frame.head(0) for frame in (months, NOTHING, compared, slices, shifts, gains, recovery)
    ]
    figures = list(draw_every_month_figure(*frames))
    assert [figure.layout.title.text for figure in figures] == ["t"] * 7
    assert all(
        trace.x is None or len(trace.x) == 0 for figure in figures[:4] for trace in figure.data
    )


def test_missing_values_can_be_drawn(months, events, compared, slices, shifts, gains, recovery):
    bare = months.assign(
        **{name: np.nan for name in months if name.startswith("shadow") or name.endswith("er")}
    )
    frames = [
        frame.assign(lower=np.nan, upper=np.nan) for frame in (compared, slices, gains, recovery)
    ]
    figures = list(draw_every_month_figure(bare, events, *frames[:2], shifts, *frames[2:]))
    assert len(trace(figures[0], "old champion, in the shadow").x) == 0
    assert dated_pairs(trace(figures[0], "champion in effect")) == {
        MARCH: 225,
        APRIL: 390,
        MAY: 435,
    }
    assert all("NaN" not in figure.to_json() for figure in figures)


def test_model_has_one_colour_in_all_figures(recovery, months):
    bar = drift.plot_recovery(recovery, "Recovery").data[0]
    figure = monitoring.plot_value_timeline(months, NOTHING, "Value")
    names = {
        "old champion": "old champion, in the shadow",
        "new champion": "champion in effect",
        "best possible": "best possible",
    }
    for place, colour in zip(bar.x, bar.marker.color, strict=True):
        assert trace(figure, names[place]).line.color == colour
    assert len(set(bar.marker.color)) == 3


def test_figures_of_months_name_no_address(
    months, events, compared, slices, shifts, gains, recovery
):
    frames = (months, events, compared, slices, shifts, gains, recovery)
    for figure in draw_every_month_figure(*frames):
        assert "http" not in figure.to_json()


def test_figures_of_customers_name_no_address(customers, predictions):
    importance = pd.DataFrame(
        {"feature": list(definitions.MODEL_INPUTS), "importance": 0.1, "spread": 0.0}
    )
    deployments = pd.DataFrame(
        {
            "effective_from": [MARCH],
            "effective_to": [pd.NaT],
            "version": [1],
            "approved_by": ["Ada Lovelace"],
        }
    )
    for figure in (
        customer_figures.plot_churn_rate(customers, "contract", "t"),
        decisions.plot_scores(predictions, "t"),
        model_quality.plot_importance(importance),
        gate.plot_deployments(deployments, APRIL, "t"),
    ):
        assert "http" not in figure.to_json()
