import pandas as pd
import pytest
from figure_parts import lines_at, texts

from churn_utils.reports.figures import gate, style


def findings(count):
    return pd.DataFrame(
        {
            "check": [f"check {i}" for i in range(count)],
            "verdict": (["pass", "fail", "not_evaluated"] * count)[:count],
            "requirement": "above 0",
            "detail": "measured",
            "value": 1.0,
            "lower": 0.5,
            "upper": 3.0,
        }
    )


def test_verdicts_are_coloured_and_keep_their_order():
    figure = gate.plot_verdicts(findings(3), "Gate")
    bar = figure.data[0]
    assert dict(zip(bar.y, bar.marker.color, strict=True)) == {
        "check 0": style.GREEN,
        "check 1": style.RED,
        "check 2": style.ORANGE,
    }
    assert list(bar.y)[-1] == "check 0"
    assert "<b>fail</b>  above 0<br>measured" in texts(figure)


def test_intervals_stand_beside_their_own_bound():
    figure = gate.plot_intervals(findings(3), {"check 0": -0.01, "check 2": -15.0}, "Intervals")
    assert len(figure.data) == 2 and texts(figure) == ["check 0", "check 2"]
    assert lines_at(figure) == [-0.01, -15.0]
    assert [shape.xref for shape in figure.layout.shapes] == [point.xaxis for point in figure.data]
    for point in figure.data:
        assert (point.x[0], point.error_x.array[0], point.error_x.arrayminus[0]) == (1.0, 2.0, 0.5)


@pytest.mark.parametrize(
    "count",
    [0, 1, 5, 6],
)
def test_any_number_of_intervals_can_be_drawn(count):
    bounds = {f"check {i}": 0.0 for i in range(count)}
    assert len(gate.plot_intervals(findings(count), bounds, "Intervals").data) == count
