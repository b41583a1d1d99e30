import pandas as pd
from figure_parts import texts

from churn_utils.reports.figures import lineage

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
    sankey = lineage.plot_lineage(links, "Lineage").data[0]
    names = [name.replace("<br>", " ") for name in sankey.node.label]
    drawn = [
        (names[s], names[t]) for s, t in zip(sankey.link.source, sankey.link.target, strict=True)
    ]
    assert drawn == list(zip(links["source"], links["target"], strict=True))
    assert sorted(names) == ["features", "labels", "run", "version 1"]


def test_deployments_last_from_first_to_last_day():
    figure = lineage.plot_deployments(deployments(), APRIL, "Deployments")
    assert [tuple(bar.x) for bar in figure.data] == [
        (FEBRUARY, APRIL),
        (APRIL, pd.Timestamp("2025-05-01")),
    ]
    assert [bar.y[0] for bar in figure.data] == ["version 1", "version 2"]
    assert "Ada Lovelace" in figure.data[0].hovertemplate


def test_no_deployment_is_said():
    figure = lineage.plot_deployments(deployments().head(0), APRIL, "Deployments")
    assert len(figure.data) == 0 and texts(figure) == ["no version has been promoted"]
