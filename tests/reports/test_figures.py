import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from churn_utils.evaluation import metrics
from churn_utils.evaluation.economics import Economics
from churn_utils.features import definitions
from churn_utils.reports.figures import figures

FEBRUARY, APRIL = pd.Timestamp("2025-02-01"), pd.Timestamp("2025-04-01")


@pytest.fixture
def customers():
    return pd.DataFrame(
        {
            "contract": ["One year"] * 10 + ["Two year"] * 40,
            "tenure": list(range(50)),
            "churned": [True] * 5 + [False] * 5 + [True] * 4 + [False] * 36,
        }
    )


@pytest.fixture
def predictions():
    probability = np.array([0.05, 0.2, 0.3, 0.9])
    return pd.DataFrame(
        {
            "churn_probability": probability,
            "threshold": 0.25,
            "decision": ["no_offer", "no_offer", "offer", "offer"],
            "expected_value_usd": Economics().expected_value_usd(probability),
        }
    )


@pytest.fixture
def scored():
    generator = np.random.default_rng(0)
    probability = generator.uniform(size=1000).round(3)
    return pd.Series(generator.uniform(size=1000) < probability), probability


def trace(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def pairs(trace):
    return dict(zip(trace.x, trace.y, strict=True))


def lines_at(figure):
    """Where the vertical lines stand."""
    return [shape.x0 for shape in figure.layout.shapes if shape.x0 == shape.x1]


def texts(figure):
    return [annotation.text for annotation in figure.layout.annotations]


def proportion_interval(successes, rows):
    """Wilson's interval as scipy computes it."""
    return tuple(binomtest(successes, rows).proportion_ci(method="wilson"))


def test_the_loop_fills_the_stages_that_are_done():
    figure = figures.plot_loop(["01", "04a"])
    colours = {
        note.text[3:].split(" ")[0]: note.bgcolor
        for note in figure.layout.annotations
        if note.bgcolor
    }
    assert list(colours) == [number for number, *_ in figures.LOOP]
    assert {number for number, colour in colours.items() if colour == figures.BLUE} == {"01", "04a"}


def test_churn_rate_bars_are_the_rates_of_the_groups_with_wilson_intervals(customers):
    figure = figures.plot_churn_rate(customers, "contract", "Churn by contract")
    bar = figure.data[0]
    assert pairs(bar) == pytest.approx({"One year": 0.5, "Two year": 0.1})
    assert list(bar.customdata) == [10, 40]
    wilson = proportion_interval(5, 10), proportion_interval(4, 40)
    assert (bar.y - bar.error_y.arrayminus).tolist() == pytest.approx(
        [low for low, _ in wilson], abs=1e-3
    )
    assert (bar.y + bar.error_y.array).tolist() == pytest.approx(
        [high for _, high in wilson], abs=1e-3
    )
    assert figure.layout.title.text == "Churn by contract" and "all: 18.0%" in texts(figure)


def test_distribution_shows_the_share_of_each_group(customers):
    figure = figures.plot_distribution(customers, "tenure", "Tenure", "months")
    for name in ("stayed", "churned"):
        assert sum(trace(figure, name).y) == pytest.approx(1)
    churned = trace(figure, "churned")
    assert (np.array(churned.x) * np.array(churned.y)).sum() == pytest.approx(
        customers.query("churned")["tenure"].mean(), abs=1
    )
    assert figure.layout.xaxis.title.text == "tenure (months)"


def test_bars_keep_the_order_from_top_to_bottom():
    bar = figures.plot_bars(pd.Series({"first": 1234.0, "second": 5.0}), "Values", "USD").data[0]
    assert list(bar.y)[::-1] == ["first", "second"] and list(bar.x)[::-1] == [1234, 5]
    assert list(bar.text)[::-1] == ["1,234", "5"]


def test_splits_are_counted_by_outcome():
    labels = pd.DataFrame(
        {
            "split": ["train"] * 3 + ["test"] * 2 + ["validate"] * 2,
            "churned": [True, False, False] + [True, False] * 2,
        }
    )
    figure = figures.plot_splits(labels)
    assert pairs(trace(figure, "stayed")) == {"train": 2, "validate": 1, "test": 1}
    assert pairs(trace(figure, "churned")) == {"train": 1, "validate": 1, "test": 1}
    assert list(trace(figure, "stayed").x) == ["train", "validate", "test"]


def test_trials_show_every_trial_once_and_the_best_so_far():
    trials = pd.DataFrame(
        {
            "trial": [1, 2, 3, 4],
            "family": ["lightgbm", "random_forest", "lightgbm", "lightgbm"],
            "state": ["complete", "complete", "pruned", "complete"],
            "log_loss": [0.45, 0.47, np.nan, 0.44],
            "best_so_far": [0.45, 0.45, 0.45, 0.44],
        }
    )
    figure = figures.plot_trials(trials)
    assert pairs(trace(figure, "lightgbm")) == {1: 0.45, 4: 0.44}
    assert pairs(trace(figure, "random_forest")) == {2: 0.47}
    assert list(trace(figure, "pruned").x) == [3] and trace(figure, "pruned").y[0] > 0.47
    assert list(trace(figure, "best so far").y) == [0.45, 0.45, 0.45, 0.44]


def test_importance_has_the_most_important_on_top():
    table = pd.DataFrame(
        {"feature": ["tenure", "gender"], "importance": [0.1, 0.0], "spread": [0.01, 0.002]}
    )
    bar = figures.plot_importance(table).data[0]
    assert (list(bar.y), list(bar.x), list(bar.error_x.array)) == (
        ["gender", "tenure"],
        [0.0, 0.1],
        [0.002, 0.01],
    )


def test_roc_curve_runs_from_corner_to_corner_over_the_area_it_names(scored):
    curve = figures.plot_roc(*scored, "ROC").data[0]
    area = roc_auc_score(*scored)
    assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)
    assert len(curve.x) <= 300
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(area, abs=0.005)
    assert curve.name == f"model, area {area:.3f}"


