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


# --- origin and deployments


FEBRUARY, APRIL = pd.Timestamp("2025-02-01"), pd.Timestamp("2025-04-01")


def deployments():
    return pd.DataFrame(
        {
            "effective_from": [FEBRUARY, APRIL],
            "effective_to": [APRIL, pd.NaT],
            "version": [1, 2],
            "approved_by": ["Ada Lovelace", "policy"],
        }
    )


def test_lineage_links_what_came_from_what():
    links = pd.DataFrame(
        {"source": ["labels", "features", "run"], "target": ["run", "run", "version 1"]}
    )
    sankey = gate.plot_lineage(links, "Lineage").data[0]
    names = [name.replace("<br>", " ") for name in sankey.node.label]
    drawn = [
        (names[s], names[t]) for s, t in zip(sankey.link.source, sankey.link.target, strict=True)
    ]
    assert drawn == list(zip(links["source"], links["target"], strict=True))
    assert sorted(names) == ["features", "labels", "run", "version 1"]


def test_deployments_last_from_first_to_last_day():
    figure = gate.plot_deployments(deployments(), APRIL, "Deployments")
    assert [tuple(bar.x) for bar in figure.data] == [
        (FEBRUARY, APRIL),
        (APRIL, pd.Timestamp("2025-05-01")),
    ]
    assert [bar.y[0] for bar in figure.data] == ["version 1", "version 2"]
    assert "Ada Lovelace" in figure.data[0].hovertemplate


def test_no_deployment_is_said():
    figure = gate.plot_deployments(deployments().head(0), APRIL, "Deployments")
    assert len(figure.data) == 0 and texts(figure) == ["no version has been promoted"]