def test_precision_recall_curve_keeps_its_ends_and_the_base_rate(scored):
    figure = figures.plot_precision_recall(*scored, "PR")
    curve, coin = figure.data
    assert (curve.x[0], curve.x[-1], curve.y[-1]) == (1, 0, 1)
    assert list(coin.y) == [scored[0].mean()] * 2


def test_reliability_shows_the_bins_it_is_given(scored):
    bins = metrics.reliability(*scored)
    model = trace(figures.plot_reliability(bins, "Reliability"), "model")
    assert (
        list(model.x) == bins["predicted"].tolist() and list(model.y) == bins["observed"].tolist()
    )
    assert model.error_y.array[4] == pytest.approx(
        1.96 * np.sqrt(bins["observed"][4] * (1 - bins["observed"][4]) / 100)
    )


@pytest.mark.parametrize(
    "churned, treated, expected",
    [
        ([1, 1, 1, 0, 0, 0, 0], [1, 1, 0, 1, 0, 0, 0], [[3, 1], [1, 2]]),
        ([0, 0, 1], [0, 0, 0], [[2, 0], [1, 0]]),
    ],
)
def test_confusion_matrix_counts_customers_even_where_there_are_none(churned, treated, expected):
    heatmap = figures.plot_confusion(
        pd.Series(churned, dtype=bool), np.array(treated, dtype=bool), "Confusion"
    ).data[0]
    assert (list(heatmap.y), list(heatmap.x)) == (["stayed", "churned"], ["no offer", "offer"])
    assert np.array(heatmap.z).tolist() == np.array(heatmap.text).tolist() == expected


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


def test_verdicts_are_coloured_and_listed_from_top_to_bottom():
    figure = figures.plot_verdicts(findings(3), "Gate")
    bar = figure.data[0]
    assert dict(zip(bar.y, bar.marker.color, strict=True)) == {
        "check 0": figures.GREEN,
        "check 1": figures.RED,
        "check 2": figures.ORANGE,
    }
    assert list(bar.y)[-1] == "check 0"
    assert "<b>fail</b>  above 0<br>measured" in texts(figure)


def test_intervals_stand_beside_the_bound_of_their_own_check():
    figure = figures.plot_intervals(findings(3), {"check 0": -0.01, "check 2": -15.0}, "Intervals")
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
    assert len(figures.plot_intervals(findings(count), bounds, "Intervals").data) == count


def test_lineage_links_what_came_from_what():
    links = pd.DataFrame(
        {"source": ["labels", "features", "run"], "target": ["run", "run", "version 1"]}
    )
    sankey = figures.plot_lineage(links, "Lineage").data[0]
    names = [name.replace("<br>", " ") for name in sankey.node.label]
    drawn = [
        (names[s], names[t]) for s, t in zip(sankey.link.source, sankey.link.target, strict=True)
    ]
    assert drawn == list(zip(links["source"], links["target"], strict=True))
    assert sorted(names) == ["features", "labels", "run", "version 1"]


def test_scores_hold_every_customer_once_under_its_decision(predictions):
    figure = figures.plot_scores(predictions, "Scores")
    assert list(trace(figure, "no offer").x) == [0.05, 0.2] and list(trace(figure, "offer").x) == [
        0.3,
        0.9,
    ]
    assert lines_at(figure) == [0.25]


def test_expected_value_adds_up_best_customers_first(predictions):
    figure = figures.plot_expected_value(predictions.sample(frac=1, random_state=0), "Value")
    assert list(figure.data[0].x) == [1, 2, 3, 4]
    assert list(figure.data[0].y) == pytest.approx([1300, 1400, 1300, 900])
    assert lines_at(figure) == [2] and "offers pay up to customer 2" in texts(figure)


def test_expected_value_of_many_customers_keeps_the_last_one():
    values = pd.DataFrame({"expected_value_usd": np.ones(5000)})
    curve = figures.plot_expected_value(values, "Value").data[0]
    assert len(curve.x) == 300 and (curve.x[-1], curve.y[-1]) == (5000, 5000)


def deployments():
    return pd.DataFrame(
        {
            "effective_from": [FEBRUARY, APRIL],
            "effective_to": [APRIL, pd.NaT],
            "version": [1, 2],
            "approved_by": ["Ada Lovelace", "policy"],
        }
    )


def test_deployments_are_bars_from_first_to_last_day_and_the_last_is_open():
    figure = figures.plot_deployments(deployments(), APRIL, "Deployments")
    assert [tuple(bar.x) for bar in figure.data] == [
        (FEBRUARY, APRIL),
        (APRIL, pd.Timestamp("2025-05-01")),
    ]
    assert [bar.y[0] for bar in figure.data] == ["version 1", "version 2"]
    assert "Ada Lovelace" in figure.data[0].hovertemplate


def test_no_deployment_is_said_to_be_none():
    figure = figures.plot_deployments(deployments().head(0), APRIL, "Deployments")
    assert len(figure.data) == 0 and texts(figure) == ["no version has been promoted"]


@pytest.mark.parametrize(
    "plot",
    [figures.plot_scores, figures.plot_expected_value],
)
def test_no_predictions_can_be_drawn(plot, predictions):
    assert plot(predictions.head(0), "Nobody").layout.title.text == "Nobody"


@pytest.mark.parametrize("churned, in_test", [([False, False], 0), ([False, True], 1)])
def test_splits_where_nobody_churned_are_drawn_as_zero(churned, in_test):
    figure = figures.plot_splits(pd.DataFrame({"split": ["train", "test"], "churned": churned}))
    assert pairs(trace(figure, "stayed")) == {"train": 1, "validate": 0, "test": 1 - in_test}
    assert pairs(trace(figure, "churned")) == {"train": 0, "validate": 0, "test": in_test}


def test_figures_are_plain_json_without_references_to_the_network(customers, predictions):
    importance = pd.DataFrame(
        {"feature": list(definitions.MODEL_INPUTS), "importance": 0.1, "spread": 0.0}
    )
    for figure in (
        figures.plot_churn_rate(customers, "contract", "t"),
        figures.plot_scores(predictions, "t"),
        figures.plot_importance(importance),
        figures.plot_deployments(deployments(), APRIL, "t"),
    ):
        assert "http" not in figure.to_json()
